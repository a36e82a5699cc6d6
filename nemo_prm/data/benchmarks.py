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
"""Published benchmarks, from files in the format in which they are published, as problems of ours.

humaneval      HumanEval.jsonl.gz of github.com/openai/human-eval
mbpp           mbpp.jsonl or sanitized-mbpp.json of github.com/google-research/google-research/tree/master/mbpp
apps           train.jsonl or test.jsonl of huggingface.co/datasets/codeparrot/apps, or the folder train or test of
               github.com/hendrycks/apps
livecodebench  test.jsonl, test2.jsonl, ... of huggingface.co/datasets/livecodebench/code_generation_lite

The files are data: nothing in them is run here, and what LiveCodeBench has pickled is read as text or not at all.
"""

from __future__ import annotations

import ast
import base64
import builtins
import datetime
import json
import pickletools
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

from nemo_prm.data.fields import Fields
from nemo_prm.data.jsonl import PathLike, json_type, read_bytes, read_json, read_jsonl
from nemo_prm.data.problems import check_limit, problem_from_json, problem_to_json
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.types import Checker, Problem, TestCase

APPS_TIME_LIMIT_S = 4.0  # of the benchmarks' own harnesses
LIVECODEBENCH_TIME_LIMIT_S = 6.0
HUMANEVAL_TIME_LIMIT_S = 3.0
MAX_PICKLED_BYTES = 1 << 30
DECIMAL = Checker("decimal")  # 3.0 is 3, True is 1: the harnesses of APPS and LiveCodeBench compare so
# What the harnesses import before a program, in their order: pow is the builtin one, bisect and random are modules.
# LiveCodeBench: lcb_runner/evaluation/testing_util.py; APPS: eval/testing_util.py, which has numpy, too.
_MODULES = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
LIVECODEBENCH_PREFIX = (
    "".join(f"from {module} import *\n" for module in [*_MODULES.split(), "builtins", "typing"])
    + f"import {', '.join(_MODULES.split())}\n"
    + "sys.setrecursionlimit(50000)\n"
)
APPS_PREFIX = """\
import collections, fractions, heapq, itertools, math, random, sys, time
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from functools import lru_cache
from heapq import *
from itertools import accumulate, combinations, permutations, product
from math import ceil, cos, exp, fabs, floor, gcd, log, log2, sin, sqrt, tan
from typing import List, Tuple
"""


@dataclass
class Found:
    """Problems of a benchmark, and how many were left out, by reason."""

    problems: list[Problem] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def load_benchmark(
    name: str,
    sources: Sequence[PathLike],
    released_from: str | None = None,
    released_until: str | None = None,
    limit: int | None = None,
) -> Found:
    """Read a benchmark's files.

    Args:
        name: humaneval, mbpp, apps or livecodebench.
        sources: files, or a folder of APPS.
        released_from: first day, such as 2024-08-01, of the contests of LiveCodeBench.
        released_until: last day of them.
        limit: only the first so many problems.

    Raises:
        ConfigError: no such benchmark, or days for one that has none, or that are none.
        DataError: a file is missing or of another format; names file and line.
    """
    if name not in READERS:
        raise ConfigError(f"format must be one of {', '.join(READERS)}, found {name!r}")
    days = [_day(day, key) for day, key in ((released_from, "released_from"), (released_until, "released_until"))]
    if any(days) and name != "livecodebench":
        raise ConfigError("released_from and released_until are for livecodebench: the other formats have no dates")
    check_limit(limit)
    found, prompts, ids = Found(), set[str](), set[str]()
    for source in sources:
        for where, value in READERS[name].rows(Path(source)):
            row = Fields(where, value)
            if days != [None, None]:
                day = _contest_day(row)
                if (days[0] and day < days[0]) or (days[1] and day > days[1]):
                    found.leave_out("outside of the days")
                    continue
            problem = READERS[name].problem(row)
            if isinstance(problem, str):
                found.leave_out(problem)
                continue
            problem_from_json(problem_to_json(problem), where)  # a bad one is found now, and not when a job reads it
            if problem.prompt in prompts:
                found.leave_out("repeated")
            elif problem.problem_id in ids:
                found.leave_out("another has its id")
            else:
                prompts.add(problem.prompt)
                ids.add(problem.problem_id)
                found.problems.append(problem)
            if limit is not None and len(found.problems) >= limit:
                return found
    return found


