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
"""Whether an answer is a right one; runs on the trusted side, on plain data and text alone.

What a candidate answers may be hostile: nothing here raises for it, and time grows as its size does, or as sorting it.
"""

from __future__ import annotations

import itertools
import math
import re
from decimal import Decimal
from functools import partial
from typing import Any, Callable, Iterator

from nemo_prm.types import Checker, TestCase

_EXACT = Checker("exact")
_NUMBERS = (int, float)
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_FILLED = re.compile(r"\S")
_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)  # what printf writes


def matches(test: TestCase, actual: Any) -> bool:
    """Whether `actual` is a right answer: `expected` (or `stdout`) or one of `alternatives`, by the test's checker.

    Args:
        test: of kind call or stdio.
        actual: the plain value that the call returned, or the text that the program printed.

    Raises:
        ValueError: the test is of kind code or has a checker with code of its own, which must not run here.
    """
    if test.kind == "code":
        raise ValueError("A test of kind code has no answer to compare: run it in a box.")
    if test.kind == "stdio":
        return any(stdout_equal(right, actual, test.checker) for right in (test.stdout, *test.alternatives))
    return any(values_equal(right, actual, test.checker) for right in (test.expected, *test.alternatives))


def values_equal(expected: Any, actual: Any, checker: Checker | None = None) -> bool:
    """Compare the return value of a call.

    exact (and None): types must agree, so True is not 1; NaN equals NaN. Two exceptions: 1 equals 1.0, as in an
    assertion, and since JSON has no tuples an expected list accepts a tuple of the same elements. Dicts and sets
    compare without order; keys of a problem file are strings, so {1: 2} is not {"1": 2}.
    tokens: exact, but strings compare by their tokens, at any depth.
    float: exact, but numbers, at any depth of lists, tuples and the values of dicts, may differ by the tolerance,
    absolute or relative to the larger one; integers too. Beyond the range of float they must be equal.
    decimal: exact, but True is 1 and False is 0, as in an assertion.
    unordered: the elements of a list or tuple in any order, each as often as expected, in a list, tuple, set or
    frozenset. Each element compares exactly, save that lists and tuples are alike.

    Args:
        expected: from the problem.
        actual: plain data that came out of the candidate's process.
        checker: any but `code`.

    Raises:
        ValueError: the checker is `code`.
    """
    checker = _known(checker or _EXACT)
    if checker.name == "unordered" and isinstance(expected, (list, tuple)):
        return type(actual) in (list, tuple, set, frozenset) and _same_elements(expected, actual)
    return _equal(expected, actual, checker)


def stdout_equal(expected: str, actual: str, checker: Checker | None = None) -> bool:
    """Compare what a program printed.

    None: line by line; white space at line ends and empty lines at the end do not count.
    exact: every character counts, but for one newline at the end.
    tokens: what white space separates, whatever the white space is.
    float: tokens; where both are decimal numbers they may differ by the tolerance, absolute or relative to the larger
    one. Everything else compares as text: nan, inf, 0x10, 1_000, and numbers beyond the range of float.
    decimal: line by line; white space around lines, and around all of it, does not count; a line may also hold the
    same decimal numbers, written otherwise (3 and 3.0). What LiveCodeBench's harness does.
    unordered: lines in any order, each as often as expected; white space at line ends and empty lines do not count.

    Args:
        expected: from the problem.
        actual: the candidate's standard output.
        checker: any but `code`.

    Raises:
        ValueError: the checker is `code`.
    """
    if checker is None:
        return _same_lines(expected.rstrip(), actual.rstrip())
    checker = _known(checker)
    if checker.name == "exact":
        return expected.removesuffix("\n") == actual.removesuffix("\n")
    if checker.name == "unordered":
        right = sorted(_filled_lines(expected))
        return right == sorted(itertools.islice(_filled_lines(actual), len(right) + 1))
    if checker.name == "decimal":
        return _same_lines(expected.strip(), actual.strip(), _same_decimals)
    return _same_tokens(expected, actual, partial(_same_token, checker=checker))


