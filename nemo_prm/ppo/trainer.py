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
"""PPO with rewards at every line: NeMo-Aligner's PPOTrainer, whose `fit` runs unchanged.

What is overridden, and why:
    compute_rollout_metrics: the host logs one scalar reward per response (`.item()`); here it is the row's sum, and
        the outcome, the line rewards and the number of lines are logged beside it.
    generate_ppo_data: a response whose verdict is unknown leaves the mask, so that neither the actor's loss, nor the
        critic's, nor the advantages' statistics see it.
The reward tensor itself enters through `compat.dense_ppo_rewards`: [B, S-1] rewards are used as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from nemo_aligner.algorithms.ppo import PPOTrainer
from nemo_aligner.utils import parallel_state
from nemo_aligner.utils.distributed import normalize_tensor


class DensePPOTrainer(PPOTrainer):
    """Its `rm_critic` is a `nemo_prm.ppo.client.DenseRewardClient`. B responses padded to S tokens."""

    def compute_rollout_metrics(self, rollout_batch: Any) -> dict[str, Any]:
        """rewards float [B, S-1] of the global batch, NaN rows unknown."""
        rewards_B = rollout_batch["rewards"].sum(dim=-1)
        known_B = ~rewards_B.isnan()
        metrics = super().compute_rollout_metrics({**rollout_batch, "rewards": rewards_B.nan_to_num()})
        metrics["rewards"] = rewards_B[known_B].mean().item()
        return metrics | self._outcome_metrics()

    def generate_ppo_data(self, rollout_batch: Any) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The host's result, where rows of unknown reward have an empty mask and leave the normalisation alone.

        The logged means of the step still see such a row, with reward 0.
        """
        unknown_B = rollout_batch["rewards"].isnan().any(dim=-1)
        group = parallel_state.get_data_parallel_group()
        counts = torch.stack([unknown_B.sum(), (~unknown_B).sum()]).double().cuda()
        torch.distributed.all_reduce(counts, group=group)
        num_unknown, num_known = counts.tolist()
        if num_unknown == 0:
            return super().generate_ppo_data(rollout_batch)
        normalise, self.cfg.normalize_advantages = self.cfg.normalize_advantages, False
        try:
            data, metrics = super().generate_ppo_data(
                {**rollout_batch, "rewards": rollout_batch["rewards"].nan_to_num()}
            )
        finally:
            self.cfg.normalize_advantages = normalise
        data["mask"][unknown_B] = 0
        if num_known == 0:  # nothing to learn from; the mean over nothing would be NaN, and end in the weights
            data["advantages"].zero_()
        elif normalise:
            data["advantages"] = normalize_tensor(data["advantages"], data["mask"], group=group)
        return data, metrics

    def _outcome_metrics(self) -> dict[str, float]:
        """Means over the step's rollouts of all data-parallel ranks; NaN where nothing is known."""
        totals = self.rm_critic.take_totals()
        names = sorted(totals)
        summed = torch.tensor(
            [float(totals[name]) for name in names], dtype=torch.float64, device=torch.cuda.current_device()
        )
        torch.distributed.all_reduce(summed, group=parallel_state.get_data_parallel_group())
        totals = dict(zip(names, summed.tolist()))
        known, responses = totals["known"], totals["responses"]
        metrics = {
            "pass_rate": totals["passed"] / known if known else float("nan"),
            "unknown_outcomes": responses - known,
        }
        if self.rm_critic.cfg.dense_reward:  # without the PRM server nobody has counted the lines
            metrics["line_rewards"] = totals["line_rewards"] / responses if responses else float("nan")
            metrics["lines_per_response"] = totals["lines"] / responses if responses else float("nan")
        return metrics
