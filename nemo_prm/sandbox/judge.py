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
"""Judges one program on one worker's boxes: what to run, and what the answers mean.

The process of a candidate is given inputs and returns plain data; expected values stay here, or in the second box
where trusted tests and checkers run. Leaving early is a missing answer, and a forged message is only a wrong one.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, NamedTuple, Sequence

from nemo_prm.errors import ConfigError, DataError
from nemo_prm.sandbox import asserts, plain
from nemo_prm.sandbox.asserts import Assertion
from nemo_prm.sandbox.box import PEEK_S, Box, JudgeFailure, Run
from nemo_prm.sandbox.compare import matches, show, valid_text
from nemo_prm.sandbox.cpp import CompileError, Compiler
from nemo_prm.sandbox.trusted import TOO_LARGE
from nemo_prm.sandbox.zygote import PATIENCE, TRUSTED_TIME_S
from nemo_prm.types import Level, Problem, Status, TestCase, Verdict

TRUSTED_MEMORY_MB = 2048  # of test and checker code
LAST_WORDS_S = 2.0  # for the tests to end after the candidate, or the other way round
MAX_STDERR = 500
OWN_CPU_S = 0.05  # of test code that waits for its candidate
BAD_ALLOC = b"terminate called after throwing an instance of 'std::bad_alloc'"


class Starved(Exception):
    """The program ran out of wall time while other work kept it from the processor: to be judged again, alone."""


class Outcome(NamedTuple):
    """One test's part of a verdict."""

    status: Status
    expected: str | None = None
    actual: str | None = None
    message: str = ""


class Case(NamedTuple):
    """What a test's own checker is asked: may `actual` be the answer to `given`, one of `expected` being right?"""

    number: int  # of the test
    given: Any
    expected: tuple[Any, ...]
    actual: Any


@dataclass(frozen=True)
class Limits:
    """What one program may use; `total_s` is for all of its tests together."""

    test_s: float
    total_s: float
    memory_mb: int
    stop_at_first_failure: bool


@dataclass
class Task:
    """One program to judge, and what is known of it so far."""

    problem: Problem
    program: str
    tests: Sequence[TestCase]
    limits: Limits
    unwanted: Callable[[], bool] = lambda: False  # cancelled
    alone: bool = False  # nothing else runs in the pool
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0

    def request(self, mode: str, num_tests: int, **more: Any) -> dict[str, Any]:
        """What a box reads; the time limit of a run is what its tests have, or what is left of the total."""
        if self.unwanted():
            raise CancelledError
        left = max(self.limits.total_s - self.cpu_seconds, 0.001)
        return {
            "mode": mode,
            "program": self.program,
            "entry_point": self.problem.entry_point,
            "num_tests": num_tests,
            "limit_s": min(self.limits.test_s, left),
            "total_s": min(self.limits.test_s * num_tests, left),
            "memory_mb": self.limits.memory_mb,
            **more,
        }

    def spent(self, run: Run) -> None:
        self.seconds += run.seconds
        self.cpu_seconds += run.cpu_seconds
        self.peak_mib = max(self.peak_mib, run.peak_mib)

    @property
    def over(self) -> bool:
        """Whether nothing more has to be run."""
        failed = [outcome.status for outcome in self.outcomes.values() if outcome.status != "passed"]
        fatal = {"compile_error", "time_limit", "output_limit", "memory_limit"} & set(failed)
        return bool(fatal) or (bool(failed) and self.limits.stop_at_first_failure)


