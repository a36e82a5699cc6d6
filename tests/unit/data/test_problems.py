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
"""Problem files and given responses: what loads, and which message names which bad line."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.data.problems import load_problems, load_responses, problem_from_json, problem_to_json
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.sandbox.compare import matches
from nemo_prm.types import Checker, TestCase

CHECK = "def check(given, expected, actual):\n    return actual == expected\n"
CALL = {"kind": "call", "args": [1], "expected": 2}
STDIO = {"kind": "stdio", "stdout": "1"}
MINIMAL: dict[str, Any] = {"problem_id": "p0", "prompt": "Add one.", "tests": [CALL], "entry_point": "f"}


def write(path: Path, *lines: Any) -> str:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return str(path)


def test_only_the_required_keys_are_needed(tmp_path: Path) -> None:
    stdio = {"problem_id": 'q "0"', "prompt": "é", "tests": [{"kind": "stdio", "stdout": "1\n"}], "language": "cpp"}
    problems = load_problems(write(tmp_path / "p.jsonl", MINIMAL, "", stdio))
    assert [problem.problem_id for problem in problems] == ["p0", 'q "0"']
    assert problems[0].tests == (TestCase(kind="call", args=(1,), expected=2),)
    assert (problems[0].language, problems[0].time_limit_s, problems[0].memory_limit_mb) == ("python", 2.0, 512)
    assert problems[1].tests == (TestCase(kind="stdio", stdout="1\n"),)


def test_round_trip_keeps_everything() -> None:
    value = {
        **MINIMAL,
        "tests": [
            {"kind": "call", "args": [[1, {"a": None}]], "kwargs": {"k": 1.5}, "expected": None, "checker": "exact"},
            {"kind": "call", "expected": 1, "alternatives": [2, [3]], "checker": {"name": "float", "tolerance": 0.5}},
            {"kind": "stdio", "stdin": "1\n", "stdout": "2"},
            {"kind": "stdio", "stdout": "2", "alternatives": ["3\n"], "checker": {"name": "code", "code": CHECK}},
            {"kind": "code", "code": "def check(candidate):\n    assert candidate(1) == 2\n"},
        ],
        "public_tests": [{"kind": "call", "args": [], "kwargs": {}, "expected": False}],
        "language": "python",
        "difficulty": 3,
        "time_limit_s": 1,
        "memory_limit_mb": 64,
        "program_prefix": "import math\n",
        "source": "mine",
        "rating": [1, 2],
    }
    problem = problem_from_json(value, "here:1")
    assert problem.difficulty == "3"
    assert problem.extra == {"source": "mine", "rating": [1, 2]}
    assert problem_from_json(json.loads(json.dumps(problem_to_json(problem))), "here:1") == problem


def test_checkers_load() -> None:
    given = ["float", "approx", {"name": "float", "tolerance": 1}, None, {"name": "tokens"}]
    given.append({"name": "code", "code": CHECK})
    tests = [{**test, "checker": checker} for test in (CALL, STDIO) for checker in given]
    problem = problem_from_json(change(tests=tests), "here:1")
    found = [Checker("float"), Checker("float"), Checker("float", 1.0), None, Checker("tokens")]
    assert [test.checker for test in problem.tests] == 2 * [*found, Checker("code", code=CHECK)]


def test_the_examples_of_the_manual_load_and_mean_what_it_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "problems.md").read_text(encoding="utf-8")
    (tmp_path / "p.jsonl").write_text(page.split("```jsonl\n")[1].split("```")[0], encoding="utf-8")
    tests = {problem.problem_id: problem.tests[0] for problem in load_problems(str(tmp_path / "p.jsonl"))}
    assert matches(tests["mean"], 7 / 3) and not matches(tests["mean"], 2.3)
    assert matches(tests["halves"], "0.50000\n1.5001") and not matches(tests["halves"], "0.6 1.5")
    assert matches(tests["distinct"], {3, 1}) and not matches(tests["distinct"], [1, 1, 3])
    assert matches(tests["either"], "13") and not matches(tests["either"], "12")
    checker = tests["divisor"].checker
    assert checker is not None
    scope: dict[str, Any] = {}
    exec(checker.code, scope)
    assert [scope["check"]((91,), 7, answer) for answer in (7, 13, 1, 91, 8, "7", None)] == [True] * 2 + [False] * 5


def change(**keys: Any) -> dict[str, Any]:
    return {key: value for key, value in {**MINIMAL, **keys}.items() if value is not ...}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object, found a list"),
        ("[" * 100_000, "cannot be read"),
        (change(problem_id=...), "`problem_id` is missing"),
        (change(problem_id=""), "`problem_id` must not be empty"),
        (change(problem_id=7), "`problem_id` must be a string, found an integer"),
        (change(prompt=...), "`prompt` is missing"),
        (change(prompt="\ud800"), "`prompt` holds a lone surrogate"),
        (change(tests=...), "`tests` is missing"),
        (change(tests=[]), "`tests` must hold at least one test"),
        (change(outcome="luck"), "`outcome` must be one of unit_tests, reward_model, found 'luck'"),
        (change(outcome="reward_model"), "`tests` must be left out where outcome is reward_model"),
        (change(tests={}), "`tests` must be a list, found an object"),
        (change(tests=[CALL, 3]), "`tests[1]` must be an object, found an integer"),
        (change(tests=[{"kind": "exec"}]), "`tests[0].kind` must be one of call, stdio, code, found 'exec'"),
        (change(tests=[{"kind": ["call"]}]), "`tests[0].kind` must be one of"),
        (change(tests=[{"kind": "call", "args": [1]}]), "`tests[0].expected` is missing"),
        (change(tests=[{**CALL, "args": "1"}]), "`tests[0].args` must be a list, found a string"),
        (change(tests=[{**CALL, "checker": "fuzzy"}]), "`tests[0].checker` must be one of exact, tokens, float, unor"),
        (change(tests=[{**CALL, "checker": ["float"]}]), "`tests[0].checker` must be one of exact, tokens"),
        (change(tests=[{**CALL, "checker": "code"}]), "`tests[0].checker` of this name is an object"),
        (change(tests=[{**CALL, "checker": {}}]), "`tests[0].checker.name` is missing"),
        (change(tests=[{**CALL, "checker": {"name": "fuzzy"}}]), "`tests[0].checker.name` must be one of exact"),
        (change(tests=[{**CALL, "checker": {"name": "code"}}]), "`tests[0].checker.code` is missing"),
        (
            change(tests=[{**CALL, "checker": {"name": "code", "code": "def f(:"}}]),
            "`tests[0].checker.code` is no Python",
        ),
        (change(tests=[{**CALL, "checker": {"name": "code", "code": "\0"}}]), "`tests[0].checker.code` is no Python"),
        (
            change(tests=[{**CALL, "checker": {"name": "float", "tolerance": 0}}]),
            "`tests[0].checker.tolerance` must be",
        ),
        (
            change(tests=[{**CALL, "checker": {"name": "tokens", "tolerance": 1}}]),
            "`tests[0].checker.tolerance` is not a",
        ),
        (
            change(tests=[{**CALL, "checker": {"name": "float", "code": CHECK}}]),
            "`tests[0].checker.code` is not a known",
        ),
        (change(tests=[{**CALL, "alternatives": 2}]), "`tests[0].alternatives` must be a list, found an integer"),
        (
            change(tests=[{**STDIO, "alternatives": ["1", 2]}]),
            "`tests[0].alternatives[1]` must be a string, found an i",
        ),
        (change(tests=[{**STDIO, "expected": 2}]), "`tests[0].expected` is not a known key"),
        (change(tests=[{"kind": "code", "code": CHECK, "checker": "exact"}]), "`tests[0].checker` is not a known key"),
        (change(tests=[{**CALL, "expcted": 2}]), "`tests[0].expcted` is not a known key"),
        (change(tests=[{"kind": "stdio", "stdin": "1"}]), "`tests[0].stdout` is missing"),
        (change(tests=[{"kind": "code"}]), "`tests[0].code` is missing"),
        (change(public_tests=[{"kind": "call"}]), "`public_tests[0].expected` is missing"),
        (change(entry_point=...), "`entry_point` must name the function"),
        (change(entry_point="f(x)"), "`entry_point` must name the function"),
        (change(language="rust"), "`language` must be one of python, cpp, found 'rust'"),
        (change(language="cpp"), "need language python"),
        (change(difficulty=[1]), "`difficulty` must be a string or a number"),
        (change(time_limit_s=0), "`time_limit_s` must be a finite number over 0"),
        (change(time_limit_s=float("nan")), "`time_limit_s` must be a finite number over 0"),
        (change(time_limit_s=True), "`time_limit_s` must be a number, found a boolean"),
        (change(memory_limit_mb=0.5), "`memory_limit_mb` must be an integer"),
        (change(memory_limit_mb=0), "`memory_limit_mb` must be at least 1"),
        (change(memory_limit_mb=2**40), "`memory_limit_mb` must be at most 1048576"),
        (change(time_limit_s=1e10), "`time_limit_s` must be at most 3600"),
        (MINIMAL, "problem_id 'p0' is already at"),
        (change(problem_id="other"), "the prompt is the same as at"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = write(tmp_path / "p.jsonl", MINIMAL, "  ", line)
    with pytest.raises(DataError) as error:
        load_problems(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"problem_id": "\xff"}\n')
    with pytest.raises(DataError, match=r"p\.jsonl:1: not UTF-8"):
        load_problems(str(tmp_path / "p.jsonl"))


def test_missing_empty_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_problems(str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="holds no problem"):
        load_problems(write(tmp_path / "empty.jsonl"))
    with pytest.raises(DataError, match="cannot be read"):
        load_problems(str(tmp_path))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(MINIMAL).encode())[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        load_problems(str(tmp_path / "cut.jsonl.gz"))


def test_limit(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", MINIMAL, change(problem_id="p1", prompt="b"), change(problem_id="p2", prompt="c")
    )
    assert [problem.problem_id for problem in load_problems(path, limit=2)] == ["p0", "p1"]
    with pytest.raises(ConfigError, match="at least 1"):
        load_problems(path, limit=0)


def test_prompts_for_a_reward_model_are_for_those_who_can_use_them(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    write(path, change(), {"problem_id": "chat", "prompt": "Say hello.", "outcome": "reward_model"})
    found = load_problems(str(path), general=True)
    assert [problem.outcome for problem in found] == ["unit_tests", "reward_model"]
    assert found[1].tests == () and problem_from_json(problem_to_json(found[1]), "here") == found[1]
    assert load_problems(str(path), limit=1) == found[:1]
    with pytest.raises(DataError, match="problem 'chat' is judged by a reward model and has no tests"):
        load_problems(str(path))


def test_embedded_splits_load() -> None:
    splits = {split: load_problems("embedded", split) for split in ("train", "validation", "test")}
    assert all(problem.tests and problem.public_tests for problems in splits.values() for problem in problems)
    with pytest.raises(DataError, match="no such file"):
        load_problems("embedded", "holdout")


def test_humaneval_has_its_164_problems() -> None:
    problems = load_problems("humaneval")
    assert len(problems) == 164
    for problem in problems:
        assert problem.program_prefix == problem.prompt
        assert [test.kind for test in problem.tests] == ["code"]
        assert "check" in [getattr(node, "name", "") for node in ast.parse(problem.tests[0].code).body]
        assert problem.extra["canonical_solution"]


def test_responses(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.jsonl",
        {"problem_id": "a", "response": "x"},
        {"problem_id": "b", "response": ""},
        {"problem_id": "a", "response": "x", "checkpoint": "step-10"},
        {"problem_id": "a", "response": "y", "response_id": "mine"},
    )
    responses = load_responses(path)
    assert [(r.problem_id, r.response_id) for r in responses] == [
        ("a", "given-0"),
        ("b", "given-0"),
        ("a", "given-1"),
        ("a", "mine"),
    ]
    assert [r.checkpoint for r in responses] == ["given", "given", "step-10", "given"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"response": "x"}, "`problem_id` is missing"),
        ({"problem_id": "a"}, "`response` is missing"),
        ({"problem_id": "a", "response": 3}, "`response` must be a string"),
        ({"problem_id": "a", "response": "x", "response_id": "given-0"}, "is already at"),
    ],
)
def test_bad_response_line_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = write(tmp_path / "r.jsonl", {"problem_id": "a", "response": "x"}, line)
    with pytest.raises(DataError, match=message) as error:
        load_responses(path)
    assert str(error.value).startswith(f"{path}:2: ")
