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
"""Losses of the PRM, and how its output becomes a score: tensors in, tensors out."""

from __future__ import annotations

from typing import Literal

import torch

Loss = Literal["mse", "cross_entropy"]
IGNORE = -100.0  # label of a token that ends no labelled step; labels proper lie in [-1, 1]


def masked_mse(scores: torch.Tensor, labels: torch.Tensor, num_labels: float | torch.Tensor) -> torch.Tensor:
    """Mean squared error over labelled steps: sum_i (PRM(x, y_<=i) - l_i)^2 / num_labels.

    PSGPO, arXiv 2410.17621, Eq. 2.

    Args:
        scores: float [B, S].
        labels: float [B, S]; IGNORE where a token ends no labelled step.
        num_labels: the divisor. Given by the caller because micro batches hold different numbers of labels: the mean
            is over the global batch, whatever its split.

    Returns:
        Scalar; 0 where nothing is labelled.
    """
    squared = (scores.float() - labels) ** 2
    return torch.where(labels != IGNORE, squared, 0.0).sum() / num_labels


def masked_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, num_labels: float | torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over labelled steps; the alternative in PSGPO, arXiv 2410.17621, section 3.

    Args:
        logits: float [B, S], the head's output z; sigmoid(z) is the chance that a step is good.
        labels: float [B, S] in [-1, 1], mapped to chances (l + 1) / 2, so that soft labels are soft targets and the
            neutral 0 asks for one half; IGNORE where a token ends no labelled step.
        num_labels: as in `masked_mse`.

    Returns:
        Scalar; 0 where nothing is labelled.
    """
    chances = (labels.clamp(min=-1.0) + 1) / 2
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), chances, reduction="none")
    return torch.where(labels != IGNORE, entropy, 0.0).sum() / num_labels


def to_scores(outputs: torch.Tensor, loss: Loss) -> torch.Tensor:
    """Scores on the labels' scale, [-1, 1]: the output itself after mse, 2 sigmoid(z) - 1 after cross-entropy."""
    return outputs if loss == "mse" else torch.tanh(outputs / 2)