class Worker:
    """The boxes of one worker thread: one for candidates; one for trusted code, when there is any."""

    def __init__(self, level: Level, core: int | None, compiler: Compiler) -> None:
        self._level, self._core, self._compiler = level, core, compiler
        self._boxes: dict[str, Box] = {}

    def judge(self, task: Task, sandbox: str) -> Verdict:
        """Run the tests of a program.

        Raises:
            JudgeFailure: nothing is known; the boxes are gone and will be made anew.
            Starved: see there.
        """
        try:
            self._run_all(task)
        except (JudgeFailure, OSError) as error:  # no descriptor, no memory, no disk
            self.close()
            raise error if isinstance(error, JudgeFailure) else JudgeFailure(str(error)) from error
        tests, outcomes = task.tests, task.outcomes
        failed = sorted(index for index, outcome in outcomes.items() if outcome.status != "passed")
        first = outcomes[failed[0]] if failed else Outcome("passed")
        return Verdict(
            status=first.status,
            num_tests=len(tests),
            num_passed=len(outcomes) - len(failed),
            failing_test=failed[0] if failed else None,
            expected=first.expected,
            actual=None if first.actual is None else valid_text(first.actual),
            message=valid_text(first.message),
            seconds=task.seconds,
            peak_mib=task.peak_mib or math.nan,
            sandbox=sandbox,
            level=self._level,
        )

    def cancel(self) -> None:
        """End the candidate that runs now; from any thread."""
        with contextlib.suppress(KeyError):
            self._boxes["candidate"].cancel()

    def close(self) -> None:
        while self._boxes:
            self._boxes.popitem()[1].close()

    def _box(self, name: str) -> Box:
        if name not in self._boxes:
            self._boxes[name] = Box(self._level, self._core)
        return self._boxes[name]

    def _start(self, task: Task, request: dict[str, Any], stdin: bytes = b"", fds: Sequence[int] = ()) -> Box:
        """Send the candidate off."""
        box = self._box("candidate")
        box.start(request, stdin, fds)
        if task.unwanted():  # a `cancel` that came before the program did reached nobody
            box.cancel()
        return box

    def _run(
        self,
        task: Task,
        request: dict[str, Any],
        stdin: bytes = b"",
        fds: Sequence[int] = (),
        enough: Callable[[list[bytes]], bool] | None = None,
    ) -> Run:
        """Run the candidate to its end; arguments as for `Box.run`."""
        return self._start(task, request, stdin, fds).finish(request, enough)

    def _run_all(self, task: Task) -> None:
        kinds = {kind: [i for i, test in enumerate(task.tests) if test.kind == kind] for kind in ("call", "code")}
        if task.problem.language == "cpp":
            self._run_compiled(task)
            return
        if kinds["call"]:
            self._run_calls(task, kinds["call"])
        if kinds["code"] and not task.over:
            read = [asserts.read(task.tests[i].code, task.problem.entry_point or "") for i in kinds["code"]]
            if None in read:
                self._run_checks(task, kinds["code"])
            else:
                self._run_assertions(task, kinds["code"], [found for found in read if found is not None])
        for index, test in enumerate(task.tests):
            if test.kind == "stdio" and not task.over:
                self._judge_stdio(task, index, self._run(task, task.request("stdio", 1), _stdin(test)))

    def _run_compiled(self, task: Task) -> None:
        try:
            program = self._compiler.executable(task.program, task.unwanted)
        except CompileError as error:
            task.outcomes[0] = Outcome("compile_error", message=str(error))
            return
        try:
            for index, test in enumerate(task.tests):
                request = task.request("exec", 1, program="")
                self._judge_stdio(task, index, self._run(task, request, _stdin(test), [program]))
                if task.over:
                    return
        finally:
            os.close(program)

    def _run_calls(self, task: Task, indices: Sequence[int]) -> None:
        """All calls in one process, which is told no expected value."""
        tests = [task.tests[i] for i in indices]
        request = task.request("call", len(tests), calls=[_arguments(task.problem, test) for test in tests])
        stop = task.limits.stop_at_first_failure
        run = self._run(task, request, enough=(lambda lines: _fails(tests, lines)) if stop else None)
        task.spent(run)
        cases = []
        for position, (index, test) in enumerate(zip(indices, tests)):
            outcome, value = _call_outcome(test, position, run)
            task.outcomes[index] = outcome
            if stop and outcome.status != "passed":
                break
            if _own_checker(test) is not None and outcome.status == "passed":
                case = Case(index, tuple(test.args), (test.expected, *test.alternatives), value)
                if _is_plain(value):
                    cases.append(case)
                else:
                    task.outcomes[index] = Outcome("wrong_answer", show(test.expected), message="a value too large")
        self._run_checkers(task, cases)

    def _judge_stdio(self, task: Task, index: int, run: Run) -> None:
        task.spent(run)
        test = task.tests[index]
        outcome, text = _stdio_outcome(test, run)
        task.outcomes[index] = outcome
        if _own_checker(test) is not None and outcome.status == "passed":
            self._run_checkers(task, [Case(index, test.stdin, (test.stdout, *test.alternatives), text)])

    def _run_checks(self, task: Task, indices: Sequence[int]) -> None:
        """Trusted test code in one box, the candidate in another, a socket between them."""
        count = len(indices)
        # On its own a program that was slow because of others is given the wall time to use up its CPU time.
        patience_s = PATIENCE * task.limits.test_s if task.alone else 0.0
        answer_s = 2 * task.limits.test_s + 1 + patience_s
        candidate = task.request("proxied", 1, limit_s=task.limits.test_s * count, total_s=task.limits.test_s * count)
        tests_s = TRUSTED_TIME_S + max(answer_s, candidate["total_s"])
        checks = {
            **task.request("check", count, program="", checks=[task.tests[i].code for i in indices]),
            "prefix": task.problem.program_prefix,
            "limit_s": tests_s,
            "total_s": tests_s,
            "memory_mb": TRUSTED_MEMORY_MB,
            "answer_s": answer_s,
        }
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._start(task, candidate, fds=[theirs.fileno()])
            self._box("tests").start(checks, fds=[ours.fileno()])
        tests_run, run, left_first = self._finish_both(checks, candidate)
        # The tests' own time on this core is no load of others, beyond what they take to start: a candidate that wakes
        # them again and again made it.
        made_s = max(0.0, tests_run.cpu_seconds - OWN_CPU_S)
        run = run._replace(waited_seconds=max(0.0, run.waited_seconds - made_s))
        task.spent(run)
        answers = [_parse(line) or {} for line in tests_run.answers]
        asked = any("asked" in answer for answer in answers)
        answers = [answer for answer in answers if "asked" not in answer]
        if len(answers) < count and "gone" not in (answers or [{}])[-1]:
            answers.append(_unended(tests_run, run, asked, left_first))
        for position, index in enumerate(indices):
            task.outcomes[index] = _check_outcome(answers, position, run, answer_s - task.limits.test_s)

    def _finish_both(self, checks: dict[str, Any], candidate: dict[str, Any]) -> tuple[Run, Run, bool]:
        """Wait for the tests, not long when the candidate ends before them; the last value says whether it did."""
        box = self._box("tests")
        left_first = False
        while not box.ready(PEEK_S):
            if self._box("candidate").ready(0):
                left_first = not box.ready(LAST_WORDS_S)  # else it ended because they had
                if left_first:
                    box.cancel()
                break
        tests_run = box.finish(checks)
        if not self._box("candidate").ready(LAST_WORDS_S):  # it sleeps, or does something else than to answer
            self._box("candidate").cancel()
        return tests_run, self._box("candidate").finish(candidate), left_first

    def _run_assertions(self, task: Task, indices: Sequence[int], tests: Sequence[Sequence[Assertion]]) -> None:
        """Test code that only asserts what calls return: the calls go to one process, we compare."""
        assertions = [assertion for test in tests for assertion in test]
        total_s = task.limits.test_s * len(indices)
        request = task.request("call", len(assertions), calls=[a.arguments for a in assertions])
        request["total_s"] = min(request["total_s"], total_s)
        run = self._run(task, request, enough=lambda lines: _contradicts(assertions, lines))
        task.spent(run)
        position = 0
        for index, test in zip(indices, tests):
            outcomes = [_assertion_outcome(a, position + i, run) for i, a in enumerate(test)]
            position += len(test)
            failed = [outcome for outcome in outcomes if outcome.status != "passed"]
            task.outcomes[index] = failed[0] if failed else Outcome("passed")
            if run.ended == "cancelled" and failed:
                break

    def _run_checkers(self, task: Task, cases: Sequence[Case]) -> None:
        """Let trusted checker code decide on answers."""
        if not cases:
            return
        request = {
            "mode": "compare",
            "codes": [_own_checker(task.tests[case.number]) for case in cases],
            "cases": [
                [plain.dumps(case.given), [plain.dumps(right) for right in case.expected], plain.dumps(case.actual)]
                for case in cases
            ],
            "num_tests": len(cases),
            "limit_s": TRUSTED_TIME_S,
            "total_s": TRUSTED_TIME_S,
            "memory_mb": TRUSTED_MEMORY_MB,
        }
        run = self._box("tests").run(request)
        answers = [_parse(line) or {} for line in run.answers]
        sound = sum("sound" in answer for answer in answers)
        answers = [answer for answer in answers if "sound" not in answer]
        if sound < len(cases):
            why = answers[0].get("broken", "") if answers else "it ended early or took too long"
            raise BrokenTest(f"{task.problem.problem_id}: the checker of test {cases[sound].number} failed: {why}")
        for position, case in enumerate(cases):
            answer = answers[position] if position < len(answers) else {}
            if not answer.get("passed"):
                # What comes after an answer with which the checker came to no end is not looked at any more.
                message = str(answer.get("message", "its checker came to no end with it" if not answer else ""))
                outcome = Outcome("wrong_answer", show(case.expected[0]), show(case.actual), message)
                task.outcomes[case.number] = outcome
                if not answer and position > len(answers):
                    task.outcomes[case.number] = outcome._replace(message="not looked at after an earlier one")


