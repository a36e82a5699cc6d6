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
    build_transformer_config, _make_data_iterator_list: each micro batch is cut to its own longest row, and pipeline
        stages tell each other how long it is.
    save_to, sharded_state_dict: a `.nemo` holds adapters merged into the weights, as a plain PRM.
    infer: the head's output becomes a score, by the loss that it was trained with.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Iterator

import torch
from megatron.core.num_microbatches_calculator import get_num_microbatches
from nemo.collections.nlp.parts.mixins.nlp_adapter_mixins import NLPAdapterModelMixin
from nemo_aligner.models.nlp.gpt.megatron_gpt_regression_reward_model import MegatronGPTRegressionRewardModel
from nemo_aligner.utils import parallel_state

from nemo_prm.megatron import lora
from nemo_prm.megatron.losses import IGNORE, masked_cross_entropy, masked_mse, to_scores
from nemo_prm.megatron.prm_dataset import cut_to_longest, padded_length


class MegatronGPTPRM(NLPAdapterModelMixin, MegatronGPTRegressionRewardModel):
    """Scores every token; a score counts where a line ends. `model.output_sequence` must be True.

    `model.prm_loss` is mse or cross_entropy. It stays in the checkpoint's config: the scores' scale depends on it.
    """

    def __init__(self, cfg: Any, trainer: Any) -> None:
        assert cfg.output_sequence, "a PRM scores every position: model.output_sequence must be true"
        super().__init__(cfg, trainer)
        self.prm_loss = cfg.get("prm_loss", "mse")
        self.labels_per_micro_batch = torch.tensor(1.0)
        self.saving_merged = False

    def build_transformer_config(self) -> Any:
        """The host's, for micro batches of any length."""
        config = super().build_transformer_config()
        config.variable_seq_lengths = self.cfg.get("pipeline_model_parallel_size", 1) > 1
        return config

    @property
    def length_multiple(self) -> int:
        """What the tokens of a micro batch are a multiple of: sequence parallelism cuts them into as many parts."""
        return self.cfg.tensor_model_parallel_size if self.cfg.get("sequence_parallel", False) else 1

    def loss_func(self, output_tensor: torch.Tensor, label_tensor: torch.Tensor) -> torch.Tensor:
        """Outputs and labels, both [micro batch, S], to a scalar."""
        loss = masked_mse if self.prm_loss == "mse" else masked_cross_entropy
        return loss(output_tensor, label_tensor, self.labels_per_micro_batch.to(output_tensor.device))

    def get_loss_and_metrics(
        self, batch: dict[str, torch.Tensor], forward_only: bool
    ) -> tuple[float, dict[str, float]]:
        """One global batch of this data-parallel rank; `labels` float [B, S].

        The metrics hold `padding_share`: of the tokens computed by all data-parallel ranks, those that are padding.
        """
        micro_batches = batch["lengths"].view(get_num_microbatches(), -1)
        computed = sum(len(lengths) * padded_length(lengths, self.length_multiple) for lengths in micro_batches)
        counts = [int((batch["labels"] != IGNORE).sum()), int(batch["lengths"].sum()), computed]
        totals = torch.tensor(counts, dtype=torch.float64).cuda()
        group = parallel_state.get_data_parallel_group()
        torch.distributed.all_reduce(totals, group=group)
        num_labels, num_tokens, num_computed = totals.tolist()
        # the schedule divides by the micro batches and the ranks average: sum / (N / (M * D)) / M / D = sum / N
        splits = get_num_microbatches() * torch.distributed.get_world_size(group)
        self.labels_per_micro_batch = torch.tensor(max(num_labels, 1.0) / splits)
        loss, metrics = super().get_loss_and_metrics(batch, forward_only)
        return loss, {**metrics, "padding_share": 1 - num_tokens / num_computed}

    def infer(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The host's, as scores: float [B, S] on the scale of the labels."""
        return to_scores(super().infer(*args, **kwargs), self.prm_loss)

    def save_to(self, save_path: str) -> None:
        """The host's; adapters are merged into the weights, so that whatever loads a PRM loads this one."""
        if not self.use_peft:
            super().save_to(save_path)
            return
        self.saving_merged = True
        try:
            with lora.merged(self):
                super().save_to(save_path)
        finally:
            self.saving_merged = False

    def sharded_state_dict(self, prefix: str = "") -> dict[str, Any]:
        """The host's, without adapters while a `.nemo` is written."""
        found = super().sharded_state_dict(prefix)
        return {key: value for key, value in found.items() if not (self.saving_merged and lora.ADAPTER_KEY in key)}

    def _make_data_iterator_list(self, data_iterator: Iterator[Any]) -> Any:
        cut = partial(cut_to_longest, multiple=self.length_multiple)
        return super()._make_data_iterator_list(map(cut, data_iterator))
