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
"""A verifier that runs Python programs in limited child processes, one per program, and judges what comes out.

What it keeps: the process of a candidate never holds an expected value of a call or stdio test. It is given inputs and
returns plain data; the judge compares (`nemo_prm.sandbox.compare`), so leaving early is a missing answer and a forged
message is a wrong one. Tests of kind `code` (HumanEval) do run beside the candidate; what says that they passed is a
random token that the candidate is not told, but a program that digs through frames can find and forge it.

What it limits: wall time per test, CPU time, address space, files and their size, output; the environment is empty,
the working folder is temporary, and every process that a program started is killed before its verdict is given.

What it does not do: hide the file system, the network or other processes of the same user. Run models that you trust
not to attack, or run this in a container.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator, NamedTuple, Sequence

from nemo_prm.config import SandboxConfig
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.sandbox import plain
from nemo_prm.sandbox.compare import show, stdout_equal, values_equal
from nemo_prm.sandbox.zygote_client import JudgeFailure, Run, Zygote
from nemo_prm.types import Problem, Status, TestCase, Verdict


class _Outcome(NamedTuple):
    """One test's part of a verdict."""

    status: Status
    expected: str | None = None
    actual: str | None = None
    message: str = ""


class SubprocessVerifier:
    """Judges Python programs; safe to use from several threads. Close it, or use it as a context manager."""

    name = "subprocess-1"

    def __init__(
        self, workers: int = 0, time_limit_s: float | None = None, memory_limit_mb: int | None = None
    ) -> None:
        """
        Args:
            workers: programs run at once; 0 means one per core.
            time_limit_s: wall time per test, in place of the problem's own.
            memory_limit_mb: address space beyond what the interpreter itself takes, in place of the problem's own.
        """
        if workers < 0:
            raise ConfigError(f"sandbox.workers must not be negative, found {workers}.")
        for name, limit in (("time_limit_s", time_limit_s), ("memory_limit_mb", memory_limit_mb)):
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise ConfigError(f"sandbox.{name} must be over 0, found {limit}.")
        self.workers = workers or len(os.sched_getaffinity(0))
        self._time_limit_s, self._memory_limit_mb = time_limit_s, memory_limit_mb
        self._slots = threading.BoundedSemaphore(self.workers)
        self._idle: list[Zygote] = []
        self._close = weakref.finalize(self, _close_all, self._idle)

    def __enter__(self) -> SubprocessVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes kept warm."""
        _close_all(self._idle)

    def verify(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Verdict:
        """Judge `program`; see `nemo_prm.protocols.Verifier`.

        All tests of kind call share one process and a program that fails one of them goes on with the next; each test
        of kind stdio has its own. A time-out, an overlong output or a crash ends the run.

        Raises:
            ConfigError: the problem is not in Python, or there is no test.
            DataError: the arguments of a test cannot be passed to a program.
        """
        tests = problem.tests if tests is None else tests
        if problem.language != "python":
            raise ConfigError(
                f"{problem.problem_id}: the subprocess sandbox runs Python programs, not {problem.language}."
            )
        if not tests:
            raise ConfigError(f"{problem.problem_id}: there is no test to judge by.")
        plans = _plan(problem, program, tests)
        for attempt in (1, 2):
            try:
                with self._zygote() as zygote:
                    return self._judge(zygote, problem, tests, plans)
            except JudgeFailure as error:
                if attempt == 2:
                    return Verdict("infra_error", num_tests=len(tests), message=str(error), sandbox=self.name)
        raise AssertionError("unreachable")

    def verify_many(self, jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Judge several programs, `workers` at a time; verdicts in the order of `jobs`."""
        if len(jobs) <= 1 or self.workers == 1:
            return [self.verify(problem, program) for problem, program in jobs]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="verifier") as pool:
            return list(pool.map(lambda job: self.verify(*job), jobs))

    @contextlib.contextmanager
    def _zygote(self) -> Iterator[Zygote]:
        with self._slots:
            try:
                zygote = self._idle.pop()
            except IndexError:
                zygote = Zygote()
            try:
                yield zygote
            except BaseException:  # it may be in the middle of a run
                zygote.close()
                raise
            self._idle.append(zygote)

    def _judge(
        self, zygote: Zygote, problem: Problem, tests: Sequence[TestCase], plans: Sequence[tuple[list[int], Any]]
    ) -> Verdict:
        limit_s = self._time_limit_s or problem.time_limit_s
        outcomes: dict[int, _Outcome] = {}
        seconds, peak_mib = 0.0, 0.0
        for indices, request in plans:
            run = zygote.run(
                {
                    **request,
                    "memory_mb": self._memory_limit_mb or problem.memory_limit_mb,
                    "cpu_s": math.ceil(limit_s * len(indices)) + 1,
                },
                limit_s,
                len(indices),
            )
            seconds, peak_mib = seconds + run.seconds, max(peak_mib, run.peak_mib)
            if request["mode"] == "stdio":
                outcomes[indices[0]] = _stdio_outcome(tests[indices[0]], run)
            else:
                for position, index in enumerate(indices):
                    outcomes[index] = _answer_outcome(tests[index], run, position, request.get("token"))
            if run.ended in ("time", "output") or any(o.status == "compile_error" for o in outcomes.values()):
                break
        failed = sorted(index for index, outcome in outcomes.items() if outcome.status != "passed")
        first = outcomes[failed[0]] if failed else _Outcome("passed")
        return Verdict(
            status=first.status,
            num_tests=len(tests),
            num_passed=len(outcomes) - len(failed),
            failing_test=failed[0] if failed else None,
            expected=first.expected,
            actual=first.actual,
            message=first.message,
            seconds=seconds,
            peak_mib=peak_mib,
            sandbox=self.name,
        )


