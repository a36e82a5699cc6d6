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
"""What a child of the zygote does with code that is trusted: the tests of a problem, and checkers of answers.

It runs in a box of its own, where no candidate program is; it imports the standard library alone.
"""

from __future__ import annotations

import builtins
import contextlib
import socket
import sys
import threading
import time
from typing import Any, Callable, Iterable

from nemo_prm.sandbox import plain
from nemo_prm.sandbox.candidate import Region, describe, receive, send

MAX_MESSAGE_BYTES = 16 * 2**20  # of the socket between a candidate and its tests
TOO_LARGE = "an answer larger than the limit"


class CandidateError(Exception):
    """What the candidate raised, when it is no built-in exception."""


class CandidateGone(BaseException):
    """The candidate's process ended, or gave no answer that can be read; no test can go on."""


class NotPlain(BaseException):
    """The candidate returned what plain data cannot say; it equals no expected value."""


class BrokenTest(BaseException):
    """The test is at fault, whatever the candidate is."""


class Candidate:
    """Stands for the candidate's entry point: a call goes to its process and comes back as plain data."""

    def __init__(self, name: str, stream: socket.socket, region: Region) -> None:
        self.__name__ = self.__qualname__ = name
        self._stream, self._region = stream, region
        # Why, for good: a test that catches every exception must not pass for it.
        self._gone: str | None = None
        self._broken: str | None = None
        self.refused: str | None = None
        self.attempted = self._asked = self._answered = False
        self.raised: tuple[Exception, str] | None = None  # by the candidate last, and where in its program
        self.scope: dict[str, Any] = {}  # of the tests: exceptions of the problem's own are looked up there
        self._lock = threading.Lock()  # a test may have threads

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.check()
        self.attempted = True
        try:
            request = plain.dumps((args, kwargs))
        except plain.NotPlainError as error:
            if self._answered and isinstance(error, plain.TooLargeError):  # it may hold what came from there
                raise self._refuse(f"{error}, as the test saw when it passed it on") from None
            self._broken = f"it passes {error}, and only plain data can be passed to a program"
            raise BrokenTest(self._broken) from None
        if not self._asked:
            self._asked = True
            self._region.add(asked=True)
        try:
            self._stream.settimeout(self._answer_s)
            send(self._stream, request)
        except OSError:
            raise self._lost("the program ended") from None
        answer = self._answer()
        self._answered = True
        try:
            if "args" in answer:
                _merged((args, kwargs), plain.loads(str(answer["args"])))
            if "value" in answer:
                return plain.loads(str(answer["value"]))
            if "refused" in answer:
                raise self._refuse(str(answer["refused"]))
            raise self._exception(answer)
        except plain.NotPlainError as error:
            raise self._refuse(str(error)) from None

    def _exception(self, answer: dict[str, Any]) -> Exception:
        """An exception of the most special class that the test knows, too."""
        text, kinds = str(answer.get("error")), answer.get("kinds")
        args = plain.loads(str(answer.get("error_args")))
        args = args if type(args) is tuple else (text,)
        raised: Exception = CandidateError(text)
        for name in map(str, kinds if isinstance(kinds, list) else []):
            kind = self.scope.get(name, getattr(builtins, name, None))
            # StopIteration would end a loop of the test, as if it had gone through.
            loops = (StopIteration, StopAsyncIteration)
            if not (isinstance(kind, type) and issubclass(kind, Exception)) or kind in (Exception, *loops):
                continue
            with contextlib.suppress(Exception):  # it is not made from these arguments
                raised = kind(*args)
                break
        self.raised = raised, text
        return raised

    def allow(self, seconds: float) -> None:
        """How long the candidate may take for one answer, from its first byte waited for to its last."""
        self._answer_s = seconds

    def wait(self) -> None:
        """Return when the candidate is loaded."""
        if self._receive() != b"ready":
            raise CandidateGone("its first message is not the one expected")

    def check(self) -> None:
        """Raise CandidateGone, NotPlain or BrokenTest when a call already did so."""
        if self._gone is not None:
            raise CandidateGone(self._gone)
        if self._broken is not None:
            raise BrokenTest(self._broken)
        if self.refused is not None:
            raise NotPlain(self.refused)

    def _refuse(self, why: str) -> NotPlain:
        self.refused = why
        return NotPlain(why)

    def _answer(self) -> dict[str, Any]:
        try:
            answer = plain.parse(self._receive())
        except plain.NotPlainError:
            answer = None
        if not isinstance(answer, dict):
            raise self._lost("an answer that cannot be read")
        return answer

    def _receive(self) -> bytes:
        deadline = time.monotonic() + self._answer_s
        try:
            size = int.from_bytes(receive(self._stream, 4, deadline), "little")
            if size > MAX_MESSAGE_BYTES:
                raise self._lost(TOO_LARGE)
            return receive(self._stream, size, deadline)
        except TimeoutError:
            raise self._lost("slow") from None
        except (EOFError, OSError):
            raise self._lost("the program ended") from None

    def _lost(self, why: str) -> CandidateGone:
        self._gone = why
        return CandidateGone(why)


