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
"""A box with a zygote in it, from outside: starts it, hands it programs, reads what they answered, never hangs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import marshal
import os
import select
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable, NamedTuple, Sequence

from nemo_prm.sandbox.candidate import REGION_BYTES
from nemo_prm.sandbox.zygote import ENDED, MAX_OUTPUT_BYTES, PATIENCE, REPLY, REQUEST, TRUSTED_TIME_S
from nemo_prm.types import Level

HERE = Path(__file__).parent
INSIDE = "/zygote/nemo_prm/sandbox"  # where the box has those files of it that the zygote needs
START_TIMEOUT_S = 30.0  # imports on a machine that is busy
PEEK_S = 0.1
GRACE_S = 10.0  # for the zygote to answer after the last moment that a program can have


class JudgeFailure(Exception):
    """The box could not be made, its zygote died, hung or could not fork: nothing is known about the program."""


class Run(NamedTuple):
    """What one run of a program gave; `answers`, `stdout` and `stderr` are what it claims, unchecked."""

    answers: list[bytes]  # JSON lines
    stdout: bytes
    stderr: bytes
    ended: str  # exit, time, starved (out of wall time for want of a processor), cancelled, memory
    wait_status: int
    cpu_seconds: float
    waited_seconds: float  # for a processor that others had; 0 where it ended by itself and had no tests
    seconds: float
    peak_mib: float
    loud: bool  # it wrote as much as it may


class Box:
    """One warm process in isolation; used by one thread at a time."""

    def __init__(self, level: Level, core: int | None = None) -> None:
        """Start it.

        Args:
            level: of isolation.
            core: the processor that its programs are pinned to.

        Raises:
            JudgeFailure: it cannot be started (no namespaces, no memory, no descriptor, no disk).
        """
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None
        self._fds: list[int] = []
        self._sending = threading.Lock()
        self._control, far_end = socket.socketpair()
        said = b""  # by bubblewrap, above all: what the machine forbids
        try:
            with open(os.memfd_create("log"), "r+b") as log:
                with far_end:
                    self._start(level, core, far_end, log)
                try:
                    self._receive(1, START_TIMEOUT_S)
                except JudgeFailure:
                    log.seek(0)
                    said = log.read(2000)
                    raise
        except (OSError, JudgeFailure) as error:
            self.close()
            words = " ".join(said.decode("utf-8", "replace").split())
            message = f"the process that runs programs did not start: {error}{f' ({words})' if words else ''}"
            raise JudgeFailure(message) from error

    def run(self, request: dict[str, Any]) -> Run:
        """`start` a program and `finish` it."""
        self.start(request)
        return self.finish(request)

    def start(self, request: dict[str, Any], stdin: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send a program off; `finish` must follow.

        Args:
            request: as `zygote.py` reads it.
            stdin: standard input, for modes stdio and exec.
            fds: descriptors for the program; the caller closes them.

        Raises:
            JudgeFailure: the box is of no more use; close it.
        """
        request_fd, _, stdin_fd, _, _ = self._fds
        try:
            if stdin:
                _write_all(stdin_fd, stdin)
            body = marshal.dumps(request)
            _write_all(request_fd, body)
            head = (request["num_tests"], request["limit_s"], request["total_s"], request["memory_mb"], len(body))
            message = b"R" + REQUEST.pack(request["mode"] == "proxied", *head)
            self._control.settimeout(GRACE_S)
            with self._sending:
                socket.send_fds(self._control, [message], fds)  # so short a message is never sent in part
        except OSError as error:
            raise JudgeFailure(f"the process that runs programs is lost: {error}") from error

    def finish(self, request: dict[str, Any], enough: Callable[[list[bytes]], bool] | None = None) -> Run:
        """Wait for the program that was started last, and read what it left.

        Args:
            request: what it was started with.
            enough: looks at the answers so far, ten times a second; True ends the program.

        Raises:
            JudgeFailure: the box is of no more use; close it.
        """
        request_fd, region, stdin_fd, stdout_fd, stderr_fd = self._fds
        longest_s = PATIENCE * request["total_s"] + (TRUSTED_TIME_S if request["mode"] == "proxied" else 0) + GRACE_S
        deadline = time.monotonic() + longest_s
        while enough is not None and time.monotonic() < deadline and not self.ready(PEEK_S):
            if enough(self._answers(request["num_tests"])):
                self.cancel()
                break
        reply = self._receive(REPLY.size, deadline - time.monotonic())
        ended, wait_status, cpu_s, waited_s, seconds, peak_kib = REPLY.unpack(reply)
        try:
            stdout = stderr = b""
            loud = False
            if request["mode"] in ("stdio", "exec"):
                size = os.fstat(stdout_fd).st_size
                loud = size >= MAX_OUTPUT_BYTES or os.fstat(stderr_fd).st_size >= MAX_OUTPUT_BYTES
                stdout = _read_all(stdout_fd, min(size, MAX_OUTPUT_BYTES))
                stderr = os.pread(stderr_fd, 2000, 0)
                for fd in (stdin_fd, stdout_fd, stderr_fd):
                    os.ftruncate(fd, 0)  # what one program left is not for the next: neither data nor flags
                    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
                    os.fchmod(fd, 0o600)
                    os.utime(fd, (0, 0))
                    with contextlib.suppress(OSError):  # the file system has none
                        for name in os.listxattr(fd):
                            os.removexattr(fd, name)
            answers = self._answers(request["num_tests"])
            os.ftruncate(request_fd, 0)
            os.ftruncate(region, 0)
            os.ftruncate(region, REGION_BYTES)
        except OSError as error:
            raise JudgeFailure(str(error)) from error
        peak_mib = peak_kib / 1024
        return Run(answers, stdout, stderr, ENDED[ended], wait_status, cpu_s, waited_s, seconds, peak_mib, loud)

    def cancel(self) -> None:
        """End the program that runs now; from any thread."""
        with contextlib.suppress(OSError), self._sending:
            self._control.send(b"C")

    def close(self) -> None:
        """End the box and what runs in it; leaves nothing behind."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # a forked copy of us may hold it open
        self._control.close()
        if self._process is not None:
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        while self._fds:
            os.close(self._fds.pop())
        if self._folder is not None:
            with contextlib.suppress(OSError):
                subprocess.run(["/bin/rm", "-rf", self._folder], check=False)  # rmtree gives up on a deep one
            with contextlib.suppress(OSError):
                os.rmdir(self._folder)  # where no process could be started

    def _answers(self, num_tests: int) -> list[bytes]:
        """The lines of the region; its head says how many bytes they have, and may lie, as may they."""
        size = min(int.from_bytes(os.pread(self._fds[1], 4, 4), "little"), REGION_BYTES - 8)
        return _read_all(self._fds[1], size, 8).split(b"\n", 2 * num_tests + 2)[:-1]

    def ready(self, timeout_s: float) -> bool:
        """Wait for the program that was started last; whether it has ended."""
        return bool(select.select([self._control], [], [], timeout_s)[0])

    def _start(self, level: Level, core: int | None, far_end: socket.socket, log: BinaryIO) -> None:
        from nemo_prm.sandbox.level import bubblewrap, filters

        for name in ("request", "region", "stdin", "stdout", "stderr"):
            self._fds.append(os.memfd_create(name))
        os.ftruncate(self._fds[1], REGION_BYTES)
        namespaces = level != "rlimits"
        if namespaces:
            folder, script, prefix = "/tmp", f"{INSIDE}/zygote.py", _bubblewrap_command(bubblewrap() or "bwrap")
        else:
            self._folder = folder = tempfile.mkdtemp(prefix="nemo_prm_sandbox_")
            script, prefix = str(HERE / "zygote.py"), []
        options = {
            "namespaces": namespaces,
            "readable": _readable(),
            "folder": folder,
            "core": core,
            "filters": [code.hex() for code in filters(namespaces)] if level != "namespaces" else [],
        }
        fds = [far_end.fileno(), *self._fds]
        python = os.path.realpath(sys.executable)
        self._process = subprocess.Popen(
            [*prefix, python, "-S", "-s", "-X", "utf8", script, *map(str, fds), json.dumps(options)],
            pass_fds=fds,
            # The order of a set must not change a verdict from run to run; a thread must not take 64 MiB of
            # address space for its own malloc arena.
            env={"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the judge, which then closes us
        )

    def _receive(self, count: int, timeout_s: float) -> bytes:
        """Read from the zygote."""
        data = b""
        deadline = time.monotonic() + timeout_s
        try:
            while len(data) < count:
                self._control.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self._control.recv(count - len(data))
                if not part:
                    raise JudgeFailure("the process that runs programs died")
                data += part
                if data[:1] == b"E":  # no reply begins so
                    while part := self._control.recv(1000):
                        data += part
                    raise JudgeFailure(data[1:].decode("utf-8", "replace"))
        except OSError as error:  # a time-out is one
            raise JudgeFailure(f"the process that runs programs does not answer: {error}") from error
        return data


def _bubblewrap_command(bwrap: str) -> list[str]:
    """The read-only root: the interpreter, its standard library, the C libraries, and four devices; nothing else."""
    command = [bwrap, "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # to become nobody
    else:
        command += ["--unshare-user"]
    readable = _readable()
    for folder in _parents([*readable, f"{INSIDE}/zygote.py"]):
        command += ["--dir", folder]  # or it makes them for root alone
    for path in ("/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        else:
            command += ["--ro-bind-try", path, path]
    for path in readable:
        command += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind-try", path, path]
    for folder in _foreign_packages():
        command += ["--tmpfs", folder, "--remount-ro", folder]
    for name in ("zygote.py", "candidate.py", "trusted.py", "confinement.py", "plain.py"):
        command += ["--ro-bind", str(HERE / name), f"{INSIDE}/{name}"]
    command += ["--bind", "/proc", "/proc", "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp", "--"]
    return command


def _readable() -> list[str]:
    """What a program may see of this machine: the interpreter and its library, the C libraries, four devices."""
    paths = ["/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"]
    paths += [os.path.realpath(sys.executable), os.path.join(sys.base_prefix, "lib")]
    return [*dict.fromkeys(paths), "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"]


def _parents(paths: Sequence[str]) -> list[str]:
    """Every folder above the paths, outermost first."""
    return sorted({str(parent) for path in paths for parent in Path(path).parents} - {"/"})


def _foreign_packages() -> list[str]:
    """Folders under the bound ones that hold installed packages, and so perhaps the tests of a known problem set."""
    folders = {sysconfig.get_path("purelib", vars={"base": sys.base_prefix, "platbase": sys.base_prefix})}
    for parent in {os.path.join(sys.base_prefix, "lib"), "/usr/lib", "/usr/lib64"}:
        for python in [*Path(parent).glob("python*"), *Path(parent).glob("pypy*")]:
            folders |= {str(python / name) for name in ("site-packages", "dist-packages")}
    return sorted(folder for folder in folders if folder and os.path.isdir(folder))


def _write_all(fd: int, data: bytes) -> None:
    view, offset = memoryview(data), 0
    while offset < len(data):
        offset += os.pwrite(fd, view[offset:], offset)


def _read_all(fd: int, size: int, offset: int = 0) -> bytes:
    parts = []
    while size > 0 and (part := os.pread(fd, size, offset)):
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)
