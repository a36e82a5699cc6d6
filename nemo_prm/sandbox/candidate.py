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
"""What a child of the zygote does with a candidate program: call it, run it, or serve the calls of its tests.

It runs inside the box, in the process of the program, so it imports the standard library alone, and nothing here is
safe from the program: what it says is a claim.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import gc
import io
import json
import mmap
import os
import resource
import socket
import struct
import sys
import threading
import time
import types
from typing import Any, Callable, NoReturn

from nemo_prm.sandbox import plain

REGION_BYTES = 32 * 2**20
RECURSION_LIMIT = sys.getrecursionlimit()


class Region:
    """Shared memory for the answers of one program: two little-endian uint32, count and bytes, then JSON lines.

    The judge reads it when the program is dead, as data that anyone may have written, and wipes it.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._map = memory
        self._count, self._end = 0, 8

    def add(self, **fields: Any) -> None:
        """Append one answer; one that does not fit says so, and ends the program."""
        line = json.dumps(fields).encode("ascii") + b"\n"
        if self._end + len(line) > REGION_BYTES - 64:
            line = b'{"overflow": true}\n'
        self._map[self._end : self._end + len(line)] = line
        self._end += len(line)
        self._count += 1
        self._map[:8] = struct.pack("<II", self._count, self._end - 8)
        if b"overflow" in line[:12]:
            os._exit(1)

    def count(self) -> int:
        """How many answers the program claims to have given."""
        return int.from_bytes(self._map[:4], "little")


