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

from typing import Any, Callable, Iterator, Sequence

import torch
from nemo.collections.nlp.data.language_modeling.megatron.data_samplers import MegatronPretrainingRandomSampler
from nemo.utils import logging
from nemo_aligner.utils import parallel_state
from nemo_aligner.utils.utils import collate_with_batch_max_sequence_length

from nemo_prm.errors import DataError
from nemo_prm.types import Problem


class ProblemPrompts(torch.utils.data.Dataset):
    """Problems whose prompt leaves room for a response, of which a step takes a batch; the others are counted.

    Its length is that of an epoch: as many prompts as fill whole steps, one step where they fill none.
    """

    def __init__(
        self, problems: Sequence[Problem], tokenizer: Any, max_prompt_length: int, rollouts_per_step: int
    ) -> None:
        """
        Args:
            problems: `problem_index` of an item indexes this sequence.
            tokenizer: the NeMo tokenizer of the policy.
            max_prompt_length: in tokens.
            rollouts_per_step: prompts of a step; where there are fewer problems, some are in it more than once.

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
        self.length = max(len(self.items) // rollouts_per_step, 1) * rollouts_per_step

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


class PromptSampler(MegatronPretrainingRandomSampler):
    """The host's random order, in whole steps and over all problems: an epoch begins where the former has ended.

    The host's own leaves the same last problems out of every epoch, and ends its epochs between the micro batches of a
    step. An epoch that holds all problems, and the first, are as the host's.
    """

    def __init__(self, num_problems: int, **settings: Any) -> None:
        """
        Args:
            num_problems: that the indices count.
            settings: of the host's sampler; `total_samples` is the length of an epoch, in whole steps.
        """
        super().__init__(**settings)
        self.num_problems = num_problems

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield [(self.epoch * self.total_samples + index) % self.num_problems for index in batch]


def prompt_loader(
    prompts: ProblemPrompts, seed: int, mbs: int, gbs: int, collate_fn: Callable[..., Any], consumed_samples: int
) -> torch.utils.data.DataLoader:
    """What the host's trainers take a step's prompts from; they build it anew for each step, on every rank.

    Args:
        prompts: of a run.
        seed: of their order.
        mbs: prompts that a rank generates for at once.
        gbs: prompts of a step.
        collate_fn: as `collate_prompts`.
        consumed_samples: prompts of all steps before.
    """
    sampler = PromptSampler(
        len(prompts.items),
        total_samples=len(prompts),
        consumed_samples=consumed_samples,
        micro_batch_size=mbs,
        data_parallel_rank=parallel_state.get_data_parallel_rank(),
        data_parallel_size=parallel_state.get_data_parallel_world_size(),
        global_batch_size=gbs,
        seed=seed,
    )
    return torch.utils.data.DataLoader(prompts, batch_sampler=sampler, collate_fn=collate_fn)


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
