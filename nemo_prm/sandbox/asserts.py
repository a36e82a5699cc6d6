# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Test code that only asserts what calls return, read as calls and expected values.

Most tests of HumanEval and MBPP are lines of the form `assert candidate(<literals>) == <literal>`. They need no second
box: the calls go to the candidate like those of a call test, and the comparison is made here, by Python's own `==` on
plain data. Anything else is left to the box.
"""

from __future__ import annotations

import ast
import functools
from typing import Any, NamedTuple

from nemo_prm.sandbox import plain


class Assertion(NamedTuple):
    """`candidate(*args, **kwargs) == expected`; `arguments` is (args, kwargs) as plain data."""

    arguments: str
    expected: Any


@functools.lru_cache(maxsize=4096)
def read(code: str, entry_point: str) -> tuple[Assertion, ...] | None:
    """Return the assertions in order, or None when the code says anything else.

    Args:
        code: defines `check(candidate)`, or asserts by itself under the entry point's name, as MBPP does.
        entry_point: of the problem.
    """
    try:
        return tuple(_assertions(ast.parse(code), entry_point))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _assertions(module: ast.Module, entry_point: str) -> list[Assertion]:
    """Raises ValueError when there is more to the code."""
    checks = [node for node in module.body if not _is_inert(node)]
    if checks and all(isinstance(node, ast.Assert) for node in checks):
        return [_assertion(node, entry_point) for node in checks]
    if len(checks) != 1 or not isinstance(checks[0], ast.FunctionDef) or checks[0].name != "check":
        raise ValueError("not one function check")
    arguments = checks[0].args
    names = [argument.arg for argument in arguments.args]
    if len(names) != 1 or arguments.defaults or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        raise ValueError("not one parameter")
    if checks[0].decorator_list:
        raise ValueError("decorated")
    found = [_assertion(node, names[0]) for node in checks[0].body if not _is_inert(node)]
    if not found:
        raise ValueError("no assertion")
    return found


def _is_inert(node: ast.stmt) -> bool:
    """Docstrings, constants, `pass`, `assert True`, and METADATA = {...}."""
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and bool(node.test.value)
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id == "METADATA" for target in node.targets)
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _assertion(node: ast.stmt, name: str) -> Assertion:
    if not isinstance(node, ast.Assert) or not isinstance(node.msg, (ast.Constant, type(None))):
        raise ValueError("not an assertion")
    test = node.test
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        raise ValueError("not an equation")
    call, expected = test.left, test.comparators[0]
    if not isinstance(call, ast.Call):
        call, expected = expected, call
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != name:
        raise ValueError("not a call of the candidate")
    args = tuple(ast.literal_eval(arg) for arg in call.args)
    kwargs = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}
    if "" in kwargs:
        raise ValueError("unpacked arguments")
    value = ast.literal_eval(expected)
    plain.dumps(value)  # NotPlainError, a ValueError, for what no candidate can return
    return Assertion(plain.dumps((args, kwargs)), value)
