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
"""LoRA of a PRM, through the host's PEFT: low-rank adapters and the scalar head are trained, all else is frozen.

W' = W + alpha / dim * B A, Hu et al., arXiv 2106.09685, Eq. 3.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

import torch
from megatron.core import parallel_state
from nemo.collections.nlp.modules.common.megatron.adapters.parallel_adapters import AdapterName
from nemo.collections.nlp.parts.peft_config import LoraPEFTConfig
from omegaconf import DictConfig

ADAPTED = {
    AdapterName.LORA_KQV_ADAPTER: "linear_qkv",
    AdapterName.LORA_Hto4H_ADAPTER: "linear_fc1",
    AdapterName.LORA_4HtoH_ADAPTER: "linear_fc2",
}
ADAPTER_KEY = ".adapter_layer."  # in the names of an adapter's parameters


class AdapterDict(torch.nn.ModuleDict):
    """Where the host keeps a layer's adapters, and how they are split over tensor-parallel ranks.

    Megatron's checkpoints take parameters of a module that does not say how it is split to be the same on all ranks.
    """

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple[Any, ...] = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, adapter in self.items():
            found |= adapter.sharded_state_dict(f"{prefix}{name}.", sharded_offsets, metadata)
        return found


def add_lora(model: Any, cfg: DictConfig) -> None:
    """Freeze the model but its head, and add new adapters, which change nothing yet.

    `setup_complete` of the host's mixin stays False: checkpoints hold the whole model in Megatron's own format, and a
    run resumes like any other.

    Args:
        model: a `MegatronGPTPRM` with its weights, before it has an optimizer.
        cfg: of the model, with `peft`.
    """
    adapters = LoraPEFTConfig(cfg)
    adapters.tunable_base_param_names = ["rm_head"]
    model.add_adapter(adapters)
    for module in model.model.modules():
        if hasattr(module, "adapter_layer"):
            module.adapter_layer.__class__ = AdapterDict


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """Have the adapters' part in the weights while the block runs; collective over the tensor-parallel ranks."""
    kept = []
    with torch.no_grad():
        for module in model.model.modules():
            for name, linear in ADAPTED.items():
                adapter = module.adapter_layer[name] if name in getattr(module, "adapter_layer", ()) else None
                if adapter is not None:
                    weight = getattr(module, linear).weight
                    kept.append((weight, weight.clone()))
                    weight.add_(low_rank_part(adapter))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in kept:
                weight.copy_(before)


def low_rank_part(adapter: Any) -> torch.Tensor:
    """alpha / dim * B A, as this tensor-parallel rank has the weight that it is added to.

    The rank has some rows of B. Where the adapted layer splits its outputs it has some rows of A too, and needs all of
    A; where the layer splits its inputs it has some columns of A, and needs all of B.
    """
    inner, outer = adapter.linear_in.weight, adapter.linear_out.weight
    if adapter.input_is_parallel:
        outer = all_rows(outer)
    else:
        inner = all_rows(inner)
    return adapter.alpha / adapter.dim * (outer @ inner)


def all_rows(rows: torch.Tensor) -> torch.Tensor:
    """Join the rows [N / ranks, M] of all tensor-parallel ranks."""
    group = parallel_state.get_tensor_model_parallel_group()
    parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(parts, rows.contiguous(), group=group)
    return torch.cat(parts)
