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
"""The reward of PSGPO: unit-test outcome at the last token, dense line rewards at the newlines.

Shapes: B responses padded to S tokens; column t-1 of [B, S-1] belongs to the action "token t".
"""

from __future__ import annotations

import torch


def compose_rewards(
    outcomes: torch.Tensor,
    line_rewards: torch.Tensor,
    total_lengths: torch.Tensor,
    lambda_failed: float = 0.25,
    lambda_passed: float = 0.025,
) -> torch.Tensor:
    """R(x, y) = R_UT(x, y) + lambda * sum_i r_i, each term at its own token.

    PSGPO, arXiv 2410.17621, Eq. 3 and section 4.2 (the defaults are the paper's).

    Args:
        outcomes: float [B], R_UT: 1 where the response passed every unit test, 0 where not (or the tests' share),
            NaN where unknown. Of a prompt that a reward model judges: its reward.
        line_rewards: float [B, S-1], r_i at the token that ends line i, 0 elsewhere.
        total_lengths: int64 [B], tokens of prompt and response together; the outcome is paid at total_lengths - 2.
        lambda_failed: weight of the line rewards where the outcome is under 1.
        lambda_passed: weight of the line rewards where the outcome is 1.

    Returns:
        float32 [B, S-1]. The row of an unknown outcome is NaN throughout: it must be masked out, never trained on.
    """
    weight_B = torch.where(outcomes >= 1, lambda_passed, lambda_failed)
    rewards = weight_B.unsqueeze(1) * line_rewards.float()
    rows = torch.arange(rewards.size(0), device=rewards.device)
    rewards[rows, (total_lengths - 2).clamp(min=0)] += outcomes.float()
    return torch.where(outcomes.isnan().unsqueeze(1), float("nan"), rewards)
