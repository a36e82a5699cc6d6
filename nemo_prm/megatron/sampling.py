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
"""Sampling from next-token logits: pure functions of tensors.

Shape legend: B rows, V vocabulary.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from nemo_prm.types import SamplingParams


def stream_key(prompt: str, seed: int, number: int) -> int:
    """128 bits, from what identifies a completion (prompt, seed, its number) and not from what shares its batch."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{number}/{prompt}".encode(), digest_size=16).digest(), "little")


def uniforms(prompt: str, seed: int, number: int, count: int) -> NDArray[np.float64]:
    """The random numbers in [0, 1) that decide one completion, one per token; a larger `count` begins alike."""
    return np.random.Generator(np.random.PCG64(stream_key(prompt, seed, number))).random(count)


def sample_tokens(logits: torch.Tensor, uniform: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Choose one token per row by inverting the cumulative distribution at `uniform`.

    Temperature comes first, then top-k, then top-p over what top-k left: the smallest set of most likely tokens whose
    probability reaches `top_p`.

    Args:
        logits: float [B, V]; -inf marks tokens that must not be chosen.
        uniform: float64 [B] in [0, 1); not read when `params.temperature` is 0.
        params: `max_new_tokens` is not read.

    Returns:
        int64 [B].
    """
    if params.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.double() / params.temperature, dim=-1)
    order = None
    if params.top_k > 0 or params.top_p < 1:
        kept = min(params.top_k, logits.size(-1)) if params.top_k > 0 else logits.size(-1)
        probabilities, order = probabilities.topk(kept, dim=-1)  # sorted, the most likely first
        if params.top_p < 1:
            before = probabilities.cumsum(dim=-1) - probabilities
            outside = before >= params.top_p * probabilities.sum(dim=-1, keepdim=True)
            probabilities = probabilities.masked_fill(outside, 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    target = uniform.unsqueeze(-1) * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, target, right=True).clamp(max=cumulative.size(-1) - 1)
    return (chosen if order is None else order.gather(-1, chosen)).squeeze(-1)
