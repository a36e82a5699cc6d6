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
"""Rewards of steps other than lines, from the same scores: paid where a block, a function or a thought ends."""

from __future__ import annotations

from typing import Sequence

import torch

from nemo_prm.data.alignment import step_end_tokens
from nemo_prm.errors import ConfigError
from nemo_prm.protocols import Splitter
from nemo_prm.types import Language


def step_rewards(
    line_scores: torch.Tensor,
    prompt_length: int,
    pieces: Sequence[bytes],
    language: Language,
    split: Splitter,
    clamp: float | None = 1.0,
    normalise: bool = True,
    prompt: str = "",
) -> torch.Tensor:
    """Pay each step the score of the line that ends it, divided by the number of steps that are paid.

    PSGPO, arXiv 2410.17621, section 4.2, with m the number of steps in place of lines.

    Args:
        line_scores: float [S-1], the PRM's raw scores at line ends, NaN elsewhere; column t-1 belongs to token t.
        prompt_length: in tokens.
        pieces: bytes of the response's tokens, EOS included.
        language: of its code.
        split: cuts it into steps.
        clamp: bound of a score's absolute value; None for none.
        normalise: divide.
        prompt: what the response answers.

    Returns:
        float [S-1]; 0 where no step ends.

    Raises:
        ConfigError: a step ends where the PRM's server pays no line.
    """
    text = b"".join(pieces).decode(errors="surrogateescape")
    ends = list(dict.fromkeys(step_end_tokens(pieces, split(text, language, prompt), text)))
    rewards = torch.zeros_like(line_scores)
    for end in ends:
        column = prompt_length + end - 1
        if line_scores[column].isnan():
            raise ConfigError(
                "reward_steps: a step ends where the reward server scores no line; let it score the lines outside of "
                "the code fence too (serve_reward: rules.code_only=false)"
            )
        rewards[column] = line_scores[column]
    if clamp is not None:
        rewards = rewards.clamp(-clamp, clamp)
    return rewards / max(len(ends), 1) if normalise else rewards