def _day(text: str | None, key: str) -> datetime.date | None:
    try:
        return None if text is None else datetime.date.fromisoformat(str(text))
    except ValueError:
        raise ConfigError(f"{key} must be a day such as 2024-08-01, found {text!r}") from None


def _contest_day(row: Fields) -> datetime.date:
    text = row.filled("contest_date")
    try:
        return datetime.date.fromisoformat(text[:10])
    except ValueError:
        raise row.error("contest_date", f"is no date: {text!r}") from None


def humaneval_problem(row: Fields) -> Problem:
    """The prompt is the start of the program, so it is also the `program_prefix`, and a response continues it."""
    prompt = row.filled("prompt")
    return Problem(
        problem_id=row.filled("task_id"),
        prompt=prompt,
        tests=(TestCase(kind="code", code=row.filled("test")),),
        entry_point=row.filled("entry_point"),
        time_limit_s=HUMANEVAL_TIME_LIMIT_S,
        program_prefix=prompt,
        extra=row.unknown(),
    )


def mbpp_problem(row: Fields) -> Problem | str:
    """All assertions are shown, as in the paper's prompt (arXiv 2108.07732, Figure 1), and all decide the verdict."""
    text = row.filled("prompt" if "prompt" in row.value else "text")
    code, tests = row.filled("code"), [str(test) for test in row.items("test_list")]
    hidden = tests + [str(test) for test in row.items("challenge_test_list", [])]
    imports = [str(line) for line in row.items("test_imports", [])]
    setup = "\n".join([*imports, row.text("test_setup_code", "")]).strip()
    entry_point = _called_function(code, tests)
    if not tests or entry_point is None:
        return "no function is tested"
    try:
        borrowed = _imports_of(code, _unbound("\n".join([setup, *hidden])) - {entry_point})
    except SyntaxError:
        return "tests that are no Python"
    if borrowed is None:
        return "tests that use more of the reference solution than its function"
    if any(_is_passed_a_type(test, entry_point) for test in hidden):
        return "tests that pass a type to the function"
    setup = "\n".join([*borrowed, setup]).strip()
    listing = "\n".join(tests)
    return Problem(
        problem_id=f"mbpp/{row.integer('task_id')}",
        prompt=f"You are an expert Python programmer, and here is your task: {text} "
        f"Your code should pass these tests:\n\n{listing}\n",
        tests=(TestCase(kind="code", code="\n".join([setup, *hidden])),),
        public_tests=(TestCase(kind="code", code="\n".join([setup, *tests])),),
        entry_point=entry_point,
        time_limit_s=HUMANEVAL_TIME_LIMIT_S,
    )


def _called_function(code: str, tests: Sequence[str]) -> str | None:
    """The function of the reference that the assertions call."""
    try:
        defined = {node.name for node in ast.parse(code).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        nodes = [node for test in tests for node in ast.walk(ast.parse(test.strip()))]
    except SyntaxError:
        return None
    names = [node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return next((name for name in names if name in defined), None)


def _unbound(code: str) -> set[str]:
    """Names that code reads, and nothing in it or in Python binds."""
    bound = set(dir(builtins))
    read: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)):
            bound.add(node.name or "")
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= _imported(node)
    return read - bound


def _imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    return {alias.asname or alias.name.split(".")[0] for alias in node.names}


