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
"""A warm Python process that forks once per candidate program; `subprocess_verifier` is the other end.

Started as a script, alone (`python -S -s zygote.py FD FOLDER`), single-threaded, without site-packages. It never sees
an expected value. FD is a stream socket to the judge. Per program:

    judge -> zygote    4-byte length, JSON request; with it, as ancillary data, the write ends of the child's pipes
    zygote -> judge    8-byte pid of the child
    child -> judge     JSON lines on the result pipe: one answer per test, then {"done": exit status}
    judge -> zygote    1 byte: the judge has seen enough
    zygote -> judge    wait status, peak resident KiB: by now everything that the program started is dead and reaped

When the judge goes away, the socket ends; the zygote then kills the current program and itself.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ.clear()  # its variables have done their work; a candidate sees an empty environment

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import types
from typing import Any, Callable, NoReturn

REPLY = struct.Struct("<qq")
WARM = "bisect collections copy dataclasses datetime decimal enum fractions functools hashlib heapq itertools math "
WARM += "operator queue random re statistics string textwrap typing"
MEBIBYTE = 2**20
MAX_FILE_BYTES, MAX_FILES, MAX_PROCESSES, SPARE_BYTES = 16 * MEBIBYTE, 64, 4096, 64 * MEBIBYTE
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def serve(control: socket.socket, folder: str) -> None:
    """Fork a child per request until the judge closes the socket."""
    prctl: Callable[..., int] = getattr(ctypes.CDLL(None), "prctl", lambda *args: -1)
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what a program leaves behind becomes our child
    for name in WARM.split():
        importlib.import_module(name)
    with open("/proc/self/statm") as file:
        own_bytes = int(file.read().split()[0]) * resource.getpagesize()
    gc.collect()
    gc.freeze()
    control.sendall(b"R")
    zygote = os.getpid()
    while True:
        header, fds, _, _ = socket.recv_fds(control, 4, 2)
        if not header:
            return
        header += _receive(control, 4 - len(header))
        request = json.loads(_receive(control, int.from_bytes(header, "little")))
        cwd = tempfile.mkdtemp(dir=folder)
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() == zygote:
                    _run_child(request, cwd, fds, own_bytes)
            finally:
                os._exit(70)
        for fd in fds:
            os.close(fd)
        seen = False
        try:
            control.sendall(struct.pack("<q", pid))
            seen = bool(control.recv(1))
        finally:
            status, peak_kib = _kill_all(pid)
            _remove(cwd)
        if not seen:
            return
        control.sendall(REPLY.pack(status, peak_kib))


def _receive(control: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = control.recv(min(count - len(data), MEBIBYTE))
        if not part:
            raise EOFError("the judge went away")
        data += part
    return bytes(data)


def _kill_all(pid: int) -> tuple[int, int]:
    """Kill the child, its group and whatever else has become ours; returns the child's wait status and peak KiB."""
    _kill(pid)
    _, status, usage = os.wait4(pid, 0)
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        try:
            left, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if left == 0:
            with contextlib.suppress(OSError), open("/proc/thread-self/children") as file:
                for orphan in file.read().split():
                    _kill(int(orphan))
            time.sleep(0.0005)
    return status, usage.ru_maxrss


def _kill(pid: int) -> None:
    for kill in (os.kill, os.killpg):  # the pid first: it may not have its own group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _remove(folder: str) -> None:
    try:
        os.rmdir(folder)  # as a rule nothing was written
    except OSError:
        os.spawnv(os.P_WAIT, "/bin/chmod", ["chmod", "-R", "u+rwx", folder])
        os.spawnv(os.P_WAIT, "/bin/rm", ["rm", "-rf", folder])