class BrokenTest(JudgeFailure):
    """A problem's own checker or test failed; nothing is known about the program."""


def check_task(task: Task) -> None:
    """Refuse what cannot be judged.

    Raises:
        ConfigError: there is no test, or no entry point for tests that call one, or tests that C++ cannot have.
        DataError: the arguments of a test cannot be passed to a program.
    """
    problem, kinds = task.problem, {test.kind for test in task.tests}
    if not task.tests:
        raise ConfigError(f"{problem.problem_id}: there is no test to judge by.")
    if problem.language == "cpp" and kinds != {"stdio"}:
        raise ConfigError(f"{problem.problem_id}: tests of C++ programs are of kind stdio, found {sorted(kinds)}.")
    if kinds & {"call", "code"} and problem.entry_point is None:
        raise ConfigError(f"{problem.problem_id}: tests of kind call and code need an entry_point.")
    for test in task.tests:
        if test.kind == "call":
            _arguments(problem, test)


def _arguments(problem: Problem, test: TestCase) -> str:
    try:
        return plain.dumps((tuple(test.args), dict(test.kwargs)))
    except plain.NotPlainError as error:
        raise DataError(f"{problem.problem_id}: the arguments of a test hold {error}.") from None


def _is_plain(value: Any) -> bool:
    """Whether it can be passed on; what was read may be a little larger than what can be written."""
    try:
        plain.dumps(value)
    except plain.NotPlainError:
        return False
    return True


