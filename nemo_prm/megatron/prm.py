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
"""The process reward model: a Megatron GPT with a scalar head over all positions.

What is overridden of NeMo-Aligner's MegatronGPTRegressionRewardModel, and why:
    loss_func: the host's loss is one label per sequence, or a mean over each micro batch.
    get_loss_and_metrics: counts the labels of the global batch first, so that the loss is a mean over all of them and
        does not depend on how the batch is cut into micro batches and data-parallel ranks.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.num_microbatches_calculator import get_num_microbatches
from nemo_aligner.models.nlp.gpt.megatron_gpt_regression_reward_model import MegatronGPTRegressionRewardModel
from nemo_aligner.utils import parallel_state

from nemo_prm.megatron.losses import IGNORE, masked_mse


class MegatronGPTPRM(MegatronGPTRegressionRewardModel):
    """Scores every token; a score counts where a line ends. `model.output_sequence` must be True."""

    def __init__(self, cfg: Any, trainer: Any) -> None:
        assert cfg.output_sequence, "a PRM scores every position: model.output_sequence must be true"
        super().__init__(cfg, trainer)
        self.labels_per_micro_batch = torch.tensor(1.0)

    def loss_func(self, output_tensor: torch.Tensor, label_tensor: torch.Tensor) -> torch.Tensor:
        """Scores and labels, both [micro batch, S], to a scalar."""
        return masked_mse(output_tensor, label_tensor, self.labels_per_micro_batch.to(output_tensor.device))

    def get_loss_and_metrics(
        self, batch: dict[str, torch.Tensor], forward_only: bool
    ) -> tuple[float, dict[str, float]]:
        """One global batch of this data-parallel rank; `labels` float [B, S]."""
        num_labels = (batch["labels"] != IGNORE).sum().float().cuda()
        group = parallel_state.get_data_parallel_group()
        torch.distributed.all_reduce(num_labels, group=group)
        # the schedule divides by the micro batches and the ranks average: sum / (N / (M * D)) / M / D = sum / N
        splits = get_num_microbatches() * torch.distributed.get_world_size(group)
        self.labels_per_micro_batch = num_labels.clamp(min=1.0) / splits
        return super().get_loss_and_metrics(batch, forward_only)