def _load(request: dict[str, Any], region: Region, name: str = "program") -> types.ModuleType:
    """Compile and run the module that the program is."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    sys.argv = ["program.py"]
    try:
        code = compile(request["program"].removeprefix("\ufeff"), "<program>", "exec", dont_inherit=True)
    except BaseException as error:  # SyntaxError, ValueError (NUL), RecursionError, MemoryError
        region.add(compile_error=describe(error)["text"])
        os._exit(1)
    module.__dict__.update(__builtins__=builtins, __file__="program.py")
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]
    sys.setrecursionlimit(RECURSION_LIMIT + depth)  # the program has as many as it would have by itself
    exec(code, module.__dict__)
    return module


def _load_function(request: dict[str, Any], region: Region) -> Callable[..., Any]:
    """Load the program and find its entry point: `f`, or a method, `Solution.f`, of an object made for each call.

    A program that defines no `f` itself but a class `Solution` with a method `f` has meant that (LeetCode,
    LiveCodeBench), whatever it has imported under this name.
    """
    scope = _load(request, region).__dict__
    owner, _, name = request["entry_point"].rpartition(".")
    own = getattr(scope.get(name), "__module__", None) == scope.get("__name__")
    if not owner and not own and hasattr(scope.get("Solution"), name):
        owner = "Solution"
    if owner in scope and hasattr(scope[owner], name):
        return lambda *args, **kwargs: getattr(scope[owner](), name)(*args, **kwargs)
    if owner or name not in scope:
        raise NameError(f"the program does not define {request['entry_point']}")
    function: Callable[..., Any] = scope[name]
    return function


def run_program(request: dict[str, Any], region: Region) -> NoReturn:
    """Run a whole program as the interpreter would: threads are joined, exit functions run, output is flushed."""
    status = 0
    try:
        try:
            _load(request, region, "__main__")
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
            status = status if -(2**63) <= status < 2**63 else -1  # as the interpreter has it
        if threading.active_count() > 1:
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        _flush(request["program"])
        _forget(sys.modules.get("__main__"))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            _flush(request["program"])
        region.add(error=describe(error))
        status = 1
    os._exit(status & 0xFF)


def _forget(module: Any) -> None:
    """Let go of what the program has made, as the interpreter does at its end: `__del__` and `finally` may print."""
    if isinstance(module, types.ModuleType):
        for name in [name for name in module.__dict__ if name != "__builtins__"]:
            module.__dict__[name] = None
    gc.collect()
    with contextlib.suppress(Exception):
        sys.__stdout__.flush()  # type: ignore[union-attr]


def _flush(program: str) -> None:
    """Write out what the program left in its streams, those that it opened itself included, as the interpreter would.

    It may have put anything in place of `sys.stdout`; what that raises is the program's error. What a forgotten file
    raises is ignored.
    """
    if sys.stdout is not None and not getattr(sys.stdout, "closed", False):
        sys.stdout.flush()
    forgotten: list[Any] = [sys.__stdout__]
    if any(word in program for word in ("open", "Wrapper", "Buffered", "FileIO")):
        forgotten += [item for item in gc.get_objects() if isinstance(item, io.IOBase)]  # ours are frozen, not listed
    for stream in forgotten:
        with contextlib.suppress(Exception):
            if stream is not None and not stream.closed:
                stream.flush()


def open_streams() -> None:
    """Make the standard streams that all children inherit, unused: to open them takes half a millisecond."""
    sys.stdin, sys.stdout, sys.stderr = (
        open(fd, "w" if fd else "r", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        for fd in range(3)
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def run_calls(request: dict[str, Any], region: Region) -> None:
    """Answer with the value of every call, or with what it raised."""
    try:
        function = _load_function(request, region)
    except BaseException as error:
        region.add(load_error=describe(error))
        return
    for call in request["calls"]:
        try:
            args, kwargs = plain.loads(call)
            region.add(value=plain.dumps(function(*args, **kwargs)))
        except plain.NotPlainError as error:
            region.add(refused=str(error))
        except BaseException as error:
            region.add(error=describe(error))


def run_proxied(request: dict[str, Any], region: Region) -> None:
    """Serve calls that the tests make; arguments that a call changed go back with its value."""
    stream = socket.socket(fileno=3)
    try:
        function = _load_function(request, region)
    except BaseException as error:
        region.add(load_error=describe(error))
        return
    send(stream, "ready")
    while True:
        try:
            call = receive(stream, int.from_bytes(receive(stream, 4), "little")).decode("ascii")
        except (EOFError, ConnectionError):
            return
        try:
            args, kwargs = plain.loads(call)
            answer = {"value": plain.dumps(function(*args, **kwargs))}
        except plain.NotPlainError as error:
            answer = {"refused": str(error)}
        except BaseException as error:
            answer = _raised(error)
        with contextlib.suppress(plain.NotPlainError):
            after = plain.dumps((args, kwargs))
            if after != call:
                answer["args"] = after
        send(stream, json.dumps(answer))


def _raised(error: BaseException) -> dict[str, Any]:
    """What a test is told of an exception: its classes' names, most special first, and its arguments as plain data."""
    described = describe(error)
    kinds = [class_name(kind) for kind in type.mro(type(error))[:20]]
    try:
        args = plain.dumps(BaseException.args.__get__(error))  # type: ignore[attr-defined]
    except plain.NotPlainError:
        args = plain.dumps((described["text"],))
    return {"error": described["text"], "kinds": kinds, "error_args": args}


def send(stream: socket.socket, text: str) -> None:
    data = text.encode("ascii")
    stream.sendall(len(data).to_bytes(4, "little") + data)


def receive(stream: socket.socket, count: int, deadline: float | None = None) -> bytes:
    """Read so many bytes; raises TimeoutError when they are not there at the deadline, however they trickle in."""
    data = bytearray()
    while len(data) < count:
        if deadline is not None:
            stream.settimeout(max(deadline - time.monotonic(), 0.001))
        part = stream.recv(min(count - len(data), 2**20))
        if not part:
            raise EOFError("the other end went away")
        data += part
    return bytes(data)


def class_name(kind: type) -> str:
    """The name that a class was given, whatever its metaclass says of it."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return name[:100]


def describe(error: BaseException, filename: str = "<program>") -> dict[str, Any]:
    """Say what was raised and where in the program, whatever the exception does when it is looked at."""
    if isinstance(error, MemoryError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room to say so
    kind = class_name(type(error))
    try:
        message = str(error)[:300]
    except BaseException:
        message = "(its text cannot be had)"
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == filename:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    text = f"{kind}: {message}" if message else kind
    return {"kind": kind, "text": text if line is None else f"line {line}: {text}"}


MODES: dict[str, Callable[[dict[str, Any], Region], None]] = {
    "call": run_calls,
    "stdio": run_program,
    "proxied": run_proxied,
}
