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
"""Benchmarks in their published formats: what becomes of a line, and that right and wrong programs are told apart."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.config import SandboxConfig
from nemo_prm.data.benchmarks import load_benchmark
from nemo_prm.data.problems import problem_from_json, problem_to_json
from nemo_prm.data.steps import make_program
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.sandbox.verifier import default_verifier
from nemo_prm.types import Checker, Problem, TestCase

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def twice(x):\n    """Twice x."""\n',
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
MBPP = {
    "text": "Write a function to double a number.",
    "code": "import math\r\ndef helper(x):\r\n  return x\r\ndef twice(x):\r\n  return 2 * helper(x)",
    "task_id": 11,
    "test_setup_code": "",
    "test_list": ["assert twice(2) == 4", "assert sorted([twice(1)]) == [2]"],
    "challenge_test_list": ["assert twice(-3) == -6"],
}
SANITIZED = {
    "source_file": "Benchmark Questions Verification V2.ipynb",
    "task_id": 12,
    "prompt": "Write a function to halve a number.",
    "code": "def half(x):\n  return x / 2",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(half(1), 0.5)"],
}
APPS_STDIO = {
    "problem_id": 3,
    "question": "Print the sum.",
    "solutions": "[]",
    "input_output": json.dumps({"inputs": ["1\n2\n", ["3", "4"]], "outputs": ["3\n", ["7"]]}),
    "difficulty": "interview",
    "url": "https://example.org/3",
    "starter_code": "",
}
APPS_CALL = {
    "problem_id": 4,
    "question": "Reverse the list.",
    "solutions": "",
    "input_output": json.dumps({"fn_name": "rev", "inputs": [[[1, 2]], [[]]], "outputs": [[[2, 1]], [[]]]}),
    "difficulty": "introductory",
    "url": "https://example.org/4",
    "starter_code": "class Solution:\n    def rev(self, v: List[int]) -> List[int]:\n",
}


def packed(cases: list[dict[str, str]]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


def livecodebench(**changes: Any) -> dict[str, Any]:
    row = {
        "question_title": "Add",
        "question_content": "Add up.",
        "platform": "atcoder",
        "question_id": "abc300_a",
        "contest_id": "abc300",
        "contest_date": "2024-08-17T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
        "private_test_cases": packed([{"input": "5 6\n", "output": "11\n", "testtype": "stdin"}]),
        "metadata": "{}",
    }
    return row | changes


FUNCTIONAL = livecodebench(
    question_content="Pick.",
    platform="leetcode",
    question_id="3000",
    contest_date="2024-11-02T00:00:00",
    starter_code="class Solution:\n    def pick(self, v: List[int], i: int) -> int:\n        ",
    public_test_cases=json.dumps([{"input": "[1, 2]\n0", "output": "1", "testtype": "functional"}]),
    private_test_cases=json.dumps([{"input": "[1, 2]\n1\n", "output": "2", "testtype": "functional"}]),
    metadata=json.dumps({"func_name": "pick"}),
)


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load(name: str, tmp_path: Path, *rows: Any) -> list[Problem]:
    problems = load_benchmark(name, [write(tmp_path / "file.jsonl", *rows)]).problems
    assert [problem_from_json(problem_to_json(problem), "here") for problem in problems] == problems
    return problems


def statuses(problem: Problem, *responses: str) -> list[str]:
    verifier = default_verifier(SandboxConfig(minimum_level="rlimits"))
    return [verifier.verify(problem, make_program(problem, response)).status for response in responses]


def test_humaneval(tmp_path: Path) -> None:
    [problem] = load("humaneval", tmp_path, HUMANEVAL)
    assert (problem.problem_id, problem.program_prefix) == ("HumanEval/0", HUMANEVAL["prompt"])
    assert problem.extra == {"canonical_solution": "    return 2 * x\n"}
    assert statuses(problem, "    return 2 * x\n", "    return x\n") == ["passed", "wrong_answer"]


def test_mbpp(tmp_path: Path) -> None:
    [problem] = load("mbpp", tmp_path, MBPP)
    assert (problem.problem_id, problem.entry_point) == ("mbpp/11", "twice")
    assert problem.prompt == (
        "You are an expert Python programmer, and here is your task: Write a function to double a number. Your code "
        "should pass these tests:\n\nassert twice(2) == 4\nassert sorted([twice(1)]) == [2]\n"
    )
    # the challenge is hidden
    only_shown = "def twice(x):\n    return 2 * x if x > 0 else 0\n"
    assert statuses(problem, "def twice(x):\n    return x + x\n", only_shown) == ["passed", "wrong_answer"]


def test_sanitized_mbpp_is_a_json_list(tmp_path: Path) -> None:
    path = tmp_path / "sanitized-mbpp.json"
    path.write_text(json.dumps([SANITIZED, {**SANITIZED, "task_id": 13, "test_list": ["assert 1"]}]))
    found = load_benchmark("mbpp", [path])
    assert found.left_out == {"no function is tested": 1}
    assert statuses(found.problems[0], "def half(x):\n    return x * 0.5\n", "def half(x):\n    return x\n") == [
        "passed",
        "wrong_answer",
    ]


def test_apps(tmp_path: Path) -> None:
    stdio, call = load("apps", tmp_path, APPS_STDIO, APPS_CALL)
    assert (stdio.problem_id, stdio.difficulty, stdio.entry_point) == ("apps/3", "interview", None)
    assert stdio.prompt == "QUESTION:\nPrint the sum.\n\nUse Standard Input format\n\nANSWER:\n"
    assert [(test.stdin, test.stdout) for test in stdio.tests] == [("1\n2\n", "3\n"), ("3\n4", "7")]
    assert "Use Call-Based format" in call.prompt and call.entry_point == "rev"
    right = "class Solution:\n    def rev(self, v: List[int]) -> List[int]:\n        return v[::-1]\n"
    assert statuses(call, right, right.replace("[::-1]", "")) == ["passed", "wrong_answer"]
    sum_up = "lines = deque(sys.stdin)\nprint(pow(sum(map(int, lines)), 1, 100))\n"  # with what the harness imports
    assert statuses(stdio, sum_up, "print(3)\n") == ["passed", "wrong_answer"]


def test_apps_in_folders(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "0003"
    folder.mkdir(parents=True)
    (folder / "question.txt").write_text(APPS_STDIO["question"])
    (folder / "input_output.json").write_text(APPS_STDIO["input_output"])
    (folder / "metadata.json").write_text('{"difficulty": "interview"}')
    (tmp_path / "test" / "0004").mkdir()
    (tmp_path / "test" / "0004" / "question.txt").write_text("No tests.")
    found = load_benchmark("apps", [tmp_path / "test"])
    assert [(p.problem_id, p.difficulty, len(p.tests)) for p in found.problems] == [("apps/test/0003", "interview", 2)]
    assert found.left_out == {"no tests": 1}


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    digits = {**APPS_STDIO, "problem_id": 5, "question": "x", "input_output": '{"inputs": [' + "9" * 5000 + "]}"}
    path = write(tmp_path / "file.jsonl", APPS_STDIO, digits, {**APPS_STDIO, "problem_id": 6})
    found = load_benchmark("apps", [path])
    assert len(found.problems) == 1 and found.left_out == {"tests that cannot be read": 1, "repeated": 1}


def test_livecodebench(tmp_path: Path) -> None:
    stdin, functional = load("livecodebench", tmp_path, livecodebench(), FUNCTIONAL)
    assert (stdin.problem_id, stdin.difficulty) == ("livecodebench/abc300_a", "easy")
    assert [test.stdin for test in stdin.public_tests] == ["1 2\n"]
    assert [test.stdin for test in stdin.tests] == ["1 2\n", "5 6\n"]
    assert statuses(stdin, "print(sum(map(int, input().split())))\n", "print(3)\n") == ["passed", "wrong_answer"]
    assert functional.tests == (
        TestCase(kind="call", args=([1, 2], 0), expected=1, checker=Checker("decimal")),
        TestCase(kind="call", args=([1, 2], 1), expected=2, checker=Checker("decimal")),
    )
    assert functional.extra["contest_date"] == "2024-11-02T00:00:00"
    # the starter code's List comes from the harness, and the prompt has opened the fence
    right = "class Solution:\n    def pick(self, v: List[int], i: int) -> int:\n        return v[i]\n```\n"
    assert statuses(functional, right, right.replace("v[i]", "v[0]")) == ["passed", "wrong_answer"]


def test_answers_compare_as_in_the_harnesses(tmp_path: Path) -> None:
    stdin, functional = load("livecodebench", tmp_path, livecodebench(), FUNCTIONAL)
    assert statuses(stdin, "a, b = map(int, input().split())\nprint('', (a + b) / 1)\n") == ["passed"]
    method = "class Solution:\n    def pick(self, v, i):\n        return {}\n"
    assert statuses(functional, method.format("v[i] > 1 or 1.0"), method.format("str(v[i])"))[1] == "wrong_answer"
    [test] = functional.tests[:1]
    flag = replace(functional, tests=(replace(test, expected=True),))
    assert statuses(flag, method.format("v[i] & 1")) == ["passed"]


@pytest.mark.parametrize(
    "expression",
    [
        "pow(7, 2, 10) + len(range(pow(2, 2))) - 13 + a + b",
        "bisect.bisect_left([1, 2], 2) - bisect_left([1, 2], 2) + a + b",
        "a + b + randint(0, 0) + random.randint(0, 0)",
        "sum(json.loads(dumps([a, b])))",
        "reduce(operator.add, deepcopy([a, b]))",
        "a + b + len(re.findall('x', ascii_lowercase)) - 1",
    ],
)
def test_livecodebench_imports_as_its_harness_does(tmp_path: Path, expression: str) -> None:
    stdin, _ = load("livecodebench", tmp_path, livecodebench(), FUNCTIONAL)
    assert statuses(stdin, f"a, b = map(int, input().split())\nprint({expression})\n") == ["passed"]


def test_livecodebench_by_day(tmp_path: Path) -> None:
    path = write(tmp_path / "file.jsonl", livecodebench(), FUNCTIONAL)
    for days, expected in (
        (("2024-08-18", None), ["livecodebench/3000"]),
        ((None, "2024-08-17"), ["livecodebench/abc300_a"]),
        (("2024-08-17", "2024-11-02"), ["livecodebench/abc300_a", "livecodebench/3000"]),
    ):
        found = load_benchmark("livecodebench", [path], *days)
        assert [problem.problem_id for problem in found.problems] == expected
    with pytest.raises(ConfigError, match="released_from must be a day such as 2024-08-01, found 'v5'"):
        load_benchmark("livecodebench", [path], "v5")
    with pytest.raises(ConfigError, match="the other formats have no dates"):
        load_benchmark("apps", [path], "2024-08-01")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = base64.b64encode(zlib.compress(pickle.dumps(Bomb()))).decode()
    with pytest.raises(
        DataError, match=r"file.jsonl:1: `private_test_cases` cannot be read \(it holds \w*GLOBAL, not text alone\)"
    ):
        load("livecodebench", tmp_path, livecodebench(private_test_cases=bomb))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04})" + b"2\x86" * 60 + b"Ns.", "it holds EMPTY_DICT"),  # hashing it would take for ever
        (b"\x80\x04\x8c\x02[]r\xff\xff\xff\x7fK\x01.", "it holds BININT1"),  # a memo of 32 GiB
        (b"\x80\x04\x8e" + (1 << 50).to_bytes(8, "little") + b".", "cannot be read"),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "cannot be read"),
        (pickle.dumps(["[]", "[]"]), "it holds EMPTY_LIST"),
        (b"\x80\x04.", "it holds 0 texts"),
    ],
)
def test_pickles_that_would_hang_or_fill_the_memory_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    row = livecodebench(private_test_cases=base64.b64encode(zlib.compress(content)).decode())
    with pytest.raises(DataError, match=message):
        load("livecodebench", tmp_path, row)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_text_of_every_pickle_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    cases = [{"input": "5 é\n", "output": "11\n" * 30_000, "testtype": "stdin"}]
    content = pickle.dumps(json.dumps(cases, ensure_ascii=False), protocol)
    row = livecodebench(private_test_cases=base64.b64encode(zlib.compress(content)).decode())
    [problem] = load("livecodebench", tmp_path, row)
    assert problem.tests[-1].stdin == "5 é\n" and problem.tests[-1].stdout == cases[0]["output"]


def test_mbpp_tests_get_the_imports_of_the_reference(tmp_path: Path) -> None:
    row = MBPP | {
        "code": "import sys\ndef twice(x):\n    return 2 * x\n",
        "test_list": ["assert twice(1) == 2 and sys.maxsize"],
    }
    [problem] = load("mbpp", tmp_path, row)
    assert [test.code for test in problem.public_tests] == ["import sys\nassert twice(1) == 2 and sys.maxsize"]


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("assert twice(Pair(1)) == 2", "tests that use more of the reference solution than its function"),
        ("assert twice((1, 2), int) == 2", "tests that pass a type to the function"),
        ("assert [twice(x) for x in (1,)] == list(map(lambda v: v, [2]))", None),
        ("try:\n    assert twice(1) == 2\nexcept TypeError as error:\n    raise error", None),
    ],
)
def test_mbpp_tests_that_cannot_be_run_are_left_out(tmp_path: Path, test: str, reason: str | None) -> None:
    code = "class Pair:\n    pass\ndef twice(x):\n    return 2 * x\n"
    path = write(tmp_path / "file.jsonl", MBPP | {"code": code, "test_list": [test]})
    found = load_benchmark("mbpp", [path])
    assert dict(found.left_out) == ({reason: 1} if reason else {})


def test_numbers_with_a_point_may_differ_in_their_last_digits_in_apps(tmp_path: Path) -> None:
    outputs = ["0.5 7\n", "1000000007\n", "v1.2.3\n", "-.25\n"]
    tests = json.dumps({"inputs": [""] * 4, "outputs": outputs})
    [problem] = load("apps", tmp_path, {**APPS_STDIO, "input_output": tests})
    decimal, numbers = Checker("decimal"), Checker("float")
    assert [test.checker for test in problem.tests] == [numbers, decimal, decimal, numbers]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("livecodebench", livecodebench(private_test_cases="!"), "file.jsonl:1: `private_test_cases` cannot be read"),
        ("livecodebench", livecodebench(public_test_cases="[{}]"), "`public_test_cases` cannot be read"),
        ("livecodebench", {**FUNCTIONAL, "metadata": "{}"}, "a functional test without metadata.func_name"),
        ("livecodebench", livecodebench(metadata="not json"), "file.jsonl:1: `metadata` is no JSON"),
        ("livecodebench", livecodebench(metadata="[]"), "`metadata` must be an object, found a list"),
        ("livecodebench", livecodebench(private_test_cases="[" * 100_000), "`private_test_cases` cannot be read"),
        (
            "livecodebench",
            livecodebench(
                public_test_cases='[{"testtype": "functional", "input": 5, "output": "1"}]',
                metadata='{"func_name": "f"}',
            ),
            "`public_test_cases` cannot be read",
        ),
        ("apps", {"problem_id": 1, "input_output": APPS_STDIO["input_output"]}, "file.jsonl:1: `question` is missing"),
        ("mbpp", {"text": "x"}, "`code` is missing"),
        ("humaneval", {"task_id": "x"}, "`prompt` is missing"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(name, tmp_path, row)


@pytest.mark.parametrize(
    "tests", ["null", "[]", '{"inputs": ["1"], "outputs": 5}', '{"inputs": ["\\ud800"], "outputs": ["1"]}']
)
def test_tests_that_cannot_be_read_are_counted(tmp_path: Path, tests: str) -> None:
    found = load_benchmark("apps", [write(tmp_path / "a.jsonl", APPS_CALL, {**APPS_STDIO, "input_output": tests})])
    assert found.left_out == {"tests that cannot be read": 1} and len(found.problems) == 1


def test_apps_train_and_test_number_their_problems_alike(tmp_path: Path) -> None:
    sources = [
        write(tmp_path / "train.jsonl", APPS_STDIO),
        write(tmp_path / "apps_test.jsonl", {**APPS_STDIO, "question": "Another."}),
        write(tmp_path / "more.jsonl", {**APPS_STDIO, "question": "More."}, {**APPS_STDIO, "question": "Still more."}),
    ]
    found = load_benchmark("apps", sources)
    assert [problem.problem_id for problem in found.problems] == ["apps/train/3", "apps/test/3", "apps/3"]
    assert found.left_out == {"another has its id": 1}


def test_integers_that_json_has_made_keys_of_are_left_out(tmp_path: Path) -> None:
    tests = {"fn_name": "rev", "inputs": [[{"1": [2]}]], "outputs": [[1]]}
    rows = {**APPS_CALL, "input_output": json.dumps(tests)}, APPS_STDIO
    found = load_benchmark("apps", [write(tmp_path / "a.jsonl", *rows)])
    assert found.left_out == {"dictionaries with integers for keys": 1} and len(found.problems) == 1


def test_damaged_folders_of_apps_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "0000"
    folder.mkdir(parents=True)
    (folder / "question.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match="question.txt: is no UTF-8"):
        load_benchmark("apps", [tmp_path / "train"])
    (folder / "question.txt").write_text("Q")
    (folder / "metadata.json").write_text("{bad")
    with pytest.raises(DataError, match="metadata.json: not valid JSON"):
        load_benchmark("apps", [tmp_path / "train"])


def test_other_formats_and_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format must be one of humaneval, mbpp, apps, livecodebench, found 'x'"):
        load_benchmark("x", [])
    with pytest.raises(DataError, match="no such file"):
        load_benchmark("apps", [tmp_path / "none.jsonl"])
    with pytest.raises(ConfigError, match="limit must be at least 1, found 0"):
        load_benchmark("apps", [tmp_path / "none.jsonl"], limit=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no folder with a question.txt"):
        load_benchmark("apps", [tmp_path / "empty"])
