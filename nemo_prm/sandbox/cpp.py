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
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from nemo_prm.sandbox.box import JudgeFailure
from nemo_prm.sandbox.zygote import NOBODY

FLAGS = ("-std=gnu++20", "-O2", "-s", "-static", "-fmax-errors=5", "-fdiagnostics-color=never")
COMPILE_TIME_S = 30  # CPU; three times as much wall time
MAX_PROGRAM_BYTES = 64 * 2**20
# In seconds, KiB and blocks of 512 bytes; where a limit is lower already, that one holds.
LIMITS = "".join(
    f"ulimit {option} {most} 2>/dev/null; "
    for option, most in (("-c", 0), ("-t", COMPILE_TIME_S), ("-v", 2 * 2**20), ("-f", MAX_PROGRAM_BYTES // 512))
)
MAX_CACHE_BYTES = 2 * 2**30


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

    def executable(self, source: str) -> int:
        """Return a descriptor of the executable; the caller closes it.

        Raises:
            CompileError: the program's fault.
            JudgeFailure: there is no compiler, no disk, no process to be had.
        """
        text = source.encode("utf-8", "surrogatepass")
        compiler = shutil.which("g++")
        if compiler is None:
            raise JudgeFailure("there is no g++ on PATH to compile C++ programs with (Debian: g++)")
        key = hashlib.sha256(b"\0".join([_version(compiler), " ".join(FLAGS).encode(), text])).hexdigest()
        path = self._cache / key
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.utime(path)
            return self._open(path)
        try:
            program = self._compile(compiler, text)
        except OSError as error:
            raise JudgeFailure(f"the compiler cannot be started: {error}") from error
        self._keep(path, program)
        return self._open(path)

    def _open(self, path: Path) -> int:
        if self._bwrap is not None:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(os.memfd_create("program"), "wb") as copy:  # Landlock hides the cache, but not a file of no folder
            copy.write(path.read_bytes())
            copy.flush()
            return os.open(f"/proc/self/fd/{copy.fileno()}", os.O_RDONLY | os.O_CLOEXEC)

    def _compile(self, compiler: str, source: bytes) -> bytes:
        with tempfile.TemporaryDirectory(prefix="nemo_prm_cpp_") as folder, tempfile.TemporaryFile() as errors:
            build = f"{compiler} {' '.join(FLAGS)} -x c++ -o program - >/dev/null"
            script = f"echo {STARTED} >&2; {LIMITS}{build} && cat program"
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
                program, _ = process.communicate(source, timeout=3 * COMPILE_TIME_S)
            except subprocess.TimeoutExpired:
                raise CompileError(f"compiling takes over {COMPILE_TIME_S} s") from None
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            errors.seek(0)
            message = errors.read(3000).decode("utf-8", "replace")
        if not message.startswith(STARTED) or process.returncode not in (0, 1, 4):  # 4: a crash of the compiler
            # The shell did not get as far as the source, or could not start the compiler.
            raise JudgeFailure(f"the compiler cannot be started: {message[:300]} (status {process.returncode})")
        if process.returncode == 0 and 0 < len(program) <= MAX_PROGRAM_BYTES:
            return program
        message = message.removeprefix(STARTED).lstrip()
        raise CompileError(message[:1500] or "the compiler made no program")

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
        try:
            self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=self._cache, prefix=".", delete=False) as file:
                file.write(data)
            os.chmod(file.name, 0o555)  # programs run as another user
            os.replace(file.name, path)
            self._evict()
        except OSError as error:
            raise JudgeFailure(f"the cache of compiled programs {self._cache} cannot be written: {error}") from error

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


@functools.lru_cache
def _version(compiler: str) -> bytes:
    """What makes another executable of the same source."""
    try:
        return subprocess.run([compiler, "--version"], capture_output=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise JudgeFailure(f"{compiler} does not start: {error}") from error
