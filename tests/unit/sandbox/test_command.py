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
"""`nemo-prm verify` under use: odd files, streams, pipes that break, signals."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.sandbox.batch import LOOK_AHEAD_ROWS
from nemo_prm.supervisor import descendants

COMMAND = [sys.executable, "-m", "nemo_prm", "verify", "--minimum-level", "rlimits"]
PROBLEM = {
    "problem_id": "double",
    "entry_point": "solve",
    "time_limit_s": 60,
    "tests": [{"kind": "call", "args": [[1, 2]], "expected": [2, 4]}, {"kind": "call", "args": [[]], "expected": []}],
}
RIGHT = "def solve(v):\n    return [2 * x for x in v]\n"
WRONG = "def solve(v):\n    return v\n"
ENDLESS = "while True:\n    pass\n"


def verify(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, arguments)], input=stdin, capture_output=True, timeout=120)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def row(program: str) -> bytes:
    return json.dumps({"problem": PROBLEM, "program": program}).encode() + b"\n"


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(PROBLEM, indent=2))
    return path


def judge(problem: Path, program: bytes, *options: str) -> Any:
    return json.loads(verify("--problem", problem, "--program", "-", "--json", *options, stdin=program).stdout)


def test_a_person_can_read_it(problem: Path) -> None:
    lines = verify("--problem", problem, "--program", "-", stdin=WRONG.encode()).stdout.splitlines()
    assert lines[0].startswith("wrong_answer: 1 of 2 tests passed, ")
    assert "isolation " in lines[0]
    assert [line.split(maxsplit=1) for line in lines[1:]] == [
        ["failing", "tests[0]"],
        ["expected", "[2, 4]"],
        ["actual", "[1, 2]"],
    ]


def test_a_program_cannot_write_to_the_terminal(problem: Path) -> None:
    program = "raise ValueError('\\x1b[2J\\npassed: 2 of 2')"
    lines = verify("--problem", problem, "--program", "-", stdin=program.encode()).stdout.splitlines()
    assert lines[0].startswith("runtime_error: ")
    assert not any(line.startswith("passed") or "\x1b" in line for line in lines)
    assert any("\\x1b[2J\\npassed" in line for line in lines)


@pytest.mark.parametrize(
    "program, status",
    [
        (b"\xef\xbb\xbf" + RIGHT.encode(), "passed"),  # as some editors write it
        (RIGHT.replace("\n", "\r\n").encode(), "passed"),
        (b"def solve(v):\n    return '\xff\xfe'\n", "compile_error"),
        (RIGHT.encode() + b"\0", "compile_error"),
        (b"", "runtime_error"),
    ],
)
def test_a_program_is_any_bytes(problem: Path, program: bytes, status: str) -> None:
    assert judge(problem, program)["verdict"] == status


def test_what_a_program_says_comes_out_as_valid_text(problem: Path) -> None:
    verdict = judge(problem, b"def solve(v):\n    raise ValueError('\\udcff')\n")
    assert verdict["verdict"] == "runtime_error"
    assert "\\udcff" in verdict["message"]


def test_options_reach_the_sandbox(problem: Path) -> None:
    started = time.monotonic()
    assert judge(problem, ENDLESS.encode(), "--time-limit", "0.2")["verdict"] == "time_limit"
    assert time.monotonic() - started < 30  # the problem's own limit is 60 s a test
    assert judge(problem, b"def solve(v):\n    return 1 / len(v)\n")["num_passed"] == 0
    changed = b"def solve(v):\n    if v: return v\n    return []\n"
    assert judge(problem, changed)["pass_rate"] == 0.5
    assert judge(problem, changed, "--stop-at-first-failure")["verdict"] == "wrong_answer"
    refused = verify("--problem", problem, "--program", "-", "--time-limit", "-1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: sandbox.time_limit_s must be over 0")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--problem and --program are needed, or --batch"),
        (["--problem", "problem.json"], "--problem and --program are needed, or --batch"),
        (["--batch", "x", "--program", "x"], "--batch goes without --problem and --program"),
        (["--problem", "problem.json", "--program", "nothing.py"], "error: nothing.py: no such file."),
        (["--problem", "problem.json", "--program", "."], "error: .: cannot be read (Is a directory)."),
        (["--problem", "broken.json", "--program", "problem.json"], "error: broken.json:3: not valid JSON"),
        (["--problem", "untested.json", "--program", "problem.json"], "error: untested.json: `tests` is missing."),
        (["--batch", "nothing.jsonl"], "error: nothing.jsonl: no such file."),
        (["--problem", "problem.json", "--program", "problem.json", "--minimum-level", "best"], "invalid choice"),
    ],
)
def test_misuse_is_said_on_stderr(problem: Path, arguments: list[str], message: str) -> None:
    (problem.parent / "broken.json").write_text('{\n  "problem_id": "a",\n  oops\n}\n')
    (problem.parent / "untested.json").write_text('{"problem_id": "a"}')
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, cwd=problem.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_compressed_batch(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress(row(RIGHT) + row(WRONG)))
    done = verify("--batch", path)
    assert [json.loads(line)["passed"] for line in done.stdout.splitlines()] == [True, False]
    path.write_bytes(path.read_bytes()[:-10])
    done = verify("--batch", path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: cannot be read to its end")


def test_an_empty_batch_is_judged() -> None:
    done = verify("--batch", "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_verdict_does_not_wait_for_the_next_row() -> None:
    with subprocess.Popen([*COMMAND, "--batch", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for program, passed in ((RIGHT, True), (WRONG, False), (RIGHT, True)):
            process.stdin.write(row(program))
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["passed"] is passed
        process.stdin.close()
        assert process.wait(30) == 0


def test_rows_are_read_no_further_ahead_than_the_workers_need() -> None:
    read = 0
    command = [*COMMAND, "--batch", "-", "--workers", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None

        def produce() -> None:
            nonlocal read
            os.write(process.stdin.fileno(), row(f"import time; time.sleep(4)\n{RIGHT}"))  # type: ignore[union-attr]
            for _ in range(20 * LOOK_AHEAD_ROWS):
                try:
                    os.write(process.stdin.fileno(), row(RIGHT))  # type: ignore[union-attr]
                except OSError:
                    return
                read += 1

        producer = threading.Thread(target=produce, daemon=True)
        producer.start()
        time.sleep(3)  # the first row still runs
        in_pipe = 2 * 2**16 // len(row(RIGHT))
        assert LOOK_AHEAD_ROWS / 2 < read < LOOK_AHEAD_ROWS + in_pipe
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
        producer.join(30)


def test_a_reader_that_has_seen_enough_ends_an_endless_batch_quietly(tmp_path: Path) -> None:
    path = tmp_path / "row"
    path.write_bytes(row(RIGHT))
    pipeline = f"while cat {path}; do :; done 2>/dev/null | {' '.join(COMMAND)} --batch - | head -n 3"
    done = subprocess.run(["bash", "-c", f"{pipeline}; echo ${{PIPESTATUS[1]}}"], capture_output=True, timeout=60)
    assert done.stderr == b""
    *verdicts, code = done.stdout.splitlines()
    assert [json.loads(line)["passed"] for line in verdicts] == [True] * 3
    assert int(code) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("batch", [True, False])
def test_a_signal_ends_it_at_once_and_leaves_nothing(problem: Path, number: signal.Signals, batch: bool) -> None:
    endless = problem.with_name("endless.py")
    endless.write_text(ENDLESS)
    arguments = ["--batch", "-"] if batch else ["--problem", str(problem), "--program", str(endless)]
    heard = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", heard, *COMMAND, *arguments]  # a shell's background job ignores Ctrl-C
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        if batch:
            cases = [
                {"kind": "stdio", "stdin": "", "stdout": str(number)} for number in range(3)
            ]  # a process for each
            line = json.dumps({"problem": {**PROBLEM, "tests": cases}, "program": ENDLESS}).encode() + b"\n"
            process.stdin.write(4 * line)
            process.stdin.flush()  # and stays open: it is read when the signal comes
        time.sleep(1.5)
        below = descendants(process.pid)
        try:
            started = time.monotonic()
            process.send_signal(number)
            time.sleep(0.05)
            process.send_signal(number)  # an impatient second one
            assert process.wait(30) == 128 + number
            assert time.monotonic() - started < 5
            assert process.stderr.read() == b""
        finally:
            process.kill()
    assert below
    assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []


def test_help_is_instant() -> None:
    code = "import sys; from nemo_prm.cli import main\ntry: main(['verify', '--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    modules = done.stdout.rpartition("\n\n")[2].split()
    assert done.returncode == 0
    assert "exit code: 0 passed, 1 not passed, 3 infra_error" in done.stdout
    assert len(modules) < 150 and "subprocess" not in modules
