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
"""A script in forks of a process that has imported what it needs: a start takes milliseconds, and any number is cheap.

The forked process is the script as a user starts it: its own session, `sys.argv`, output to a file, an exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from nemo_prm import supervisor

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = {
    "label": [
        "hydra.main",
        "nemo_prm.labeling.run",
        "nemo_prm.serving.client",
        "nemo_prm.serving.generators",
        "nemo_prm.serving.openai",
        "nemo_prm.serving.verifier_client",
        "anyio._backends._asyncio",  # of httpx
        "httpx",
    ]
}


class Run:
    """One run of the script."""

    def __init__(self, owner: WarmScript, pid: int, log: Path) -> None:
        self._owner, self._handle, self.log = owner, os.pidfd_open(pid), log
        self._code: int | None = None

    def running(self, patience_s: float = 0.001) -> bool:
        """Whether it still runs after at most this long."""
        return self._code is None and not select.select([self._handle], [], [], patience_s)[0]

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens to a run that has ended."""
        if self.running(0):
            signal.pidfd_send_signal(self._handle, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Return the exit code, -n after signal n."""
        if self._code is None:
            assert not self.running(timeout_s), f"it still runs after {timeout_s} s:\n{self.text()[-3000:]}"
            self._code = self._owner.next_number()
            os.close(self._handle)
        return self._code

    def text(self) -> str:
        """What it has printed, to stdout and stderr."""
        return self.log.read_text(encoding="utf-8")

    def messages(self) -> list[str]:
        """The lines that are neither progress nor empty."""
        lines = self.text().replace("\r", "\n").splitlines()
        return [line for line in lines if line.strip() and "response/s" not in line and "?response" not in line]


class WarmScript:
    """Starts runs of one script, one at a time; a context manager."""

    def __init__(self, name: str, cwd: Path) -> None:
        self._cwd, self._runs = cwd, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, name],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )

    def start(self, *overrides: str) -> Run:
        self._runs += 1
        log = self._cwd / f"run-{self._runs}.log"
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(log), *overrides]) + "\n")
        self._process.stdin.flush()
        return Run(self, self.next_number(), log)

    def next_number(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def left_behind(self, patience_s: float = 10.0) -> list[int]:
        """Processes that came of runs that have ended, and are still there after at most this long."""
        deadline = time.monotonic() + patience_s
        while (left := supervisor.descendants(self._process.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return left

    def __enter__(self) -> WarmScript:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in supervisor.descendants(self._process.pid):
            os.kill(pid, signal.SIGKILL)
        self._process.communicate(timeout=20)


def main(name: str) -> None:
    supervisor.become_subreaper()  # what a run leaves behind becomes ours, and shows
    for module in IMPORTS[name]:
        importlib.import_module(module)
    for line in sys.stdin:
        log, *overrides = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            script = ROOT / "scripts" / f"{name}.py"
            sys.argv = [str(script), *overrides]
            runpy.run_path(str(script), run_name="__main__")
            sys.exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
