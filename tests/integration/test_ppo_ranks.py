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
"""PPO on two tensor-parallel or data-parallel ranks gives the numbers of one rank.

Sampling is greedy, since data-parallel ranks draw from streams of their own; one sample a micro batch, since the host
averages over micro batches, whatever their number of tokens. Every step sees every problem, since the ranks' samplers
shuffle shares of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ppo_runs import command, logged, run, serve

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

OVERRIDES = [
    "trainer.ppo.max_steps=3",
    "trainer.ppo.save_interval=3",
    "model.ppo.sampling_params.use_greedy=true",
    "model.micro_batch_size=1",
    "model.global_batch_size=8",
]


def numbers(folder: Path, output: Path, ranks: int, *overrides: str) -> dict[tuple[int, str], Any]:
    with serve(folder, output, "model.global_batch_size=8") as server:
        arguments = command(folder, output, server.port, *OVERRIDES, *overrides, ranks=ranks, problems=8)
        run(arguments, output / "actor.log", ranks)
    return logged(output)


@pytest.fixture(scope="module")
def of_one_rank(hand_rollout_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Any]:
    sizes = ("model.ppo.rollout_micro_batch_size=8", "model.ppo.forward_micro_batch_size=8")
    found = numbers(hand_rollout_models, tmp_path_factory.mktemp("one_rank"), 1, *sizes)
    assert {step for step, _ in found} == {0, 1, 2}
    return found


@pytest.mark.parametrize(
    ("parallelism", "rows"),
    [("tensor_model_parallel_size=2", 8), ("tensor_model_parallel_size=1", 4)],
    ids=["tp", "dp"],
)
def test_two_ranks_give_the_numbers_of_one(
    hand_rollout_models: Path, tmp_path: Path, of_one_rank: dict[tuple[int, str], Any], parallelism: str, rows: int
) -> None:
    sizes = (f"model.ppo.rollout_micro_batch_size={rows}", f"model.ppo.forward_micro_batch_size={rows}")
    found = numbers(hand_rollout_models, tmp_path, 2, f"model.{parallelism}", *sizes)
    assert found.keys() == of_one_rank.keys()
    for key, value in of_one_rank.items():
        if isinstance(value, float):
            assert found[key] == pytest.approx(value, abs=1e-4, rel=1e-4), key
