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
"""A PPO run that is killed and started again gives the numbers of one that ran through, to the bit.

The policy has random weights and samples; critic and PRM are those of `hand_rollout.py`, behind one server that lives
on when the actor is killed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from servers import ROOT, Server

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

STEPS = 5  # a checkpoint after the second and the fourth


def serve(folder: Path, output: Path) -> Server:
    return Server(
        folder / f"{output.name}_critic.log",
        "scripts/serve_critic.py",
        f"checkpoint={folder / 'prm.nemo'}",
        f"output={output / 'critic'}",
        "combined=true",
        "model.micro_batch_size=1",
        "model.global_batch_size=4",
        "server.port=0",
    )


def command(folder: Path, output: Path, port: int) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "scripts/train_ppo.py"),
        f"policy={folder / 'policy.nemo'}",
        f"problems={folder / 'many_problems.jsonl'}",
        f"output={output / 'actor'}",
        f"reward.port={port}",
        f"critic.port={port}",
        f"trainer.ppo.max_steps={STEPS}",
        "trainer.ppo.save_interval=2",
        "model.ppo.num_rollout_samples=8",
        "model.ppo.rollout_micro_batch_size=8",
        "model.ppo.forward_micro_batch_size=8",
        "model.micro_batch_size=2",
        "model.global_batch_size=4",
        "model.ppo.length_params.max_length=8",
        "sandbox.minimum_level=rlimits",
    ]


def logged(folder: Path) -> dict[tuple[int, str], Any]:
    """All numbers of a run by step and name, wherever a resumed run has put them; times are left out."""
    found: dict[tuple[int, str], Any] = {}
    for path in sorted(folder.rglob("metrics.jsonl"), key=lambda path: path.stat().st_mtime):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found |= {(row["step"], name): value for name, value in row.items() if is_result(name)}
    return found


def is_result(name: str) -> bool:
    return name.startswith(("train_rollouts/", "train_optim/", "train/")) and "time" not in name


def wait_for(path: Path, process: subprocess.Popen[str], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert process.poll() is None, process.stderr.read()[-3000:] if process.stderr else ""
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)


def test_killed_and_started_again(hand_rollout_models: Path, tmp_path: Path) -> None:
    problem = json.loads((hand_rollout_models / "problems.jsonl").read_text())
    problems = [{**problem, "problem_id": str(number), "prompt": f"#c\n{number}\n"} for number in range(24)]
    (hand_rollout_models / "many_problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with serve(hand_rollout_models, whole) as server:
        done = subprocess.run(
            command(hand_rollout_models, whole, server.port), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    with serve(hand_rollout_models, killed) as server:
        arguments = command(hand_rollout_models, killed, server.port)
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            # in the fourth step: the critic has been trained beyond the checkpoint
            wait_for(killed / "actor/rollouts/step_000003.jsonl", process)
            process.send_signal(signal.SIGKILL)
        again = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
        assert again.returncode == 0, again.stderr[-3000:]

    expected, found = logged(whole), logged(killed)
    assert {step for step, name in expected if name.startswith("train_rollouts/")} == set(range(STEPS))
    assert {name for _, name in expected} >= {"train_rollouts/rewards", "train_optim/loss", "train/loss"}
    assert len({value for (_, name), value in expected.items() if name == "train_rollouts/rewards"}) > 1
    assert found == expected
    assert (killed / "actor/policy.nemo").exists()
