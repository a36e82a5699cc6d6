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
"""`scripts/label.py` in forks of a process that has imported what it needs, so that any number of starts is cheap."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from warm import ROOT, Process, Warm

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

    def __init__(self, process: Process, log: Path) -> None:
        self._process, self.log = process, log

    def running(self, patience_s: float = 0.001) -> bool:
        """Whether it still runs after at most this long."""
        return self._process.poll(patience_s) is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens to a run that has ended."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Return the exit code, -n after signal n."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs after {timeout_s} s:\n{self.text()[-3000:]}") from None

    def text(self) -> str:
        """What it has printed, to stdout and stderr."""
        return self.log.read_text(encoding="utf-8")

    def messages(self) -> list[str]:
        """The lines that are neither progress nor empty."""
        lines = self.text().replace("\r", "\n").splitlines()
        return [line for line in lines if line.strip() and "response/s" not in line and "?response" not in line]


class WarmScript:
    """Starts runs of one script in one folder; a context manager."""

    def __init__(self, name: str, cwd: Path) -> None:
        self._script, self._cwd, self._runs = ROOT / "scripts" / f"{name}.py", cwd, 0
        self._warm = Warm(*IMPORTS[name])
        self.left_behind = self._warm.left_behind

    def start(self, *overrides: str) -> Run:
        self._runs += 1
        log = self._cwd / f"run-{self._runs}.log"
        with log.open("ab") as output:
            return Run(self._warm.start(str(self._script), *overrides, stdout=output, cwd=self._cwd), log)

    def __enter__(self) -> WarmScript:
        return self

    def __exit__(self, *_: object) -> None:
        self._warm.end()
