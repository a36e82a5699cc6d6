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
"""Judging a stream of rows as it is read: verdicts in order, each as soon as it is known, in bounded memory."""

from __future__ import annotations

import collections
import threading
import zlib
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Generator, Iterator, Mapping, NamedTuple

from nemo_prm.data.fields import Fields
from nemo_prm.data.jsonl import json_type, parse_object
from nemo_prm.data.problems import problem_from_json
from nemo_prm.errors import DataError, NemoPrmError
from nemo_prm.types import Problem, Verdict

if TYPE_CHECKING:
    from nemo_prm.sandbox.verifier import SandboxVerifier

LOOK_AHEAD_ROWS = 512  # per worker: a program that takes its full time must not leave the others without work
LOOK_AHEAD_BYTES = 64 * 2**20  # of rows read and not yet judged


class Judged(NamedTuple):
    """A row's verdict; where the row cannot be judged it is `infra_error`, and `error` says why and where."""

    verdict: Verdict
    error: str | None = None


def judge_rows(name: str, file: BinaryIO, verifier: SandboxVerifier) -> Generator[Judged, None, None]:
    """Judge lines of `{"problem": {...}, "program": "..."}`; lines of white space are no rows.

    A thread of its own reads the rows, because a verdict that is known must not wait for the next row. Close the
    generator before the verifier.

    Args:
        name: of the file, for messages.
        file: closed by that thread.
        verifier: judges; all its workers are kept busy.

    Raises:
        DataError: the file cannot be read to its end; the verdicts of the rows before that have been given.
    """
    ahead = _LookAhead(verifier.workers * LOOK_AHEAD_ROWS)
    threading.Thread(target=_read_rows, args=(name, file, verifier, ahead), daemon=True).start()
    try:
        for where, future in ahead:
            try:
                yield Judged(future.result())
            except NemoPrmError as error:
                message = str(error) if str(error).startswith(where) else f"{where}: {error}"
                yield Judged(Verdict("infra_error", message=message), message)
    finally:
        ahead.close()
    if ahead.failure is not None:
        raise ahead.failure


def to_problem(value: Mapping[str, Any], where: str) -> Problem:
    """As `problem_from_json`; judging needs neither a prompt nor an id."""
    return problem_from_json(
        {**value, "problem_id": value.get("problem_id") or where, "prompt": value.get("prompt") or "(none)"}, where
    )


class _LookAhead:
    """The rows between the reader and the printer, in order: enough to keep the workers busy, no more.

    Args:
        max_rows: rows read and not yet printed.
    """

    def __init__(self, max_rows: int) -> None:
        self.failure: Exception | None = None  # why the rows ended early
        self._max_rows = max_rows
        self._rows: collections.deque[tuple[str, Future[Verdict], int]] = collections.deque()
        self._size = 0
        self._ended = self._closed = False
        self._changed = threading.Condition()

    def put(self, where: str, size: int, submit: Callable[[], Future[Verdict]]) -> bool:
        """Submit a row of `size` bytes when there is room; False when no row is wanted any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or not self._rows
                    or (len(self._rows) < self._max_rows and self._size + size <= LOOK_AHEAD_BYTES)
                )
            )
            if self._closed:
                return False
            self._rows.append((where, submit(), size))
            self._size += size
            self._changed.notify_all()
            return True

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[tuple[str, Future[Verdict]]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._rows or self._ended)
                if not self._rows:
                    return
                where, future, size = self._rows[0]
            yield where, future
            with self._changed:
                self._rows.popleft()
                self._size -= size
                self._changed.notify_all()


def _read_rows(name: str, file: BinaryIO, verifier: SandboxVerifier, ahead: _LookAhead) -> None:
    """Submit row after row to the verifier, as far ahead as there is room."""
    try:
        with file:
            for number, raw in enumerate(file, start=1):
                where = f"{name}:{number}"
                if raw.strip() and not ahead.put(where, len(raw), partial(_submit, verifier, raw, where)):
                    return
    except (OSError, EOFError, zlib.error) as error:
        ahead.failure = DataError(f"{name}: cannot be read to its end ({error}).")
    except Exception as error:  # it must not end with the thread and leave a stream that seems to be complete
        ahead.failure = error
    finally:
        ahead.end()


def _submit(verifier: SandboxVerifier, raw: bytes, where: str) -> Future[Verdict]:
    """Send one row off; a row that cannot be judged is a future that raises."""
    try:
        row = Fields(where, parse_object(raw, where))
        problem, program = to_problem(row.mapping("problem"), f"{where}: problem"), row.get("program")
        if not isinstance(program, str):
            raise row.error("program", f"must be a string, found {json_type(program)}")
        return verifier.submit(problem, program)
    except NemoPrmError as error:
        refused: Future[Verdict] = Future()
        refused.set_exception(error)
        return refused
