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
"""Label rows as training sequences: prompt, response, EOS, with a label at the token that ends each step."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from nemo.utils import logging

from nemo_prm.data.alignment import merge_labels, step_end_tokens
from nemo_prm.errors import DataError
from nemo_prm.megatron.losses import IGNORE
from nemo_prm.megatron.vocabulary import encode_continuation, vocabulary_bytes
from nemo_prm.types import LabelRow


class PRMDataset(torch.utils.data.Dataset):
    """One item per label row; rows longer than the model's context are left out and counted."""

    def __init__(self, rows: Sequence[LabelRow], tokenizer: Any, max_length: int) -> None:
        """
        Args:
            rows: from `select_data`.
            tokenizer: the NeMo tokenizer of the model.
            max_length: tokens of context, prompt and response and EOS together.
        """
        self.eos_id = tokenizer.eos_id
        pieces = vocabulary_bytes(tokenizer, tokenizer.vocab_size)
        self.items: list[tuple[list[int], list[float]]] = []
        self.rows: list[LabelRow] = []  # of the items
        self.response_lengths: list[int] = []  # in tokens, EOS included
        self.neutral: list[set[int]] = []  # tokens at which only neutral steps end
        num_unspelled = 0
        for row in rows:
            prompt_tokens = tokenizer.text_to_ids(row.prompt)
            try:
                response_tokens = encode_continuation(tokenizer, pieces, row.response)
            except DataError as error:
                logging.warning(f"{row.problem_id} {row.response_id}: {error}")
                num_unspelled += 1
                continue
            # a response that was cut off has no EOS, here as in PPO: its last line ends at its last token
            end = [self.eos_id] if row.finish_reason == "stop" else []
            tokens = [*prompt_tokens, *response_tokens, *end]
            if len(tokens) > max_length:
                continue
            labels = [IGNORE] * len(tokens)
            spelled = [pieces[token] for token in [*response_tokens, *end]]
            ends = step_end_tokens(spelled, row.steps, row.response)
            for position, label in merge_labels(ends, row.labels).items():
                labels[len(prompt_tokens) + position] = label
            places = [len(prompt_tokens) + end for end in ends]
            self.neutral.append(set(places) - {end for end, skip in zip(places, row.neutral) if not skip})
            self.items.append((tokens, labels))
            self.rows.append(row)
            self.response_lengths.append(len(tokens) - len(prompt_tokens))
        if len(self.items) < len(rows):
            num_long = len(rows) - len(self.items) - num_unspelled
            logging.warning(
                f"left out {num_long + num_unspelled} of {len(rows)} label rows: {num_long} over {max_length} tokens, "
                f"{num_unspelled} that the tokenizer does not spell"
            )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[list[int], list[float]]:
        """Tokens and labels of one row."""
        return self.items[index]


def collate_prm(
    items: Sequence[tuple[list[int], list[float]]], eos_id: int, multiple: int = 1
) -> dict[str, torch.Tensor]:
    """Pad rows at the end, to the longest one and on to a multiple of `multiple`.

    Returns:
        inputs int64 [B, S], labels float32 [B, S] (IGNORE where unlabelled), lengths int64 [B], position_ids
        int64 [B, S], loss_mask float32 [B, S], attention_mask bool [B, 1, S, S] (True = not attended to, as the host
        has it).
    """
    lengths = torch.tensor([len(tokens) for tokens, _ in items])
    length = padded_length(lengths, multiple)
    inputs = torch.tensor([tokens + [eos_id] * (length - len(tokens)) for tokens, _ in items])
    labels = torch.tensor([row + [IGNORE] * (length - len(row)) for _, row in items], dtype=torch.float32)
    causal = torch.ones(length, length, dtype=torch.bool).triu(1)
    return {
        "inputs": inputs,
        "labels": labels,
        "lengths": lengths,
        "position_ids": torch.arange(length).expand(len(items), length),
        "attention_mask": causal.expand(len(items), 1, length, length),
        "loss_mask": (labels != IGNORE).float(),
    }


def padded_length(lengths: torch.Tensor, multiple: int) -> int:
    """The longest of `lengths`, int64 [B], rounded up to a multiple of `multiple`."""
    return -(-int(lengths.max()) // multiple) * multiple


def cut_to_longest(batch: Any, multiple: int = 1) -> Any:
    """Cut the padding that every row of a micro batch of `collate_prm` has; what `infer` feeds is left alone."""
    if not isinstance(batch, dict):
        return batch
    length = padded_length(batch["lengths"], multiple)
    cut = {name: batch[name][:, :length] for name in ("inputs", "labels", "position_ids", "loss_mask")}
    return {**batch, **cut, "attention_mask": batch["attention_mask"][..., :length, :length]}
