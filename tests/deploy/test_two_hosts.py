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
"""The fault run: servers and a data-parallel actor on two hosts, each part failing once. Needs root and iproute2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="not root, or iproute2 is missing"),
]


def test_a_run_in_which_everything_fails_once(tmp_path: Path) -> None:
    output = tmp_path / "faults"
    command = [sys.executable, str(ROOT / "scripts/bench/faults.py"), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((output / "faults.json").read_text())
    assert report["complete"] and len(report["faults"]) == 6
    assert report["starts"] == {"actor": 2, "reward": 2, "critic": 2, "verifier": 2}
    again = [each["steps_again"] for each in report["faults"]]
    assert again[:-1] == [0] * 5  # no server's death and no cut costs a step
    assert again[-1] <= 2  # the actor's costs what was done since its last save