def _imports_of(reference: str, names: set[str]) -> list[str] | None:
    """Import statements of the reference that bind these names; None where one is bound otherwise."""
    imports = [node for node in ast.parse(reference).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    found = [ast.unparse(node) for node in imports if _imported(node) & names]
    return found if names <= set().union(*map(_imported, imports)) else None


def _is_passed_a_type(test: str, function: str) -> bool:
    """Whether a test passes what is not plain data, such as `int`."""
    calls = [node for node in ast.walk(ast.parse(test.strip())) if isinstance(node, ast.Call)]
    arguments = [each for call in calls if getattr(call.func, "id", None) == function for each in call.args]
    return any(isinstance(each, ast.Name) and isinstance(getattr(builtins, each.id, 0), type) for each in arguments)


def apps_problem(row: Fields) -> Problem | str:
    """Programs that read stdin, or a function of the starter code (`fn_name`)."""
    try:
        cases = json.loads(row.text("input_output", "") or "{}")
        json.dumps(cases, ensure_ascii=False).encode()  # no lone surrogates
        inputs, outputs, entry_point = cases.get("inputs", []), cases.get("outputs", []), cases.get("fn_name")
        counts = len(inputs), len(outputs)
    except (ValueError, RecursionError, AttributeError, TypeError):  # numbers of thousands of digits are in there
        return "tests that cannot be read"
    if not inputs or counts[0] != counts[1]:
        return "no tests"
    if entry_point and any(map(_has_integer_keys, (inputs, outputs))):
        return "dictionaries with integers for keys"
    if entry_point:
        tests = [_apps_call(args, output) for args, output in zip(inputs, outputs)]
    else:
        tests = [_stdio(_joined(given), _joined(printed)) for given, printed in zip(inputs, outputs)]
    starter = row.optional_text("starter_code") or ""
    how = "Use Call-Based format" if entry_point else "Use Standard Input format"
    identity = row.get("problem_id") if "problem_id" in row.value else row.get("id")
    split = _SPLIT.search(str(row.get("source", "")))  # train and test number their problems alike
    return Problem(
        problem_id=f"apps/{split.group() + '/' if split else ''}{identity}",
        prompt=f"QUESTION:\n{row.filled('question')}\n{starter}\n{how}\n\nANSWER:\n",  # arXiv 2105.09938, appendix
        tests=tuple(tests),
        entry_point=entry_point or None,
        difficulty=row.optional_text("difficulty"),
        time_limit_s=APPS_TIME_LIMIT_S,
        program_prefix=APPS_PREFIX,
    )


_SPLIT = re.compile(r"(?<![a-z])(train|test)(?![a-z])")


def _has_integer_keys(value: Any) -> bool:
    """Whether some dictionary has none but decimal keys: the harness makes integers of these, and our tests cannot."""
    if isinstance(value, dict):
        integers = bool(value) and all(key.lstrip("-").isdecimal() for key in value)
        return integers or any(map(_has_integer_keys, value.values()))
    return isinstance(value, list) and any(map(_has_integer_keys, value))


def _apps_call(args: Any, output: Any) -> TestCase:
    """The harness takes an answer that equals the output, or the first element of it."""
    alternatives = (output[0],) if isinstance(output, list) and output else ()
    arguments = tuple(args) if isinstance(args, list) else (args,)
    return TestCase(kind="call", args=arguments, expected=output, alternatives=alternatives, checker=DECIMAL)


def livecodebench_problem(row: Fields) -> Problem | str:
    """Public tests for search, all tests for the verdict, as the benchmark's own harness has it."""
    metadata = _metadata(row)
    public = _livecodebench_tests(row, "public_test_cases", metadata)
    private = _livecodebench_tests(row, "private_test_cases", metadata)
    if not public + private:
        return "no tests"
    starter = row.text("starter_code", "") or ""
    if starter:
        form = f"You will use the following starter code to write the solution.\n```python\n{starter}\n```"
    else:
        form = "Read the inputs from stdin, solve the problem and write the answer to stdout."
    return Problem(
        problem_id=f"livecodebench/{row.filled('question_id')}",
        prompt=f"### Question:\n{row.filled('question_content')}\n\n### Format: {form}\n\n### Answer:\n```python\n",
        tests=public + private,
        public_tests=public,
        entry_point=metadata.get("func_name"),
        difficulty=row.optional_text("difficulty"),
        time_limit_s=LIVECODEBENCH_TIME_LIMIT_S,
        memory_limit_mb=4096,
        program_prefix=LIVECODEBENCH_PREFIX,
        extra={key: row.get(key, None) for key in ("platform", "contest_id", "contest_date", "question_title")},
    )


def _metadata(row: Fields) -> Mapping[str, Any]:
    try:
        value = json.loads(row.text("metadata", "") or "{}")
    except (ValueError, RecursionError) as error:
        raise row.error("metadata", f"is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise row.error("metadata", f"must be an object, found {json_type(value)}")
    return value


def _livecodebench_tests(row: Fields, key: str, metadata: Mapping[str, Any]) -> tuple[TestCase, ...]:
    text = row.text(key, "") or "[]"
    try:
        cases = json.loads(text if text.lstrip().startswith("[") else _unpickled(text))
        return tuple(_livecodebench_test(case, metadata) for case in cases)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, zlib.error) as error:
        raise row.error(key, f"cannot be read ({error})") from None


def _livecodebench_test(case: Mapping[str, str], metadata: Mapping[str, Any]) -> TestCase:
    if case["testtype"] == "stdin":
        return TestCase(kind="stdio", stdin=case["input"], stdout=case["output"], checker=DECIMAL)
    if not metadata.get("func_name"):
        raise ValueError("a functional test without metadata.func_name")
    args = tuple(json.loads(line) for line in case["input"].split("\n") if line.strip())
    return TestCase(kind="call", args=args, expected=json.loads(case["output"]), checker=DECIMAL)


# What a pickled string is made of. Nothing is unpickled: a pickle can call functions, hang and fill the memory.
_TEXT = {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_AROUND_TEXT = {"PROTO", "FRAME", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP"}


def _unpickled(text: str) -> str:
    packed = zlib.decompressobj()
    content = packed.decompress(base64.b64decode(text), MAX_PICKLED_BYTES)
    if packed.unconsumed_tail:
        raise ValueError("it is larger than 1 GiB")
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in _TEXT:
            texts.append(str(argument))
        elif opcode.name not in _AROUND_TEXT:
            raise ValueError(f"it holds {opcode.name}, not text alone")
    if len(texts) != 1:
        raise ValueError(f"it holds {len(texts)} texts, not one")
    return texts[0]


_DECIMAL = re.compile(r"(?<![\w.])-?\d*\.\d+(?![\w.])")


def _stdio(stdin: str, stdout: str) -> TestCase:
    """Of APPS: where the output has numbers with a decimal point, they may differ in their last digits."""
    checker = Checker("float") if _DECIMAL.search(stdout) else DECIMAL
    return TestCase(kind="stdio", stdin=stdin, stdout=stdout, checker=checker)


def _joined(text: Any) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A JSON list of objects, or JSON Lines."""
    if path.suffix != ".json":
        yield from read_jsonl(path)
        return
    try:
        values = json.loads(read_bytes(path))
    except ValueError:
        values = None
    if not isinstance(values, list):
        raise DataError(f"{path}: must be a JSON list")
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise DataError(f"{path}[{number}]: must be an object")
        yield f"{path}[{number}]", value


def _apps_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """JSON Lines, or a folder with a folder for each problem."""
    source = path.resolve().name if path.is_dir() else path.stem
    if not path.is_dir():
        for where, value in _json_rows(path):
            yield where, {**value, "source": source}
        return
    folders = sorted(each for each in path.iterdir() if (each / "question.txt").exists())
    if not folders:
        raise DataError(f"{path}: holds no folder with a question.txt; is it train or test of APPS?")
    for folder in folders:
        known = (folder / "metadata.json").exists()
        metadata = read_json(folder / "metadata.json") if known else {}
        yield (
            str(folder),
            {
                "id": folder.name,
                "source": source,
                "question": _text(folder / "question.txt"),
                "input_output": _text(folder / "input_output.json"),
                "starter_code": _text(folder / "starter_code.py"),
                "difficulty": metadata.get("difficulty"),
            },
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no UTF-8 (byte {error.start})") from None


@dataclass(frozen=True)
class Reader:
    rows: Callable[[Path], Iterator[tuple[str, Mapping[str, Any]]]]
    problem: Callable[[Fields], Problem | str]  # or why it is left out


READERS = {
    "humaneval": Reader(read_jsonl, humaneval_problem),
    "mbpp": Reader(_json_rows, mbpp_problem),
    "apps": Reader(_apps_rows, apps_problem),
    "livecodebench": Reader(read_jsonl, livecodebench_problem),
}
