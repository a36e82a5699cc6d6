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

The policy has random weights and samples. The critic lives on when the actor is killed.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from ppo_runs import command, logged, run, serve, start
from warm import Process

from nemo_prm.supervisor import descendants

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

STEPS = 5
OVERRIDES = [
    f"trainer.ppo.max_steps={STEPS}",
    "trainer.ppo.save_interval=2",
    "model.ppo.rollout_micro_batch_size=8",
    "model.ppo.forward_micro_batch_size=8",
    "model.micro_batch_size=2",
    "model.global_batch_size=4",
]


def wait_for(path: Path, process: Process, log: Path, text: str = "", timeout_s: float = 120) -> None:
    """Return when the file is there and holds the text."""
    deadline = time.monotonic() + timeout_s
    while not path.exists() or text not in path.read_text():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)


def none_left(processes: list[int], timeout_s: float = 10) -> bool:
    """Whether the processes, among them those that run programs, end by themselves."""
    deadline = time.monotonic() + timeout_s
    while any(Path(f"/proc/{process}").exists() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_killed_and_started_again(hand_rollout_models: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with serve(hand_rollout_models, whole, "model.global_batch_size=4") as server:
        run(command(hand_rollout_models, whole, server.port, *OVERRIDES), whole / "actor.log")
    with serve(hand_rollout_models, killed, "model.global_batch_size=4") as server:
        arguments = command(hand_rollout_models, killed, server.port, *OVERRIDES)
        log = killed / "actor.log"
        [process] = start(arguments, log)
        # in the fourth step: the critic has been trained beyond the checkpoint
        wait_for(killed / "actor/rollouts/step_000003.jsonl", process, log)
        came_of_it = descendants(process.pid)
        process.kill()
        assert came_of_it and none_left(came_of_it)
        assert process.wait(10) == -signal.SIGKILL
        run(arguments, log)

    expected, found = logged(whole), logged(killed)
    assert {step for step, name in expected if name.startswith("train_rollouts/")} == set(range(STEPS))
    assert {name for _, name in expected} >= {"train_rollouts/rewards", "train_optim/loss", "train/loss"}
    assert len({value for (_, name), value in expected.items() if name == "train_rollouts/rewards"}) > 1
    assert found == expected
    assert (killed / "actor/policy.nemo").exists()


def test_rloo_is_killed_and_started_again(hand_rollout_models: Path, tmp_path: Path) -> None:
    def arguments(output: Path) -> list[str]:
        output.mkdir()
        settings = ["algorithm=reinforce", "dense_reward=false", "rollouts_per_prompt=4"]
        found = command(hand_rollout_models, output, 9, *OVERRIDES, *settings)  # nobody listens on port 9
        file = output / "problems.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        # a response is a comment, and right, unless it has a newline
        file.write_text("".join(json.dumps(row | {"program_prefix": "print(1)\n#"}) + "\n" for row in rows))
        return found

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(arguments(whole), whole / "actor.log")
    again, log = arguments(killed), killed / "actor.log"
    [process] = start(again, log)
    wait_for(killed / "actor/metrics.jsonl", process, log, '"step": 2')  # beyond the checkpoint
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    run(again, log)

    expected, found = logged(whole), logged(killed)
    assert {step for step, name in expected if name.startswith("train_rollouts/")} == set(range(STEPS))
    assert len({value for (_, name), value in expected.items() if name == "train_rollouts/rewards"}) > 1
    assert found == expected
