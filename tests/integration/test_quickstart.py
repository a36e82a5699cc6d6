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
"""The quickstart on the real stack, small: a user's file of three problems, to the end and to Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_prm.data.embedded import split_path

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    "responses_per_prompt=2",
    "completions=2",
    "evaluate_samples=2",
    "ppo_steps=1",
    '+overrides.train_ppo=["model.ppo.num_rollout_samples=32","model.ppo.rollout_micro_batch_size=32"]',
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a quickstart")  # the blank is on purpose
    lines = split_path("validation").read_text().splitlines()[:3]
    (folder / "my problems.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def start(folder: Path, run: str, mark: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "quickstart.py"), "problems=my problems.jsonl", f"output={run}"]
        + SETTINGS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MARK": mark},
        start_new_session=True,
    )


def left_behind(mark: str) -> list[str]:
    """The command lines of live processes with `mark` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"MARK={mark}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_a_users_file_runs_to_the_end_and_a_second_run_reuses_it(folder: Path) -> None:
    output, _ = (first := start(folder, "run", "to_the_end")).communicate(timeout=480)
    assert first.returncode == 0, output
    assert left_behind("to_the_end") == []
    assert "2 to train on and 1 held out" in output

    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert len(summary["stages"]) == 11 and not any(stage["reused"] for stage in summary["stages"])
    counts = summary["labels"]
    assert counts["correct"] + counts["revised"] + counts["wrong"] == 2 * 2
    assert set(summary["pass_at_1"]) == {"policy", "rl", "rl_prm"}
    assert all(0 <= value <= 1 for value in summary["pass_at_1"].values())
    assert {"nemo_aligner", "megatron_core", "torch"} <= set(summary["versions"])
    assert "<html" in (folder / "run" / "report.html").read_text()
    for training in ("rl", "rl_prm"):
        assert (folder / "run" / training / "policy.nemo").stat().st_size > 1e6

    started = time.monotonic()
    output, _ = (second := start(folder, "run", "again")).communicate(timeout=60)
    assert second.returncode == 0, output
    assert output.count(": reused") == 11
    assert time.monotonic() - started < 30


def test_after_ctrl_c_no_process_is_left(folder: Path) -> None:
    process = start(folder, "stopped", "ctrl_c")
    log = folder / "stopped" / "logs" / "label.log"
    deadline = time.monotonic() + 120
    while not log.exists():  # the policy's server is up, with Triton and its stubs
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    assert any("tritonserver" in command for command in left_behind("ctrl_c"))
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "stopped by SIGINT" in output
    assert left_behind("ctrl_c") == []