def default_verifier(config: SandboxConfig) -> SubprocessVerifier:
    """Return the verifier that a script's `sandbox` section asks for."""
    return SubprocessVerifier(config.workers, config.time_limit_s, config.memory_limit_mb)


def _close_all(zygotes: list[Zygote]) -> None:
    while zygotes:
        zygotes.pop().close()


def _plan(problem: Problem, program: str, tests: Sequence[TestCase]) -> list[tuple[list[int], dict[str, Any]]]:
    """Group tests into runs of the program: one run for all calls, one for all checks, one for each stdio test."""
    base = {"program": program, "entry_point": problem.entry_point}
    plans: list[tuple[list[int], dict[str, Any]]] = []
    calls = [i for i, test in enumerate(tests) if test.kind == "call"]
    checks = [i for i, test in enumerate(tests) if test.kind == "code"]
    if (calls or checks) and problem.entry_point is None:
        raise ConfigError(f"{problem.problem_id}: tests of kind call and code need an entry_point.")
    if calls:
        try:
            arguments = [plain.dumps((tuple(tests[i].args), dict(tests[i].kwargs))) for i in calls]
        except plain.NotPlainError as error:
            raise DataError(f"{problem.problem_id}: the arguments of a test hold {error}.") from None
        plans.append((calls, {**base, "mode": "call", "calls": arguments}))
    if checks:
        codes = [tests[i].code for i in checks]
        plans.append((checks, {**base, "mode": "code", "checks": codes, "token": secrets.token_hex(16)}))
    for i, test in enumerate(tests):
        if test.kind == "stdio":
            plans.append(([i], {**base, "mode": "stdio", "stdin": test.stdin}))
    return plans


def _answer_outcome(test: TestCase, run: Run, position: int, token: str | None) -> _Outcome:
    """Judge one test of kind call or code by the run's answer to it."""
    expected = show(test.expected) if test.kind == "call" else None
    answers = [_parse(line) for line in run.answers]
    if answers and answers[-1] is not None and "done" in answers[-1]:
        answers.pop()
    if position >= len(answers):
        return _unanswered(answers, run)._replace(expected=expected)
    answer = answers[position]
    if answer is None:
        return _Outcome("runtime_error", expected, None, "an answer that cannot be read")
    if "error" in answer or "compile_error" in answer:
        return _error_outcome(answer, test.kind == "code")._replace(expected=expected)
    if test.kind == "code":
        passed = isinstance(answer.get("passed"), str) and secrets.compare_digest(
            answer["passed"].encode("utf-8", "replace"), (token or secrets.token_hex()).encode()
        )
        return _Outcome("passed") if passed else _Outcome("wrong_answer", message="the check did not say passed")
    try:
        value = plain.loads(str(answer.get("value")))
    except plain.NotPlainError as error:
        return _Outcome("wrong_answer", expected, None, str(answer.get("refused", error))[:300])
    if values_equal(test.expected, value, test.checker):
        return _Outcome("passed")
    return _Outcome("wrong_answer", expected, show(value))


def _stdio_outcome(test: TestCase, run: Run) -> _Outcome:
    """Judge a test of kind stdio by what the program printed and how it ended."""
    answers = [_parse(line) for line in run.answers]
    last = answers[-1] if answers else None
    text = run.stdout.decode("utf-8", "replace")
    expected, actual = show(test.stdout), show(text)
    first = answers[0] if answers else None
    if first is not None and ("error" in first or "compile_error" in first):
        return _error_outcome(first, False)._replace(expected=expected, actual=actual)
    status = os.waitstatus_to_exitcode(run.wait_status)
    if run.ended == "done" and last is not None and isinstance(last.get("done"), int):
        status = last["done"]
    if run.ended in ("time", "output") or status < 0:
        return _unanswered([], run)._replace(expected=expected, actual=actual)
    if status != 0:
        return _Outcome("runtime_error", expected, actual, f"exit status {status}")
    if stdout_equal(test.stdout, text):
        return _Outcome("passed")
    return _Outcome("wrong_answer", expected, actual)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error_outcome(answer: dict[str, Any], asserts: bool) -> _Outcome:
    if "compile_error" in answer:
        return _Outcome("compile_error", message=str(answer["compile_error"])[:500])
    error = answer["error"] if isinstance(answer["error"], dict) else {}
    kind, text = error.get("kind"), str(error.get("text", ""))[:500]
    if kind == "MemoryError":
        return _Outcome("memory_limit", message=text)
    return _Outcome("wrong_answer" if asserts and kind == "AssertionError" else "runtime_error", message=text)


def _unanswered(answers: Sequence[dict[str, Any] | None], run: Run) -> _Outcome:
    """Say why a test has no answer."""
    if run.ended == "time":
        return _Outcome("time_limit", message="no answer within the time limit")
    if run.ended == "output":
        return _Outcome("output_limit", message="more output than the limit")
    last = answers[-1] if answers else None
    if last is not None and ("compile_error" in last or "error" in last):
        return _error_outcome(last, False)  # it ended while it was loading
    code = os.waitstatus_to_exitcode(run.wait_status)
    if code == -signal.SIGXCPU:
        return _Outcome("time_limit", message="no CPU time left")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return _Outcome("runtime_error", message=f"the program ended early ({how})")
