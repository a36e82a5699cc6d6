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
"""scripts/slurm/common.sh with stand-ins for srun and squeue; tests/slurm has the jobs in a real Slurm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRUN = "trap 'echo a signal arrived; exit 3' TERM\necho started\n/bin/sleep 20 & wait"


def bash(folder: Path, commands: str, squeue: str = "exit 1") -> subprocess.CompletedProcess[str]:
    for name, text in (("srun", SRUN), ("squeue", squeue), ("sleep", ":")):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    variables = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(ROOT)}
    command = ["bash", "-c", f"source scripts/slurm/common.sh\ncd {folder}\n{commands}"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("said", "left"),
    [("1-02:03:04", '"01:01:53:04"'), ("30:00", '"00:00:20:00"'), ("5:00", '"00:00:00:01"'), ("UNLIMITED", "null")],
)
def test_what_is_left_but_for_a_margin(tmp_path: Path, said: str, left: str) -> None:
    result = bash(tmp_path, "MAX_TIME=$(max_time 600); echo $MAX_TIME", f"echo {said}; echo 9:00")
    assert (result.returncode, result.stdout.strip()) == (0, left)


def test_a_silent_controller_is_not_a_job_without_a_limit(tmp_path: Path) -> None:
    result = bash(tmp_path, "MAX_TIME=$(max_time 600); echo $MAX_TIME")
    assert result.returncode != 0 and result.stdout == ""


def test_a_signal_to_a_step_in_the_background_reaches_srun(tmp_path: Path) -> None:
    commands = """
        launch --ntasks=1 -- program > log & step=$!
        until grep -q started log 2>/dev/null; do /bin/sleep 0.05; done
        kill -TERM "$step"; wait "$step" || echo "ended with $?"; cat log
    """
    result = bash(tmp_path, commands)
    assert result.stdout.splitlines() == ["ended with 3", "started", "a signal arrived"], result.stderr


def test_the_result_of_an_earlier_job_does_not_make_a_failed_one_succeed(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "started", "new")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 + number, 1000 + number))
    assert bash(tmp_path, "STARTED=started; requeue_if_progress old none").returncode == 1
    assert bash(tmp_path, "STARTED=started; requeue_if_progress new none").returncode == 0
