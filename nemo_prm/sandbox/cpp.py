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
"""C++ programs: compiled inside a box of bubblewrap, kept by content, run like any other program.

The compiler reads hostile text too: it may include any file it can see, never end, or fill memory. So it sees its own
files alone, has no network, and limits on time, memory and output; the program it makes leaves through a pipe.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Callable

from nemo_prm.sandbox.box import JudgeFailure
from nemo_prm.sandbox.confinement import NOBODY

# The judges that most problems come from define ONLINE_JUDGE; programs then leave files alone.
FLAGS = ("-O2", "-s", "-static", "-DONLINE_JUDGE", "-fmax-errors=5", "-fdiagnostics-color=never")
STANDARDS = ("gnu++20", "gnu++17")  # the second for what the first does not take: names that became keywords, u8""
COMPILE_TIME_S = 30  # CPU; three times as much wall time
MAX_PROGRAM_BYTES = 64 * 2**20
# In seconds, KiB and blocks of 512 bytes; where a limit is lower already, that one holds.
LIMITS = "".join(
    f"ulimit {option} {most} 2>/dev/null; "
    for option, most in (("-c", 0), ("-t", COMPILE_TIME_S), ("-v", 2 * 2**20), ("-f", MAX_PROGRAM_BYTES // 512))
)
MAX_CACHE_BYTES = 2 * 2**30

logger = logging.getLogger(__name__)


STARTED = "started"  # the first word on standard error: what comes after may be the program's


class CompileError(Exception):
    """The compiler refused the program, or it took more than a program may; the text says why."""


class Compiler:
    """Turns C++ source into static executables, each of which is compiled once per machine."""

    def __init__(self, bwrap: str | None, cache: Path | None = None) -> None:
        """
        Args:
            bwrap: path of bubblewrap; None compiles without a box (level `rlimits`).
            cache: folder of the executables; by default under $XDG_CACHE_HOME or ~/.cache.
        """
        self._bwrap = bwrap
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        self._cache = cache or Path(base) / "nemo_prm" / "cpp"

    def executable(self, source: str, unwanted: Callable[[], bool] = lambda: False) -> int:
        """Return a descriptor of the executable; the caller closes it.

        Args:
            source: in C++.
            unwanted: asked ten times a second; True ends the compiler.

        Raises:
            CompileError: the program's fault.
            JudgeFailure: there is no compiler, no disk, no process to be had.
            CancelledError: it was unwanted.
        """
        text = source.encode("utf-8", "surrogatepass")
        compiler = shutil.which("g++")
        if compiler is None:
            raise JudgeFailure("there is no g++ on PATH to compile C++ programs with (Debian: g++)")
        key = hashlib.sha256(b"\0".join([_version(compiler), " ".join(FLAGS + STANDARDS).encode(), text])).hexdigest()
        path = self._cache / key
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.utime(path)
            return self._open(path)
        try:
            program = self._compile(compiler, text, unwanted)
        except OSError as error:
            raise JudgeFailure(f"the compiler cannot be started: {error}") from error
        try:
            self._keep(path, program)
        except OSError as error:  # it costs time, but no verdict
            _warn_once(f"the cache of compiled programs {self._cache} cannot be written: {error}")
            return _in_memory(program)
        return self._open(path)

    def _open(self, path: Path) -> int:
        if self._bwrap is not None:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return _in_memory(path.read_bytes())  # Landlock hides the cache, but not a file of no folder

    def _compile(self, compiler: str, source: bytes, unwanted: Callable[[], bool]) -> bytes:
        with tempfile.TemporaryDirectory(prefix="nemo_prm_cpp_") as folder, tempfile.TemporaryFile() as errors:
            first, second = (
                f"{compiler} -std={standard} {' '.join(FLAGS)} -x c++ -o program - <source >/dev/null"
                for standard in STANDARDS
            )
            build = f"cat >source; {first} || {{ status=$?; {second} 2>/dev/null || exit $status; }}"
            script = f"echo {STARTED} >&2; {LIMITS}{build}; cat program"
            prefix = self._box(compiler) if self._bwrap else []
            nobody = NOBODY if not self._bwrap and os.geteuid() == 0 else None
            if nobody is not None:  # what it includes should at least not be root's
                os.chown(folder, nobody, nobody)
            process = subprocess.Popen(
                [*prefix, "/bin/sh", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": "."},
                cwd=folder,
                start_new_session=True,
                user=nobody,
                group=nobody,
                extra_groups=None if nobody is None else [],
            )
            try:
                program = _output(process, source, unwanted)
            except subprocess.TimeoutExpired:
                raise CompileError(f"compiling takes over {COMPILE_TIME_S} s") from None
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            errors.seek(0)
            message = errors.read(100_000).decode("utf-8", "replace")
        if process.returncode in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):  # of the shell, or of what it started
            raise CompileError("the compiler says too much about it")
        if not message.startswith(STARTED) or process.returncode not in (0, 1, 4):  # 4: a crash of the compiler
            # The shell did not get as far as the source, or could not start the compiler.
            raise JudgeFailure(f"the compiler cannot be started: {message[:300]} (status {process.returncode})")
        if process.returncode == 0 and 0 < len(program) <= MAX_PROGRAM_BYTES:
            return program
        raise CompileError(_essence(message.removeprefix(STARTED).lstrip()) or "the compiler made no program")

    def _box(self, compiler: str) -> list[str]:
        """The compiler's own box: the system's programs, libraries and headers, read-only."""
        assert self._bwrap is not None
        command = [self._bwrap, "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-user"]
        for path in ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin"):
            if os.path.islink(path):
                command += ["--symlink", os.readlink(path), path]
            else:
                command += ["--ro-bind-try", path, path]
        for folder in ("/usr/bin", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/include", "/usr/local/include"):
            command += ["--ro-bind-try", folder, folder]
        for path in ("/etc/alternatives", "/etc/ld.so.cache", os.path.dirname(os.path.realpath(compiler))):
            command += ["--ro-bind-try", path, path]
        return command + [
            "--dev-bind",
            "/dev/null",
            "/dev/null",
            "--tmpfs",
            "/tmp",
            "--chdir",
            "/tmp",
            "--die-with-parent",
            "--",
        ]

    def _keep(self, path: Path, data: bytes) -> None:
        """Write a file of the cache, whole or not at all, and make room for it."""
        self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self._cache, prefix=".", delete=False) as file:
            file.write(data)
        os.chmod(file.name, 0o555)  # programs run as another user
        os.replace(file.name, path)
        self._evict()

    def _evict(self) -> None:
        """Remove the executables used least recently while there are too many."""
        entries = []
        for entry in os.scandir(self._cache):
            with contextlib.suppress(FileNotFoundError):  # another process made room, too
                entries.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        excess = sum(size for _, size, _ in entries) - MAX_CACHE_BYTES
        for _, size, path in sorted(entries):
            if excess <= 0:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            excess -= size


def _output(process: subprocess.Popen[bytes], source: bytes, unwanted: Callable[[], bool]) -> bytes:
    """What the compiler writes; raises TimeoutExpired or CancelledError when it is to be killed."""
    deadline = time.monotonic() + 3 * COMPILE_TIME_S
    unsent: bytes | None = source
    while True:
        try:
            return process.communicate(unsent, timeout=0.1)[0]
        except subprocess.TimeoutExpired:
            unsent = None  # it goes on with the rest by itself
            if unwanted():
                raise CancelledError from None
            if time.monotonic() > deadline:
                raise


def _essence(message: str) -> str:
    """The part of the compiler's words that helps, at most 1500 characters: of long ones, what names the program."""
    if "Killed" in message:
        return f"compiling takes over {COMPILE_TIME_S} s"
    if len(message) > 1500:
        lines = [line for line in message.splitlines() if "<stdin>:" in line or "error:" in line]
        message = "\n".join(lines) or message
    return message[:1500]


def _in_memory(program: bytes) -> int:
    """A descriptor of a file without a folder."""
    with open(os.memfd_create("program"), "wb") as copy:
        copy.write(program)
        copy.flush()
        return os.open(f"/proc/self/fd/{copy.fileno()}", os.O_RDONLY | os.O_CLOEXEC)


@functools.lru_cache
def _warn_once(message: str) -> None:
    logger.warning(message)


@functools.lru_cache
def _version(compiler: str) -> bytes:
    """What makes another executable of the same source."""
    try:
        return subprocess.run([compiler, "--version"], capture_output=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise JudgeFailure(f"{compiler} does not start: {error}") from error
