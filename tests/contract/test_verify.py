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
"""What others may rely on: exit codes, the JSON of a verdict, one line a row of a batch, in order."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.types import Verdict

PROBLEM = {
    "problem_id": "double",
    "prompt": "Double every number.",
    "entry_point": "solve",
    "tests": [
        {"kind": "call", "args": [[1, 2]], "expected": [2, 4]},
        {"kind": "call", "args": [[]], "expected": []},
        {"kind": "call", "args": [[5]], "expected": [10]},
    ],
}
RIGHT = "def solve(v):\n    return [2 * x for x in v]\n"
WRONG = "def solve(v):\n    return v\n"
CPP_PROBLEM = {
    "problem_id": "sum",
    "prompt": "Print the sum of two numbers.",
    "language": "cpp",
    "tests": [{"kind": "stdio", "stdin": "1 2\n", "stdout": "3\n"}],
}
CPP_RIGHT = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b << std::endl; }\n"


def verify(
    *arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nemo_prm", "verify", "--minimum-level", "rlimits", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120, env=env)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2), encoding="utf-8")
    return path


def strict(line: bytes) -> Any:
    """Parse JSON that has to be plain JSON: no NaN, no lone surrogates."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    value = json.loads(line, parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


@pytest.mark.parametrize(
    "problem, program, code, status, pass_rate",
    [
        (PROBLEM, RIGHT, 0, "passed", 1.0),
        (PROBLEM, WRONG, 1, "wrong_answer", 1 / 3),
        (PROBLEM, "def solve(v):\n    return {}[0]\n", 1, "runtime_error", 0.0),
        (PROBLEM, "def solve(v:\n", 1, "compile_error", 0.0),
        (PROBLEM, "def solve(v):\n    while True: pass\n", 1, "time_limit", 0.0),
        ({**PROBLEM, "prompt": "", "problem_id": None}, RIGHT, 0, "passed", 1.0),
        pytest.param(
            CPP_PROBLEM,
            CPP_RIGHT,
            0,
            "passed",
            1.0,
            marks=pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++"),
        ),
    ],
)
def test_one_program(tmp_path: Path, problem: Any, program: str, code: int, status: str, pass_rate: float) -> None:
    files = ["--problem", write(tmp_path / "problem.json", problem), "--program", write(tmp_path / "program", program)]
    done = verify(*files, "--time-limit", "0.5", "--json")
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (code, b"", 1)
    verdict = strict(done.stdout)
    assert list(verdict) == ["verdict", "passed", "pass_rate", *(field.name for field in dataclasses.fields(Verdict))]
    assert (verdict["verdict"], verdict["status"], verdict["passed"]) == (status, status, code == 0)
    assert verdict["pass_rate"] == pytest.approx(pass_rate)
    assert verdict["level"] in ("full", "namespaces", "rlimits")
    assert verify(*files, "--time-limit", "0.5").returncode == code


def test_what_is_not_known_is_neither_a_pass_nor_a_fail(tmp_path: Path) -> None:
    """The compiler is missing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if bubblewrap := shutil.which("bwrap"):
        (folder / "bwrap").symlink_to(bubblewrap)
    done = verify(
        "--problem",
        write(tmp_path / "problem.json", CPP_PROBLEM),
        "--program",
        write(tmp_path / "program.cpp", CPP_RIGHT),
        "--json",
        env={**os.environ, "PATH": str(folder), "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == 3
    verdict = strict(done.stdout)
    assert (verdict["verdict"], verdict["passed"], verdict["pass_rate"]) == ("infra_error", False, None)
    assert "g++" in verdict["message"]


def test_a_batch_gives_one_line_a_row_in_order(tmp_path: Path) -> None:
    programs = [RIGHT, WRONG, "import time; time.sleep(0.4)\n" + RIGHT, RIGHT, "1 +", RIGHT, WRONG]
    path = write(
        tmp_path / "in.jsonl", "".join(json.dumps({"problem": PROBLEM, "program": p}) + "\n" for p in programs)
    )
    done = verify("--batch", path, "--workers", "2")
    assert (done.returncode, done.stderr) == (0, b"")
    verdicts = [strict(line)["verdict"] for line in done.stdout.splitlines()]
    assert verdicts == ["passed", "wrong_answer", "passed", "passed", "compile_error", "passed", "wrong_answer"]


def test_rows_that_cannot_be_judged_keep_their_place(tmp_path: Path) -> None:
    good = json.dumps({"problem": PROBLEM, "program": RIGHT})
    rows = [
        good,
        "{broken",
        json.dumps({"problem": {**PROBLEM, "tests": []}, "program": RIGHT}),
        "",  # a line of white space is no row
        json.dumps({"problem": PROBLEM}),
        json.dumps({"problem": {**CPP_PROBLEM, "tests": PROBLEM["tests"], "entry_point": "f"}, "program": RIGHT}),
        good,
    ]
    path = write(tmp_path / "in.jsonl", "\n".join(rows))
    done = verify("--batch", path)
    verdicts = [strict(line) for line in done.stdout.splitlines()]
    unknown = [verdict for verdict in verdicts if verdict["verdict"] == "infra_error"]
    assert done.returncode == 2
    assert [verdict["passed"] for verdict in verdicts] == [True, False, False, False, False, True]
    assert [verdict["pass_rate"] for verdict in unknown] == [None] * 4
    for verdict, number in zip(unknown, (2, 3, 5, 6)):
        assert verdict["message"].startswith(f"{path}:{number}: ")
    assert done.stderr.decode().splitlines() == [f"error: {verdict['message']}" for verdict in unknown]


def test_a_batch_says_when_a_verdict_is_not_known(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    if bubblewrap := shutil.which("bwrap"):
        (folder / "bwrap").symlink_to(bubblewrap)
    rows = [{"problem": PROBLEM, "program": RIGHT}, {"problem": CPP_PROBLEM, "program": CPP_RIGHT}]
    path = write(tmp_path / "in.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    done = verify("--batch", path, env={**os.environ, "PATH": str(folder), "XDG_CACHE_HOME": str(tmp_path)})
    assert done.returncode == 3
    assert [strict(line)["verdict"] for line in done.stdout.splitlines()] == ["passed", "infra_error"]
