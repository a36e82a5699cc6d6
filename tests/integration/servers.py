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
"""Start a server as a user would, in a process group of its own, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import TracebackType

from warm_stack import stack

ROOT = Path(__file__).resolve().parents[2]
MARK = "NEMO_PRM_TEST_SERVER"
HEAVY = {f"scripts/serve_{name}.py" for name in ("critic", "generation", "reward")}  # the stack is imported already


class Server:
    """A server script as a subprocess; a context manager that ends it and everything that came of it."""

    def __init__(self, log: Path, *command: str, timeout_s: float = 120.0, **environment: str) -> None:
        """Start `python *command` in the repository and wait for its line "ready on URL".

        Args:
            log: where its output goes.
            command: script and arguments; "server.port=0" makes it choose a free port.
            timeout_s: how long it may take until it is ready.
            environment: variables beside this process's own.
        """
        self.log, self.mark = log, uuid.uuid4().hex
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {MARK: self.mark, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        with log.open("ab") as output:
            start = output.tell()
            variables = os.environ | own | environment
            if command[0] in HEAVY:
                self.process = stack().start(*command, stdout=output, env=variables)
            else:
                self.process = subprocess.Popen(
                    [sys.executable, *command],
                    cwd=ROOT,
                    env=variables,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        try:
            self.url = self._wait_until_ready(start, timeout_s)
        except BaseException:
            self.end()
            raise

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def _wait_until_ready(self, start: int, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            text = self.log.read_bytes()[start:].decode(errors="replace")
            for line in text.splitlines(keepends=True):
                if line.startswith("ready on ") and line.endswith("\n"):
                    return line.split()[2]
            assert self.process.poll() is None, (
                f"the server ended with code {self.process.returncode}:\n{text[-3000:]}"
            )
            time.sleep(0.1)
        raise AssertionError(f"the server was not ready after {timeout_s} s:\n{text[-3000:]}")

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Send a signal to the server alone and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def processes(self) -> list[int]:
        """Every living process that came of this server, whoever its parent is now.

        They inherit its mark, or, where they are forks of a process that began without it, its session.
        """
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                marked = f"{MARK}={self.mark}".encode() in Path("/proc", entry, "environ").read_bytes()
                state, _, _, session = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:  # ended in the meantime
                continue
            if marked or (int(session) == self.process.pid and state != "Z"):
                found.append(int(entry))
        return found

    def all_gone(self, timeout_s: float = 10.0) -> bool:
        """Whether nothing of it is left after at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def end(self) -> None:
        """End whatever is left, for the tear-down."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if not self.all_gone():
            for process in self.processes():
                os.kill(process, signal.SIGKILL)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