def _stdin(test: TestCase) -> bytes:
    return test.stdin.encode("utf-8", "surrogatepass")


def _own_checker(test: TestCase) -> str | None:
    """The code of a test's own checker; `matches` knows all others."""
    return test.checker.code if test.checker is not None and test.checker.name == "code" else None


def _call_outcome(test: TestCase, position: int, run: Run) -> tuple[Outcome, Any]:
    """Judge one call by the run's answer to it; with a checker of its own, `passed` means that there is a value."""
    failure, value = _value(position, run)
    if failure is not None:
        return failure._replace(expected=show(test.expected)), None
    if _own_checker(test) is not None or matches(test, value):
        return Outcome("passed"), value
    return Outcome("wrong_answer", show(test.expected), show(value)), value


def _assertion_outcome(assertion: Assertion, position: int, run: Run) -> Outcome:
    failure, value = _value(position, run)
    if failure is not None:
        return failure._replace(expected=show(assertion.expected))
    if value == assertion.expected:
        return Outcome("passed")
    return Outcome("wrong_answer", show(assertion.expected), show(value))


def _value(position: int, run: Run) -> tuple[Outcome | None, Any]:
    """The value that one call returned, or why there is none; one line is read at a time, for each may be large."""
    if position >= len(run.answers):
        return _unanswered(run), None
    answer = _parse(run.answers[position])
    if answer is None:
        return Outcome("runtime_error", message="an answer that cannot be read"), None
    if answer.keys() & {"overflow", "compile_error", "load_error"}:
        return _unanswered(run), None
    if "error" in answer:
        return _error_outcome(answer["error"]), None
    try:
        return None, plain.loads(str(answer.get("value")))
    except plain.NotPlainError as error:
        return Outcome("wrong_answer", message=str(answer.get("refused", error))[:300]), None


def _contradicts(assertions: Sequence[Assertion], lines: Sequence[bytes]) -> bool:
    """Whether an assertion has failed already."""
    for assertion, line in zip(assertions, lines):
        try:
            if plain.loads(str((_parse(line) or {}).get("value"))) != assertion.expected:
                return True
        except plain.NotPlainError:
            return True
    return False


def _fails(tests: Sequence[TestCase], lines: Sequence[bytes]) -> bool:
    """Whether an answer that is there already is wrong."""
    for test, line in zip(tests, lines):
        answer = _parse(line) or {}
        if "value" not in answer:
            return True
        with contextlib.suppress(plain.NotPlainError):
            if _own_checker(test) is None and not matches(test, plain.loads(str(answer["value"]))):
                return True
    return False


def _stdio_outcome(test: TestCase, run: Run) -> tuple[Outcome, str]:
    """Judge a test of kind stdio by what the program printed and how it ended."""
    text = run.stdout.decode("utf-8", "replace")
    expected, actual = show(test.stdout), show(text)
    status = os.waitstatus_to_exitcode(run.wait_status)
    if run.loud:
        return Outcome("output_limit", expected, actual, "more output than the limit"), text
    if run.ended != "exit" or run.answers or status < 0:
        return _unanswered(run)._replace(expected=expected, actual=actual), text
    if status != 0:
        outcome = Outcome("runtime_error", expected, actual, f"exit status {status}{_stderr(run)}")
        return outcome, text
    if _own_checker(test) is not None or matches(test, text):
        return Outcome("passed"), text
    return Outcome("wrong_answer", expected, actual, _stderr(run).strip("; ")), text