def _write_back(mine: Any, theirs: Any) -> None:
    """Repeat in our arguments what the candidate changed in its copies; what we hold inside them stays ours."""
    if isinstance(mine, list) and type(theirs) is list:
        mine[:] = [*map(_merged, mine, theirs), *theirs[len(mine) :]]
    elif isinstance(mine, dict) and type(theirs) is dict:
        merged_items = {key: _merged(mine[key], new) if key in mine else new for key, new in theirs.items()}
        mine.clear()
        mine.update(merged_items)
    elif isinstance(mine, set) and type(theirs) is set:
        mine.clear()
        mine.update(theirs)


def _merged(old: Any, new: Any) -> Any:
    """The old container with its new content; anything else is replaced."""
    if type(old) is type(new) is tuple and len(old) == len(new):
        return tuple(map(_merged, old, new))
    for kind in (list, dict, set):
        if isinstance(old, kind) and type(new) is kind:
            _write_back(old, new)
            return old
    return new


def run_check(request: dict[str, Any], region: Region) -> None:
    """Run trusted test code against the candidate at the other end of the socket; one answer per test.

    The code defines `check(candidate)`, or asserts by itself under the entry point's name (MBPP). What it raises
    before it has called the candidate is its own fault.
    """
    candidate = Candidate(request["entry_point"], socket.socket(fileno=3), region)
    candidate.allow(request["answer_s"])
    _seed(request["checks"])
    prefix = None
    with contextlib.suppress(SyntaxError):  # a prefix that the response goes on with may be no program by itself
        prefix = compile(request["prefix"], "<prefix>", "exec", dont_inherit=True)
    try:
        candidate.wait()
        for source in request["checks"]:
            scope: dict[str, Any] = {"__name__": "test"}
            if prefix is not None:
                exec(prefix, scope)  # anew for each: a candidate may have changed what it was passed of the former's
            scope.update({request["entry_point"]: candidate, "candidate": candidate})
            candidate.refused, candidate.attempted, candidate.scope = None, False, scope
            try:
                exec(compile(source, "<test>", "exec", dont_inherit=True), scope)
                check = scope.get("check", candidate)
                if check is not candidate:  # a program's own function may have this name
                    check(candidate)
                candidate.check()
                if not candidate.attempted:
                    raise BrokenTest("it does not call the candidate")
                region.add(passed=True)
            except BrokenTest as error:
                region.add(broken=str(error)[:300])
            except NotPlain as error:
                region.add(refused=str(error)[:300])
            except Exception as error:
                described = describe(error, "<test>")
                if not candidate.attempted:
                    region.add(broken=described["text"])
                elif isinstance(error, AssertionError):
                    region.add(failed=described["text"])
                elif candidate.raised is not None and error is candidate.raised[0]:
                    region.add(raised={**described, "text": candidate.raised[1]})
                else:
                    region.add(raised=described)
    except CandidateGone as error:
        region.add(gone=str(error))


def run_compare(request: dict[str, Any], region: Region) -> None:
    """Run trusted checker code on what candidates answered; one answer per case.

    Every checker is tried on a right answer first: no program's answer takes the time for that.
    """
    _seed([*request["codes"], *(right for _, rights, _ in request["cases"] for right in rights)])
    checks: list[Callable[[Any, Any, Any], Any]] = []
    for code, (given, rights, _) in zip(request["codes"], request["cases"]):
        scope: dict[str, Any] = {"__name__": "checker"}
        try:
            exec(compile(code, "<checker>", "exec", dont_inherit=True), scope)
            checks.append(scope["check"])
            _accepts(checks[-1], given, rights[0], rights[0])
        except Exception as error:  # not even on a right answer does it work
            region.add(broken=describe(error, "<checker>")["text"])
            return
        region.add(sound=True)
    for check, (given, rights, actual) in zip(checks, request["cases"]):
        try:
            region.add(passed=any(_accepts(check, given, right, actual) for right in rights))
        except Exception as error:  # an answer of a shape that the checker does not expect
            region.add(passed=False, message=describe(error, "<checker>")["text"])


def _seed(secrets: Iterable[str]) -> None:
    """Let tests draw random numbers that no candidate can foresee, and the same ones each time."""
    sys.modules["random"].seed("\0".join(secrets))


def _accepts(check: Callable[[Any, Any, Any], Any], given: str, expected: str, actual: str) -> bool:
    """Ask a checker; it gets values of its own each time, since it may change them."""
    try:
        return bool(check(plain.loads(given), plain.loads(expected), plain.loads(actual)))
    except AssertionError:
        return False


MODES: dict[str, Callable[[dict[str, Any], Region], None]] = {"check": run_check, "compare": run_compare}