def _run_child(request: dict[str, Any], cwd: str, fds: list[int], own_bytes: int) -> NoReturn:
    """Confine this process, run the program, answer."""
    result = fds[0]
    null = os.open(os.devnull, os.O_RDWR)
    stdin = null
    if request["mode"] == "stdio":
        stdin = os.memfd_create("stdin")
        with open(stdin, "wb", closefd=False) as file:
            file.write(request.pop("stdin").encode("utf-8", "surrogatepass"))
        os.lseek(stdin, 0, os.SEEK_SET)
    os.dup2(stdin, 0)
    os.dup2(fds[1] if len(fds) > 1 else null, 1)
    os.dup2(null, 2)
    os.closerange(3, result)
    os.closerange(result + 1, 256)
    os.chdir(cwd)
    memory = own_bytes + request["memory_mb"] * MEBIBYTE
    _limit(resource.RLIMIT_AS, memory, memory + SPARE_BYTES)
    _limit(resource.RLIMIT_CPU, request["cpu_s"], request["cpu_s"] + 1)
    _limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    _limit(resource.RLIMIT_NOFILE, MAX_FILES)
    _limit(resource.RLIMIT_NPROC, MAX_PROCESSES)
    _limit(resource.RLIMIT_CORE, 0)
    sys.stdin, sys.stdout, sys.stderr = (
        open(fd, "w" if fd else "r", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        for fd in range(3)
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    sys.argv = ["program.py"]
    gc.enable()
    plain = sys.modules.pop("plain")

    def answer(**fields: Any) -> None:
        data = json.dumps(fields).encode("ascii") + b"\n"
        while data:
            data = data[os.write(result, data) :]

    status = 0
    try:
        module = types.ModuleType("__main__" if request["mode"] == "stdio" else "program")
        sys.modules[module.__name__] = module
        try:
            code = compile(request["program"], "<program>", "exec", dont_inherit=True)
        except BaseException as error:  # SyntaxError, ValueError (NUL), RecursionError, MemoryError
            answer(compile_error=_describe(error)["text"])
            os._exit(1)
        if request["mode"] == "stdio":
            status = _run_program(code, module, answer)
        else:
            exec(code, module.__dict__)
            if request["entry_point"] not in module.__dict__:
                raise NameError(f"the program does not define {request['entry_point']}")
            if request["mode"] == "call":
                _call(module, request, answer, plain)
            else:
                _check(module, request, answer)
    except BaseException as error:
        answer(error=_describe(error))
    answer(done=status)
    os._exit(status)


def _run_program(code: types.CodeType, module: types.ModuleType, answer: Callable[..., None]) -> int:
    """Run a whole program as the interpreter would: threads are joined, exit functions run, output is flushed."""
    try:
        exec(code, module.__dict__)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    return status & 0xFF


def _call(module: types.ModuleType, request: dict[str, Any], answer: Callable[..., None], plain: Any) -> None:
    """Answer with the value of every call, or with what it raised."""
    function = module.__dict__[request["entry_point"]]
    for call in request["calls"]:
        try:
            args, kwargs = plain.loads(call)
            answer(value=plain.dumps(function(*args, **kwargs)))
        except plain.NotPlainError as error:
            answer(refused=str(error))
        except BaseException as error:
            answer(error=_describe(error))


def _check(module: types.ModuleType, request: dict[str, Any], answer: Callable[..., None]) -> None:
    """Run every `check(candidate)`; only the token, unknown to the program unless it digs for it, says passed."""
    token = request.pop("token")
    candidate = module.__dict__[request["entry_point"]]
    for source in request.pop("checks"):
        try:
            scope = dict(module.__dict__)  # tests use helpers that the problem's prefix defines
            exec(compile(source, "<test>", "exec", dont_inherit=True), scope)
            scope["check"](candidate)
            answer(passed=token)
        except BaseException as error:
            answer(error=_describe(error))


def _describe(error: BaseException) -> dict[str, Any]:
    """Say what was raised and where in the program, whatever the exception does when it is looked at."""
    if isinstance(error, MemoryError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room to say so
    kind = type.__getattribute__(type(error), "__name__")
    try:
        message = str(error)[:300]
    except BaseException:
        message = "(its text cannot be had)"
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<program>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    text = f"{kind}: {message}" if message else kind
    return {"kind": kind, "text": text if line is None else f"line {line}: {text}"}


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    _, allowed = resource.getrlimit(which)
    top = soft if hard is None else hard
    top = top if allowed == resource.RLIM_INFINITY else min(top, allowed)
    resource.setrlimit(which, (min(soft, top), top))


def _main() -> None:
    sys.path.pop(0)  # this folder is no place for a candidate's imports
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "plain.py")
    spec = importlib.util.spec_from_file_location("plain", path)
    assert spec is not None and spec.loader is not None
    sys.modules["plain"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = sys.argv[2]
    try:
        serve(socket.socket(fileno=int(sys.argv[1])), folder)
    except (EOFError, ConnectionError, BrokenPipeError):
        pass  # the judge went away
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main()