def _check_outcome(answers: Sequence[dict[str, Any]], position: int, run: Run, spare_s: float) -> Outcome:
    """Judge one piece of test code by what it said, and, if the candidate was gone, by how that ended.

    `spare_s` is what a call may take beyond the time limit; who did not wait that long was too slow by itself.
    """
    answer = answers[position] if position < len(answers) else {}
    if answer.get("passed") is True:
        return Outcome("passed")
    if "broken" in answer:
        raise BrokenTest(f"the test code itself is broken: {answer['broken']}")
    if "refused" in answer:
        return Outcome("wrong_answer", message=f"the candidate returned {answer['refused']}")
    if "failed" in answer:
        return Outcome("wrong_answer", message=str(answer["failed"])[:500])
    if "raised" in answer:
        return _error_outcome(answer["raised"])
    gone = next((str(answer["gone"]) for answer in answers if "gone" in answer), None)
    if gone == "slow":
        if run.waited_seconds > spare_s:
            raise Starved
        return Outcome("time_limit", message="no answer within the time limit")
    if "hangs" in answer or (gone is None and any("hangs" in answer for answer in answers)):
        return Outcome("wrong_answer", message="the test came to no end with what the candidate returned")
    return _unanswered(run, gone or "")


def _unended(tests_run: Run, run: Run, asked: bool, left_first: bool) -> dict[str, Any]:
    """Say whose fault it is that the tests came to no end, in the form of their answers."""
    if run.ended in ("time", "starved", "memory") or left_first:
        return {"gone": "the program ended"}
    if not asked:
        return {"broken": f"it ended early or took too long before it asked the program ({tests_run.ended})"}
    busy = tests_run.cpu_seconds + tests_run.waited_seconds
    if tests_run.ended == "time" and busy < tests_run.seconds / 2:  # they waited for it
        return {"gone": "slow"}
    return {"hangs": True}


def _unanswered(run: Run, gone: str = "") -> Outcome:
    """Say why a test has no answer."""
    last = (_parse(run.answers[-1]) if run.answers else None) or {}
    if "compile_error" in last:
        return Outcome("compile_error", message=str(last["compile_error"])[:500])
    if run.ended == "starved":
        raise Starved
    if run.ended == "time":
        return Outcome("time_limit", message="no answer within the time limit")
    if run.ended == "memory":
        return Outcome("memory_limit", message="its processes together took more memory than the limit")
    if "overflow" in last:
        return Outcome("output_limit", message="more output than the limit")
    for key in ("load_error", "error"):
        if key in last:
            return _error_outcome(last[key])
    code = os.waitstatus_to_exitcode(run.wait_status)
    if code == -signal.SIGXCPU:
        return Outcome("time_limit", message="no CPU time left")
    if code < 0 and BAD_ALLOC in run.stderr:
        return Outcome("memory_limit", message=_stderr(run).strip("; "))
    if gone == TOO_LARGE:
        return Outcome("output_limit", message=gone)
    if gone and (code == 0 or run.ended == "cancelled"):
        return Outcome("runtime_error", message=gone)
    how = f"{_signal_name(-code)}" if code < 0 else f"exit status {code}"
    return Outcome("runtime_error", message=f"the program ended early ({how}){_stderr(run)}")


def _signal_name(number: int) -> str:
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _error_outcome(error: Any) -> Outcome:
    error = error if isinstance(error, dict) else {}
    text = str(error.get("text", ""))[:500]
    return Outcome("memory_limit" if error.get("kind") == "MemoryError" else "runtime_error", message=text)


def _stderr(run: Run) -> str:
    text = run.stderr.decode("utf-8", "replace").strip()[-MAX_STDERR:]
    return f"; {text}" if text else ""


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = plain.parse(line)
    except plain.NotPlainError:
        return None
    return value if isinstance(value, dict) else None


def iter_cores(workers: int) -> Iterator[int | None]:
    """The processor of each worker; none when there are more workers than processors."""
    cores = sorted(os.sched_getaffinity(0))
    for index in range(workers):
        yield cores[(os.getpid() + index) % len(cores)] if workers <= len(cores) else None
