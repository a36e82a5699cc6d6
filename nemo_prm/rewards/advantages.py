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
"""Advantages and returns by GAE.

Shapes: B responses padded to S tokens; column t-1 of [B, S-1] belongs to the action "token t".
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import lfilter


def advantages_and_returns(
    values: torch.Tensor,
    rewards: torch.Tensor,
    discount_factor: float,
    gae_lambda: float,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """GAE, arXiv 1506.02438, Eq. 16: A_t = delta_t + discount_factor * gae_lambda * A_{t+1}.

    NeMo-Aligner's `calculate_advantages_and_returns` (utils/ppo_utils.py of release 0.7.0) with the recurrence in one
    call, on the CPU, where that one runs a handful of kernels per token; on x86 the results are the same to the bit.

    Args:
        values: float32 [B, S-1].
        rewards: float32 [B, S-1].
        discount_factor: gamma.
        gae_lambda: lambda.
        mask: [B, S-1], 1 = counted; values and rewards elsewhere are taken as 0.

    Returns:
        Advantages and returns (advantages + values), float32 [B, S-1].
    """
    if mask is not None:
        values, rewards = values * mask, rewards * mask
    next_values = torch.nn.functional.pad(values[:, 1:], (0, 1))  # after the last token there is nothing to come
    deltas = rewards + discount_factor * next_values - values
    recurrence = np.array([1, -discount_factor * gae_lambda], dtype=np.float32)
    backwards = lfilter(np.ones(1, dtype=np.float32), recurrence, deltas.flip(-1).cpu().numpy())
    advantages = torch.from_numpy(backwards).to(values.device).flip(-1)
    return advantages, advantages + values
