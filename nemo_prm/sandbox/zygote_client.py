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
"""The judge's end of one zygote: starts it, hands it programs, reads answers within limits, never blocks for good."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, Sequence

ZYGOTE = Path(__file__).with_name("zygote.py")
START_TIMEOUT_S = 30.0  # imports on a machine that is busy
REPLY_TIMEOUT_S = 6.0  # killing and reaping whatever a program started
MAX_ANSWER_BYTES = 4 * 2**20  # all answers of one run
MAX_STDOUT_BYTES = 2**20


class JudgeFailure(Exception):
    """The zygote died, hung or could not fork: nothing is known about the program."""


class Run(NamedTuple):
    """What one run of a program gave; `answers` is what it claims, unchecked."""

    answers: list[bytes]
    stdout: bytes
    ended: Literal["done", "exit", "time", "output"]  # exit: it closed its pipes without saying that it is done
    wait_status: int
    seconds: float
    peak_mib: float


class Zygote:
    """One warm process; used by one thread at a time."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            JudgeFailure: it cannot be started just now (no memory, no process, no descriptor, no disk).
        """
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None  # of the program that runs
        try:
            self._folder = tempfile.mkdtemp(prefix="nemo_prm_sandbox_")
            self._control, far_end = socket.socketpair()
        except OSError as error:
            raise JudgeFailure(f"the process that runs programs cannot be started: {error}") from error
        try:
            with far_end:
                self._process = subprocess.Popen(
                    [sys.executable, "-S", "-s", "-X", "utf8", str(ZYGOTE), str(far_end.fileno()), self._folder],
                    pass_fds=[far_end.fileno()],
                    # The order of a set must not change a verdict from run to run; a thread must not take 64 MiB of
                    # address space for its own malloc arena.
                    env={"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is for the judge, which then closes us
                )
            self._receive(1, START_TIMEOUT_S)
        except (OSError, JudgeFailure) as error:
            self.close()
            raise JudgeFailure(f"the process that runs programs did not start: {error}") from error

    def run(self, request: dict[str, Any], time_limit_s: float, num_answers: int) -> Run:
        """Run one program.

        Args:
            request: as `zygote.py` reads it; mode `stdio` has its standard output read.
            time_limit_s: wall time for each answer, the first one's start-up included.
            num_answers: how many answers the program owes; each one restarts the clock.

        Raises:
            JudgeFailure: the zygote is of no more use; close it.
        """
        started = time.monotonic()
        read_fds: list[int] = []
        write_fds: list[int] = []
        try:
            for _ in range(2 if request["mode"] == "stdio" else 1):
                read_fd, write_fd = os.pipe()
                read_fds.append(read_fd)
                write_fds.append(write_fd)
            self._send(json.dumps(request).encode("ascii"), write_fds)
            while write_fds:
                os.close(write_fds.pop())
            (self._pid,) = struct.unpack("<q", self._receive(8, REPLY_TIMEOUT_S))
            outputs, ended = self._read(read_fds, time_limit_s, num_answers)
            self._control.sendall(b"K")
            wait_status, peak_kib = struct.unpack("<qq", self._receive(16, REPLY_TIMEOUT_S))
            self._pid = None
        except OSError as error:
            raise JudgeFailure(str(error)) from error
        finally:
            for fd in read_fds + write_fds:
                os.close(fd)
        answers = bytes(outputs[0]).split(b"\n")[:-1]
        stdout = outputs[1] if len(outputs) > 1 else b""
        return Run(answers, bytes(stdout), ended, wait_status, time.monotonic() - started, peak_kib / 1024)

    def close(self) -> None:
        """End the zygote and what it runs; leaves nothing behind."""
        if self._pid is not None:  # it failed in mid-run, so it cannot be trusted to clean up
            for kill in (os.kill, os.killpg):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self._pid, signal.SIGKILL)
            if self._process is not None:
                self._process.kill()
        self._control.close()
        if self._process is not None:
            try:
                self._process.wait(REPLY_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(
        self, fds: Sequence[int], time_limit_s: float, num_answers: int
    ) -> tuple[list[bytearray], Literal["done", "exit", "time", "output"]]:
        """Read answers (and standard output) until the program is done, gone, too slow or too loud."""
        outputs = [bytearray() for _ in fds]
        caps = (MAX_ANSWER_BYTES, MAX_STDOUT_BYTES)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        for fd in fds:
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        still_open = set(fds)
        count, line_start = 0, 0
        deadline = time.monotonic() + time_limit_s
        while still_open:
            left = deadline - time.monotonic()
            if left <= 0:
                return outputs, "time"
            for fd, _ in poll.poll(left * 1000 + 1):
                if fd not in fds:
                    raise JudgeFailure("the process that runs programs died")
                output = outputs[fds.index(fd)]
                data = os.read(fd, 2**16)
                if not data:
                    poll.unregister(fd)
                    still_open.discard(fd)
                output += data
                if len(output) > caps[fds.index(fd)]:
                    return outputs, "output"
            answers = outputs[0]
            while (line_end := answers.find(b"\n", line_start)) >= 0:
                if answers.startswith(b'{"done"', line_start):
                    return (outputs, "done") if self._drain(fds, outputs) else (outputs, "output")
                count, line_start = count + 1, line_end + 1
                if count < num_answers:
                    deadline = time.monotonic() + time_limit_s
        return outputs, "exit"

    @staticmethod
    def _drain(fds: Sequence[int], outputs: list[bytearray]) -> bool:
        """Read what a program that is done has left in the pipe of its standard output; False when it is too much."""
        for fd, output in zip(fds[1:], outputs[1:]):
            with contextlib.suppress(BlockingIOError):
                while len(output) <= MAX_STDOUT_BYTES and (data := os.read(fd, 2**16)):
                    output += data
            if len(output) > MAX_STDOUT_BYTES:
                return False
        return True

    def _send(self, body: bytes, fds: Sequence[int]) -> None:
        self._control.settimeout(REPLY_TIMEOUT_S)
        socket.send_fds(self._control, [len(body).to_bytes(4, "little")], fds)
        self._control.sendall(body)

    def _receive(self, count: int, timeout_s: float) -> bytes:
        self._control.settimeout(timeout_s)
        data = b""
        while len(data) < count:
            try:
                part = self._control.recv(count - len(data))
            except OSError as error:  # a time-out is one
                raise JudgeFailure(str(error)) from error
            if not part:
                raise JudgeFailure("the process that runs programs died")
            data += part
        return data