def valid_text(text: str) -> str:
    """Escape the lone surrogates that a program may write, and that no log and no JSON reader takes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def show(value: Any, limit: int = 300) -> str:
    """Return the repr of a value for a verdict, cut to `limit` characters; looks at no more of it than is shown."""
    text = repr(
        _shortened(value, limit, [limit // 2 + 1])
    )  # a node takes two characters or more: [], or 1 and a comma
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _known(checker: Checker) -> Checker:
    if checker.name == "code":
        raise ValueError("The checker `code` runs in a box, not here.")
    return checker


def _equal(expected: Any, actual: Any, checker: Checker) -> bool:
    kind = type(actual)
    if isinstance(expected, (list, tuple)):
        if kind is not tuple and (kind is not list or isinstance(expected, tuple)):
            return False
        return len(expected) == len(actual) and all(map(_equal, expected, actual, itertools.repeat(checker)))
    if isinstance(expected, dict):
        if kind is not dict or len(expected) != len(actual):
            return False
        keys, values = list(expected), actual
        if set(map(type, keys)) != {str}:  # equal keys may differ in type, as True and 1 do
            keys, values = list(map(_canonical, keys)), {_canonical(key): value for key, value in actual.items()}
        return all(key in values for key in keys) and all(
            map(_equal, expected.values(), map(values.__getitem__, keys), itertools.repeat(checker))
        )
    if isinstance(expected, (set, frozenset)):
        return kind is type(expected) and _same_elements(expected, actual)
    if type(expected) in _NUMBERS and kind in _NUMBERS:
        return _same_number(expected, actual, checker)
    if type(expected) is complex and kind is complex:
        return all(_same_number(x, y, checker) for x, y in zip(_parts(expected), _parts(actual)))
    if checker.name == "tokens" and isinstance(expected, str) and kind is str:
        return _same_tokens(expected, actual, partial(_same_token, checker=checker))
    if checker.name == "decimal" and {type(expected), kind} <= {bool, *_NUMBERS}:
        return bool(expected == actual)
    return type(expected) is kind and bool(expected == actual)


def _same_number(expected: float, actual: float, checker: Checker) -> bool:
    if expected == actual or (_is_nan(expected) and _is_nan(actual)):
        return True
    try:
        tolerance = checker.tolerance
        return checker.name == "float" and math.isclose(expected, actual, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # an integer beyond the range of float
        return False


def _is_nan(value: float) -> bool:
    return value != value


def _parts(value: complex) -> tuple[float, float]:
    return value.real, value.imag


def _same_elements(expected: Any, actual: Any) -> bool:
    """Compare without order; texts are sorted, as hashing what a candidate chose may take quadratic time."""
    return len(expected) == len(actual) and sorted(map(_canonical, expected)) == sorted(map(_canonical, actual))


def _canonical(value: Any) -> str:
    """Write a value so that equal ones, and no others, have the same text; lists and tuples are alike."""
    kind = type(value)
    if kind is float and value.is_integer() and abs(value) < 2.0**63:  # beyond that its digits would be many
        value, kind = int(value), int
    if kind is int and 2**63 <= abs(value) <= 2**1023 and int(float(value)) == value:
        value, kind = float(value), float
    if kind is int:
        return hex(value)  # decimal digits take quadratic time, or raise
    if kind is float:
        return repr(value)
    if kind is complex:
        return f"complex{_canonical(_parts(value))}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_canonical, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(sorted(f'{_canonical(k)}:{_canonical(v)}' for k, v in value.items()))}}}"
    if isinstance(value, (set, frozenset)):
        return f"{kind.__name__}({','.join(sorted(map(_canonical, value)))})"
    return repr(value)


def _same_line(expected: str, actual: str) -> bool:
    return expected.rstrip() == actual.rstrip()


def _same_decimals(expected: str, actual: str) -> bool:
    if expected.strip() == actual.strip():
        return True
    return _same_tokens(expected, actual, _same_decimal)


def _same_decimal(expected: str, actual: str) -> bool:
    if not (_DECIMAL.fullmatch(expected) and _DECIMAL.fullmatch(actual)):
        return False
    try:
        return Decimal(expected) == Decimal(actual)
    except ArithmeticError:  # an exponent that no decimal has
        return False


def _same_lines(expected: str, actual: str, same: Callable[[str, str], bool] = _same_line) -> bool:
    if expected == actual:
        return True
    if expected.count("\n") != actual.count("\n"):  # or splitting may take 50 times the memory
        return False
    return all(map(same, expected.split("\n"), actual.split("\n")))


def _filled_lines(text: str) -> Iterator[str]:
    """Yield the lines that are not empty, one at a time, for there may be very many; empty ones take no time."""
    filled = _FILLED.search(text)
    while filled:
        start, end = text.rfind("\n", 0, filled.start()) + 1, text.find("\n", filled.start())
        end = len(text) if end < 0 else end
        yield text[start:end].rstrip()
        filled = _FILLED.search(text, end)


def _same_tokens(expected: str, actual: str, same: Callable[[str, str], bool]) -> bool:
    right = expected.split()
    given = actual.split(maxsplit=len(right))  # one token more is enough to see that it is wrong
    return len(right) == len(given) and all(map(same, right, given))


def _same_token(expected: str, actual: str, checker: Checker) -> bool:
    if expected == actual or checker.name != "float":
        return expected == actual
    if not (_DECIMAL.fullmatch(expected) and _DECIMAL.fullmatch(actual)):
        return False
    numbers = float(expected), float(actual)
    return all(map(math.isfinite, numbers)) and _same_number(*numbers, checker)


def _shortened(value: Any, limit: int, left: list[int]) -> Any:
    """Copy no more of a value than its first characters need; `left` is how many nodes that may be."""
    kind = type(value)
    left[0] -= 1
    if kind is int and value.bit_length() > 10_000:
        try:
            repr(value)
        except ValueError:
            return _Words("an integer of over 4300 digits")
    if kind in (str, bytes):
        return value[:limit]
    if kind in _CONTAINERS:
        first = itertools.islice(value, max(left[0], 0))
        if kind is dict:
            return {_shortened(key, limit, left): _shortened(value[key], limit, left) for key in first}
        return kind([_shortened(item, limit, left) for item in first])
    return value


class _Words(str):
    """Text that shows without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
