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
"""Prompts of coding problems for the host's rollouts; every prompt carries the index of its problem."""

from __future__ import annotations

import math
from typing import Any, Sequence

import torch
from nemo.utils import logging
from nemo_aligner.utils.utils import collate_with_batch_max_sequence_length

from nemo_prm.errors import DataError
from nemo_prm.types import Problem


class ProblemPrompts(torch.utils.data.Dataset):
    """One item per problem whose prompt leaves room for a response; the others are left out and counted."""

    def __init__(
        self, problems: Sequence[Problem], tokenizer: Any, max_prompt_length: int, rollouts_per_step: int
    ) -> None:
        """
        Args:
            problems: `problem_index` of an item indexes this sequence.
            tokenizer: the NeMo tokenizer of the policy.
            max_prompt_length: in tokens.
            rollouts_per_step: where there are fewer problems, they are repeated: the host's samplers give no batch
                at all of a dataset smaller than one batch.

        Raises:
            DataError: no prompt fits.
        """
        tokens = [tokenizer.text_to_ids(problem.prompt) for problem in problems]
        self.items = [(index, ids) for index, ids in enumerate(tokens) if len(ids) <= max_prompt_length]
        if not self.items:
            raise DataError(f"all {len(problems)} prompts are longer than {max_prompt_length} tokens")
        if len(self.items) < len(problems):
            left_out = len(problems) - len(self.items)
            logging.warning(f"left out {left_out} of {len(problems)} prompts: over {max_prompt_length} tokens")
        self.length = len(self.items) * math.ceil(rollouts_per_step / len(self.items))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """text int64 [prompt length], length, loss_multiplier as the host's RLHFDataset has them; problem_index."""
        problem_index, ids = self.items[index % len(self.items)]
        return {
            "text": torch.tensor(ids),
            "length": len(ids),
            "loss_multiplier": True,
            "problem_index": problem_index,
        }


def collate_prompts(items: Sequence[dict[str, Any]], max_response_length: int, eos_id: int) -> dict[str, torch.Tensor]:
    """The host's collate (text int64 [B, S], length int64 [B]) and problem_index int64 [B]."""
    batch = collate_with_batch_max_sequence_length(
        items,
        response_token_length=max_response_length,
        eos_id=eos_id,
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        generate_masks_and_position_ids=False,
    )
    return batch | {"problem_index": torch.tensor([item["problem_index"] for item in items])}
