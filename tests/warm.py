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
"""Python scripts as forks of a process that has imported what they need, so that a start takes milliseconds.

    warm = Warm("nemo_prm.serving.reward", ...)
    process = warm.start("scripts/serve_reward.py", "server.port=0", stdout=file)
    process.send_signal(signal.SIGTERM)
    process.wait(60)

The process is the script as a user starts it: a session of its own, `sys.argv`, environment, output, exit code. What
it does not show is its environment and its command line in /proc: those are the first process's.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from nemo_prm import supervisor

ROOT = Path(__file__).resolve().parents[1]


class Process:
    """A started script, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, arguments: list[str], status: int) -> None:
        """Args:
        arguments: script and arguments, for messages.
        status: a pipe that tells the process's number and, once it has ended, its exit code.
        """
        self.args = arguments
        self.returncode: int | None = None
        self._status = open(status, encoding="ascii")  # noqa: SIM115, closed once it has told the exit code
        self.pid = int(self._status.readline())

    def poll(self, patience_s: float = 0.0) -> int | None:
        """Return the exit code, -n after signal n; None where it still runs after at most `patience_s`."""
        if self.returncode is None and select.select([self._status], [], [], patience_s)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        while (code := self.poll(3600.0 if timeout is None else timeout)) is None:
            if timeout is not None:
                raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens to a process that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Warm:
    """Starts scripts that find `modules` imported; a context manager that ends them and all that came of them."""

    def __init__(self, *modules: str, **environment: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._first = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *modules],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._connection = ours

    def start(
        self,
        *arguments: str,
        stdout: io.IOBase | int,
        stderr: io.IOBase | int = subprocess.STDOUT,
        cwd: Path = ROOT,
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start a script.

        Args:
            arguments: its path, from `cwd`, and its arguments.
            stdout: an open file, or its descriptor.
            stderr: likewise; by default where stdout goes.
            cwd: where it runs.
            env: its whole environment, by default this process's.
        """
        told, status = os.pipe()
        output = stdout if isinstance(stdout, int) else stdout.fileno()
        errors = output if stderr == subprocess.STDOUT else stderr if isinstance(stderr, int) else stderr.fileno()
        request = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
        socket.send_fds(self._connection, [json.dumps(request).encode()], [output, errors, status])
        os.close(status)
        return Process(list(arguments), told)

    def run(
        self, *arguments: str, timeout: float, cwd: Path = ROOT, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a script to its end; it is killed after `timeout` seconds, with `subprocess.TimeoutExpired`."""
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            process = self.start(*arguments, stdout=output, stderr=errors, cwd=cwd, env=env)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            texts = [file.read() for file in (output, errors) if file.seek(0) == 0]
        return subprocess.CompletedProcess(process.args, code, *texts)

    def left_behind(self, patience_s: float = 10.0) -> list[int]:
        """Processes that came of scripts, all of which have ended, and are still there after at most this long."""
        deadline = time.monotonic() + patience_s
        while (left := supervisor.descendants(self._first.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return left

    def end(self) -> None:
        self._connection.close()
        self._first.wait(20)

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def main(connection: socket.socket, modules: list[str]) -> None:
    supervisor.become_subreaper()  # what a script leaves behind becomes ours, and shows
    before = dict(os.environ)
    for module in modules:
        importlib.import_module(module)
    set_by_imports = {name: value for name, value in os.environ.items() if before.get(name) != value}
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if not message:  # the tests have ended
            break
        if os.fork() == 0:
            connection.close()
            request = json.loads(message)
            keep(request | {"env": set_by_imports | request["env"]}, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
    for pid in supervisor.descendants(os.getpid()):
        os.kill(pid, signal.SIGKILL)


def keep(request: dict, output: int, errors: int, status: int) -> NoReturn:
    """Run a script in a child, and tell its number and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (pid := os.fork()) == 0:
        os.close(status)
        become(request, output, errors)
    for descriptor in (output, errors):
        os.close(descriptor)
    os.write(status, b"%d\n" % pid)
    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def become(request: dict, output: int, errors: int) -> NoReturn:
    os.setsid()
    for wanted, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), output, errors)):
        os.dup2(descriptor, wanted)
    os.closerange(3, 1 + max(output, errors))
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["arguments"]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
