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
"""NeMo-Aligner's REINFORCE on the unit tests' outcome: no server is needed; several responses share a micro batch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from ppo_runs import command, logged, run

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")


def test_rloo_trains_without_a_server(hand_rollout_models: Path, tmp_path: Path) -> None:
    arguments = command(
        hand_rollout_models,
        tmp_path,
        9,  # a port where nobody listens
        "algorithm=reinforce",
        "dense_reward=false",
        "outcome=pass_rate",
        "rollouts_per_prompt=4",
        "trainer.ppo.max_steps=2",
        "trainer.ppo.save_interval=2",
        "model.ppo.rollout_micro_batch_size=8",
        "model.ppo.forward_micro_batch_size=8",
        "model.micro_batch_size=4",
        "model.global_batch_size=8",
    )
    run(arguments, tmp_path / "actor.log")
    found = logged(tmp_path / "actor")
    for step in (0, 1):
        assert found[step, "train_rollouts/rollout_size"] == 8
        assert found[step, "train_rollouts/consumed_samples"] == 2 * (step + 1)  # prompts, of 4 responses each
        assert found[step, "train_rollouts/pass_rate"] == found[step, "train_rollouts/rewards"]  # one test a problem
        assert found[step, "train_rollouts/unknown_outcomes"] == 0
        assert math.isfinite(found[step, "train_optim/loss"]) and math.isfinite(found[step, "train_optim/grad_norm"])
    assert "line_rewards" not in {name.rpartition("/")[2] for _, name in found}
    assert (tmp_path / "actor/policy.nemo").exists()


def test_two_data_parallel_ranks_share_a_batch(hand_rollout_models: Path, tmp_path: Path) -> None:
    arguments = command(
        hand_rollout_models,
        tmp_path,
        9,
        "algorithm=reinforce",
        "dense_reward=false",
        "rollouts_per_prompt=4",
        "trainer.ppo.max_steps=2",
        "trainer.ppo.initial_policy_kl_penalty=0",
        "model.ppo.rollout_micro_batch_size=4",
        "model.ppo.forward_micro_batch_size=4",
        "model.micro_batch_size=4",
        "model.global_batch_size=8",
        ranks=2,
    )
    run(arguments, tmp_path / "actor.log", ranks=2)
    found = logged(tmp_path / "actor")
    assert [found[step, "train_optim/optim_step"] for step in (0, 1)] == [0, 1]  # one step a batch, as on one rank
    assert [found[step, "train_rollouts/rollout_size"] for step in (0, 1)] == [8, 8]
    assert found[1, "train_rollouts/init_policy_kl"] == 0
    assert math.isfinite(found[1, "train_optim/grad_norm"])
