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
"""The scalar head of a reward model, critic or PRM: a new one, and an affine map of the one there is."""

from __future__ import annotations

from typing import Any

import torch
from nemo.utils import AppState


def find_head(model: Any) -> Any:
    """The head of a host's reward model; None on pipeline stages but the last."""
    return getattr(getattr(model.model, "module", model.model), "rm_head", None)


@torch.no_grad()
def reset_head(model: Any, seed: int) -> None:
    """Give the model a new head: weights normal with `model.init_method_std`, bias 0.

    The host draws each tensor-parallel rank's part from that rank's own stream; here the parts are cut from one
    matrix, so that a model begins alike whatever its parallelism.

    Args:
        model: a host's reward model.
        seed: of the weights.
    """
    head = find_head(model)
    if head is None:
        return
    rows, columns = head.weight.shape  # its inputs are split over the tensor-parallel ranks
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, model.cfg.hidden_size, generator=generator) * model.cfg.get("init_method_std", 0.02)
    start = (AppState().tensor_model_parallel_rank or 0) * columns
    head.weight.copy_(weight[:, start : start + columns])
    head.bias.zero_()


@torch.no_grad()
def map_head(model: Any, scale: float, offset: float) -> None:
    """Change the head so that the model's output s becomes scale * s + offset."""
    head = find_head(model)
    if head is not None:
        head.weight.mul_(scale)
        head.bias.mul_(scale).add_(offset)
