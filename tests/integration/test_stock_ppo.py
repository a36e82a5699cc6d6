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
"""With lambda 0 and without ValueInit every number is that of a stock NeMo-Aligner run with the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ppo_runs import command, logged, run, serve

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

STOCK = Path(__file__).with_name("stock_ppo.py")
OVERRIDES = [
    "trainer.ppo.max_steps=3",
    "trainer.ppo.save_interval=3",
    "model.ppo.rollout_micro_batch_size=8",
    "model.ppo.forward_micro_batch_size=8",
    "model.micro_batch_size=2",
    "model.global_batch_size=4",
]
NO_VALUE_INIT = ("value_init=none", "model.global_batch_size=4")


def test_lambda_0_is_the_stock_run(hand_rollout_models: Path, tmp_path: Path) -> None:
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    with serve(hand_rollout_models, ours, *NO_VALUE_INIT) as server:
        dense = ("dense_reward=true", "lambda_failed=0", "lambda_passed=0")
        run(command(hand_rollout_models, ours, server.port, *OVERRIDES, *dense), ours / "actor.log")
    with serve(hand_rollout_models, stock, *NO_VALUE_INIT) as server:
        arguments = command(hand_rollout_models, stock, server.port, *OVERRIDES, "dense_reward=false")
        run([str(STOCK), *arguments[1:]], stock / "actor.log")
    expected, found = logged(stock), logged(ours)
    assert {step for step, name in expected if name.startswith("train_rollouts/")} == {0, 1, 2}
    names = {name for _, name in expected}
    assert names >= {"train_rollouts/advantages_mean", "train_rollouts/returns_std", "train_optim/loss", "train/loss"}
    assert {key: found[key] for key in expected} == expected
