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
"""The rows of a rollout batch as the host has it."""

from __future__ import annotations

from typing import Mapping, NamedTuple

import torch


class RolloutRow(NamedTuple):
    """A response of a rollout batch: its tokens behind the prompt's, and the length of both together."""

    tokens: list[int]
    prompt_length: int
    total_length: int
    problem_index: int

    @property
    def response(self) -> list[int]:
        return self.tokens[self.prompt_length : self.total_length]


def rollout_rows(batch: Mapping[str, torch.Tensor]) -> list[RolloutRow]:
    """The rows of a rollout batch.

    Args:
        batch: response_tokens int64 [B, S], prompt_lengths, response_lengths (the host's name: prompt included) and
            problem_index int64 [B].
    """
    names = ("response_tokens", "prompt_lengths", "response_lengths", "problem_index")
    return [RolloutRow(*row) for row in zip(*(batch[name].tolist() for name in names))]
