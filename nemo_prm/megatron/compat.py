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
"""Every patch this project makes to another package, in one place, applied by one call: `apply()`.

NeMo-Aligner 0.7 and NeMo 2.2 expect NVIDIA's container: CUDA, Apex, Transformer Engine, TensorRT-LLM. Each patch below
closes one gap, says which versions need it and why, and is left out where it is not needed: on a GPU machine with the
full stack only those of kind "any" are active. `tests/integration/test_compat.py` shows for each that the
gap is still there, and so fails when a patch can be deleted.

Known gaps that need no patch: `generate(strategy=None)` raises a NameError without torchvision, so callers pass
`GPTModelTextGenerationStrategy`; `megatron_amp_O2=True` needs Apex, so CPU configurations leave it False; PyTriton's
interpreter and its orphans are handled where the server is started (`nemo_prm.serving`).

Versions: nemo-toolkit 2.2.1, nemo-aligner 0.7.0, megatron-core 0.11.0 and 0.12.3, torch 2.13.0.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import shutil
import sys
import tempfile
import types
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Callable, Literal

from nemo_prm.errors import ConfigError

SUPPORTED_MEGATRON_CORE = ("0.11.", "0.12.")


@dataclass(frozen=True)
class Patch:
    """One remedy.

    Attributes:
        name: the patched thing, short.
        kind: "cpu" where only a machine without CUDA or without NVIDIA's packages needs it; "any" otherwise.
        versions: the distributions and versions that were seen to need it.
        reason: what happens without it.
        needed: whether this machine needs it; must not import anything heavy before `apply()` does.
        function: applies it.
    """

    name: str
    kind: Literal["cpu", "any"]
    versions: str
    reason: str
    needed: Callable[[], bool]
    function: Callable[[], None]


PATCHES: list[Patch] = []
_applied: list[str] = []


def no_cuda() -> bool:
    import torch

    return not torch.cuda.is_available()


def lacks(package: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(package) is None


def patch(
    name: str, *, versions: str, reason: str, needed: Callable[[], bool] = no_cuda, kind: Literal["cpu", "any"] = "cpu"
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register the decorated function as the remedy `name`; the order of definition is the order of application."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        PATCHES.append(Patch(name, kind, versions, reason, needed, function))
        return function

    return register


def apply(skip: tuple[str, ...] = ()) -> list[str]:
    """Apply every patch this machine needs, once per process; call it before NeMo is imported.

    Args:
        skip: names to leave out (tests confirm a patch by leaving it out).

    Returns:
        The names of the patches in force, in order.

    Raises:
        ConfigError: the installed megatron-core is one on which NeMo-Aligner 0.7 is known not to run.
    """
    if _applied:
        return list(_applied)
    version = importlib.metadata.version("megatron-core")
    if not version.startswith(SUPPORTED_MEGATRON_CORE):
        raise ConfigError(
            f"megatron-core {version} does not run with NeMo-Aligner 0.7 (0.13.1 fails in the first forward pass: its "
            "layers take their process group when built, before NeMo-Aligner initialises it); install 0.11.0 or 0.12.3"
        )
    gc.disable()  # the patches import most of the host: a fifth of that time is the collector's, which finds nothing
    try:
        for item in PATCHES:
            if item.name not in skip and item.needed():
                item.function()
                _applied.append(item.name)
    finally:
        gc.enable()
    return list(_applied)


# ---- torch --------------------------------------------------------------------------------------------------------


@patch(
    "cuda_calls",
    versions="nemo-aligner 0.7, nemo-toolkit 2.2, megatron-core 0.11 and 0.12",
    reason="current_device(), .cuda(), synchronize(), Stream(), the RNG state: 'Torch not compiled with CUDA enabled'",
)
def cuda_calls() -> None:
    import torch

    class CPUStream:
        """Stands for a CUDA stream: everything is ordered on the CPU anyway."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            pass

        def synchronize(self) -> None:
            pass

        def wait_stream(self, stream: Any) -> None:
            pass

    torch.cuda.current_device = lambda: torch.device("cpu")
    torch.cuda.synchronize = lambda device=None: None
    torch.cuda.Stream = CPUStream
    torch.cuda.get_rng_state = torch.cuda.random.get_rng_state = lambda device=None: torch.get_rng_state()
    torch.Tensor.cuda = lambda self, device=None, non_blocking=False, memory_format=None: self


@patch(
    "cuda_tensor_types",
    versions="nemo-aligner 0.7 (constants.py, utils), nemo-toolkit 2.2 (clip_grads.py:101), pipeline generation",
    reason="torch.cuda.LongTensor(...) raises, and isinstance(grad, torch.cuda.FloatTensor) is false for CPU tensors",
)
def cuda_tensor_types() -> None:
    import torch

    for dtype in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"):
        setattr(torch.cuda, f"{dtype}Tensor", getattr(torch, f"{dtype}Tensor"))


@patch(
    "cuda_device_literals",
    versions="megatron-core 0.11 and 0.12 (schedules), nemo-toolkit 2.2 (clip_grads.py:112), nemo-aligner 0.7",
    reason="device='cuda' and pin_memory=True are written out in the source",
)
def cuda_device_literals() -> None:
    import torch

    def on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if str(kwargs.get("device", "")).startswith("cuda"):
                kwargs["device"] = "cpu"
            kwargs.pop("pin_memory", None)
            return function(*args, **kwargs)

        return call

    for name in ("zeros", "ones", "tensor", "empty", "empty_like"):
        setattr(torch, name, on_cpu(getattr(torch, name)))


@patch(
    "adam_step_in_group",
    versions="torch >= 2.0 with nemo-toolkit 2.2",
    reason="torch's Adam keeps `step` as a 0-dim tensor per parameter; saving asserts on 'Optimizer shape ()'",
    needed=lambda: True,
    kind="any",
)
def adam_step_in_group() -> None:
    import torch
    from nemo.core.optim import optimizers

    def with_group_step(base: type) -> type:
        class GroupStep(base):  # type: ignore[misc]
            """`base`, whose checkpoints hold one integer `step` per parameter group, as Apex's FusedAdam does."""

            def step(self, closure: Any = None) -> Any:
                for group in self.param_groups:
                    for parameter in group["params"]:
                        # NeMo's init_optimizer_states() makes the moments but no step
                        if self.state[parameter] and "step" not in self.state[parameter]:
                            self.state[parameter]["step"] = torch.tensor(float(group.get("step", 0)))
                return super().step(closure)

            def state_dict(self) -> dict[str, Any]:
                state_dict = super().state_dict()
                state = {index: dict(values) for index, values in state_dict["state"].items()}
                for group in state_dict["param_groups"]:
                    steps = [int(state[i].pop("step")) for i in group["params"] if "step" in state.get(i, {})]
                    group["step"] = max(steps, default=group.get("step", 0))
                return {**state_dict, "state": state}

            def load_state_dict(self, state_dict: dict[str, Any]) -> None:
                state = {index: dict(values) for index, values in state_dict["state"].items()}
                for group in state_dict["param_groups"]:
                    for index in group["params"]:
                        if index in state:
                            state[index]["step"] = torch.tensor(float(group.get("step", 0)))
                super().load_state_dict({**state_dict, "state": state})

        GroupStep.__name__ = GroupStep.__qualname__ = base.__name__
        return GroupStep

    optimizers.AVAILABLE_OPTIMIZERS["adam"] = with_group_step(torch.optim.Adam)
    optimizers.AVAILABLE_OPTIMIZERS["adamw"] = with_group_step(torch.optim.AdamW)


# ---- megatron-core ------------------------------------------------------------------------------------------------


def _torch_writes_with_format() -> bool:
    from torch.distributed.checkpoint import filesystem

    return "serialization_format" in inspect.signature(filesystem._write_item).parameters


@patch(
    "checkpoint_write_item",
    versions="megatron-core 0.11 and 0.12 with torch >= 2.7",
    reason="torch's private _write_item took two more arguments (transforms, serialization_format): no save works",
    needed=_torch_writes_with_format,
    kind="any",
)
def checkpoint_write_item() -> None:
    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from torch.distributed.checkpoint.filesystem import (
        SerializationFormat,
        _StorageWriterTransforms,
        _write_item,
    )

    def write_item(*args: Any) -> Any:
        if not isinstance(args[0], _StorageWriterTransforms):  # megatron-core 0.11 passes none
            args = (_StorageWriterTransforms(), *args)
        return _write_item(*args, SerializationFormat.TORCH_SAVE)

    filesystem_async._write_item = write_item


@patch(
    "checkpoint_queue_by_fork",
    versions="megatron-core 0.11 and 0.12",
    reason="the results queue spawns a Manager that imports __main__ anew: the first save takes 6 to 12 s, not 0.2; "
    "and it outlives a killed trainer",
)
def checkpoint_queue_by_fork() -> None:
    from multiprocessing.managers import SyncManager

    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from torch import multiprocessing

    from nemo_prm.supervisor import die_with

    def results_queue() -> Any:
        if filesystem_async._results_queue is None:
            manager = SyncManager(ctx=multiprocessing.get_context("fork"))
            manager.start(initializer=die_with, initargs=(os.getpid(),))
            filesystem_async._results_queue = manager.Queue()
        return filesystem_async._results_queue

    filesystem_async._get_write_results_queue = results_queue


@patch(
    "sdpa_core_attention",
    versions="megatron-core 0.11 and 0.12",
    reason="DotProductAttention refuses the host's attention masks (batch 1 or 2 against the scores' batch) without "
    "the fused kernels, and is 1.24 to 1.39 times slower on the CPU than torch's scaled_dot_product_attention",
)
def sdpa_core_attention() -> None:
    import torch
    from megatron.core.models.gpt import gpt_layer_specs
    from megatron.core.transformer.dot_product_attention import DotProductAttention

    class SDPACoreAttention(DotProductAttention):
        """Causal attention; every mask of the host's GPT models is causal, so the mask tensor is not read."""

        def forward(
            self,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            attention_mask: torch.Tensor | None,
            attn_mask_type: Any = None,
            attention_bias: torch.Tensor | None = None,
            packed_seq_params: Any = None,
        ) -> torch.Tensor:
            """Attend; query [Sq, B, H, D], key and value [Sk, B, G, D] (G groups), output [Sq, B, H * D]."""
            assert packed_seq_params is None and attention_bias is None, "neither is supported by this attention"
            num_queries, num_keys = query.size(0), key.size(0)
            causal_mask = None
            if 1 < num_queries < num_keys:  # a chunk behind a KV cache: query i sees keys up to its own position
                rows = torch.arange(num_queries, device=query.device).unsqueeze(1) + (num_keys - num_queries)
                causal_mask = torch.arange(num_keys, device=query.device) <= rows
            query, key, value = (x.permute(1, 2, 0, 3) for x in (query, key, value))
            context = torch.nn.functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=causal_mask,
                dropout_p=self.attention_dropout.p if self.training else 0.0,
                is_causal=num_queries == num_keys and num_queries > 1,
                scale=self.softmax_scale,
                enable_gqa=key.size(1) != query.size(1),
            )
            return context.permute(2, 0, 1, 3).reshape(num_queries, context.size(0), -1)

    gpt_layer_specs.DotProductAttention = SDPACoreAttention


@patch(
    "cache_rotated_keys",
    versions="megatron-core 0.11 and 0.12",
    reason="without flash decoding the KV cache holds bare keys, and every step rotates all of them again: NeMo's "
    "generate() takes twice as long and more (1 M parameters, 128 rows); the tokens are the same",
)
def cache_rotated_keys() -> None:
    from megatron.core.models.common.embeddings.rotary_pos_embedding import apply_rotary_pos_emb
    from megatron.core.transformer.attention import Attention

    adjust = Attention._adjust_key_value_for_inference

    @wraps(adjust)
    def adjust_rotated(
        self: Any, cache: Any, query: Any, key: Any, value: Any, rotary: Any, *args: Any, **kwargs: Any
    ) -> Any:
        if cache is not None and rotary is not None:
            start, end = cache.sequence_len_offset, cache.sequence_len_offset + key.size(0)
            query_angles, key_angles = rotary
            query = apply_rotary_pos_emb(query, query_angles[start:end], config=self.config)
            key = apply_rotary_pos_emb(key, key_angles[start:end], config=self.config)
            rotary = None  # nothing left to rotate
        return adjust(self, cache, query, key, value, rotary, *args, **kwargs)

    Attention._adjust_key_value_for_inference = adjust_rotated


# ---- NeMo without Apex and Transformer Engine ---------------------------------------------------------------------


@patch(
    "pytorch_container_version",
    versions="nemo-toolkit 2.2 (megatron_base_model.py:399)",
    reason="NVIDIA_PYTORCH_VERSION unset gives re.fullmatch(..., None): TypeError",
    needed=lambda: "NVIDIA_PYTORCH_VERSION" not in os.environ,
)
def pytorch_container_version() -> None:
    os.environ["NVIDIA_PYTORCH_VERSION"] = ""


@patch(
    "megatron_bert_models",
    versions="nemo-toolkit 2.2 (nlp_model.py)",
    reason="listing the pretrained Megatron BERT models imports a module that raises NameError ApexGuardDefaults",
    needed=lacks("apex"),
)
def megatron_bert_models() -> None:
    from nemo.collections.nlp.models import nlp_model

    nlp_model.get_megatron_pretrained_bert_models = lambda: []


@patch(
    "local_layer_spec",
    versions="nemo-toolkit 2.2, nemo-aligner 0.7",
    reason="get_specs() builds every layer spec before it picks one, and most need Transformer Engine",
    needed=lacks("transformer_engine"),
)
def local_layer_spec() -> None:
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from nemo.collections.nlp.models.language_modeling import megatron_gpt_model

    def get_specs(spec_name: str, transformer_config: Any = None, *args: Any, **kwargs: Any) -> Any:
        return get_gpt_layer_local_spec(
            num_experts=getattr(transformer_config, "num_moe_experts", None),
            moe_grouped_gemm=getattr(transformer_config, "moe_grouped_gemm", False),
            qk_layernorm=getattr(transformer_config, "qk_layernorm", False),
        )

    megatron_gpt_model.get_specs = get_specs
    reward_model = sys.modules.get("nemo_aligner.models.nlp.gpt.megatron_gpt_reward_model")
    if reward_model is not None:  # imported before apply(); otherwise it imports the patched name
        reward_model.get_specs = get_specs


@patch(
    "tensor_parallel_defaults",
    versions="nemo-toolkit 2.2 (build_model.py:134)",
    reason="NameError set_defaults_if_not_set_tensor_model_parallel_attributes: taken from Apex only",
    needed=lacks("apex"),
)
def tensor_parallel_defaults() -> None:
    from megatron.core.tensor_parallel import layers
    from nemo.collections.nlp.modules.common.megatron import build_model

    build_model.set_defaults_if_not_set_tensor_model_parallel_attributes = (
        layers.set_defaults_if_not_set_tensor_model_parallel_attributes
    )


@patch(
    "ddp_strategy_without_apex",
    versions="nemo-toolkit 2.2 (nlp_overrides.py:219, 337)",
    reason="NLPDDPStrategy raises 'Apex was not found'; saving a .ckpt raises NameError for two optimizers",
    needed=lacks("apex"),
)
def ddp_strategy_without_apex() -> None:
    from nemo.collections.nlp.parts import nlp_overrides
    from nemo.core.optim.mcore_optim import McoreDistributedOptimizer

    class MegatronDistributedFusedAdam:
        """Stands in an isinstance() check; no optimizer of this class exists without Apex."""

    nlp_overrides.HAVE_APEX = True
    nlp_overrides.McoreDistributedOptimizer = McoreDistributedOptimizer
    nlp_overrides.MegatronDistributedFusedAdam = MegatronDistributedFusedAdam


@patch(
    "weight_decay_groups",
    versions="nemo-toolkit 2.2 (megatron/utils.py:366, 375)",
    reason="NameError listify_model, FusedLayerNorm, FastLayerNorm, MixedFusedRMSNorm: taken from Apex only",
    needed=lacks("apex"),
)
def weight_decay_groups() -> None:
    from nemo.collections.nlp.modules.common.megatron import utils

    utils.listify_model = lambda model: model if isinstance(model, list) else [model]
    for name in ("FusedLayerNorm", "FastLayerNorm", "MixedFusedRMSNorm"):
        setattr(utils, name, type(name, (), {}))  # classes that no module is an instance of


@patch(
    "gradient_norm",
    versions="nemo-toolkit 2.2 (clip_grads.py:138)",
    reason="NameError multi_tensor_applier, amp_C: the norm of the gradients is computed by Apex kernels only",
    needed=lacks("amp_C"),
)
def gradient_norm() -> None:
    import torch
    from nemo.collections.nlp.modules.common.megatron import clip_grads

    def multi_tensor_applier(function: Callable[..., Any], overflow: Any, tensor_lists: Any, *args: Any) -> Any:
        return function(overflow, tensor_lists, *args)

    def l2norm(overflow: Any, tensor_lists: list[list[torch.Tensor]], per_parameter: bool) -> Any:
        return torch.nn.utils.get_total_norm(tensor_lists[0]), None

    def scale(overflow: Any, tensor_lists: list[list[torch.Tensor]], factor: float) -> None:
        for source, target in zip(*tensor_lists):
            target.copy_(source * factor)

    clip_grads.multi_tensor_applier = multi_tensor_applier
    clip_grads.amp_C = types.SimpleNamespace(multi_tensor_l2norm=l2norm, multi_tensor_scale=scale)


@patch(
    "model_cuda",
    versions="nemo-toolkit 2.2 (modelPT.py:2089)",
    reason="ModelPT.cuda() builds torch.device('cuda', current_device()): TypeError",
)
def model_cuda() -> None:
    from nemo.core.classes.modelPT import ModelPT

    ModelPT.cuda = lambda self, device=None: self


@patch(
    "adapters_without_transformer_engine",
    versions="nemo-toolkit 2.2 (mcore_mixins.py:18)",
    reason="NameError swap_mcore_mixin: the module that adds LoRA to Megatron's layers imports a function of "
    "Transformer Engine, which it goes without where that is None",
    needed=lacks("transformer_engine"),
)
def adapters_without_transformer_engine() -> None:
    name = "megatron.core.extensions.transformer_engine"
    stand_in = types.ModuleType(name)
    stand_in.SplitAlongDim = None  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
    try:
        from nemo.collections.nlp.modules.common.megatron.adapters import mcore_mixins
    finally:
        del sys.modules[name]  # others find out by importing it whether Transformer Engine is there
    from nemo.collections.nlp.parts import peft_config
    from nemo.collections.nlp.parts.mixins import nlp_adapter_mixins

    nlp_adapter_mixins.swap_mcore_mixin = mcore_mixins.swap_mcore_mixin
    for mixin in vars(mcore_mixins):
        if mixin.startswith("MCore"):
            setattr(peft_config, mixin, getattr(mcore_mixins, mixin))


@patch(
    "adapter_attention_forward",
    versions="nemo-toolkit 2.2 (mcore_mixins.py:227) with megatron-core 0.12",
    reason="attention with LoRA has a copy of megatron-core 0.11's forward(): TypeError inference_context; without it "
    "Megatron's own runs, which asks the mixin for query, key and value, but has no adapter at the output projection",
    needed=lambda: True,  # so that the same layers can be adapted with either version
    kind="any",
)
def adapter_attention_forward() -> None:
    from nemo.collections.nlp.modules.common.megatron.adapters.mcore_mixins import MCoreSelfAttentionMixin

    del MCoreSelfAttentionMixin.forward


# ---- NeMo-Aligner -------------------------------------------------------------------------------------------------


@patch(
    "tensorrt_llm_stand_in",
    versions="nemo-aligner 0.7 (utils/trt_llm.py:15)",
    reason="the actor imports tensorrt_llm unguarded, whether it is used or not",
    needed=lacks("tensorrt_llm"),
)
def tensorrt_llm_stand_in() -> None:
    class GPTGenerateTRTLLM:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ConfigError(
                "trt_llm.enable=true needs TensorRT-LLM, which is not installed: run in NVIDIA's NeMo container, "
                "or set trt_llm.enable=false"
            )

    module = types.ModuleType("nemo_aligner.utils.trt_llm")
    module.GPTGenerateTRTLLM = GPTGenerateTRTLLM  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module


@patch(
    "rebalance_over_gloo",
    versions="nemo-aligner 0.7 (distributed.py:50)",
    reason="all_gather_into_tensor of a 0-dim tensor fails over gloo; the server errors and its client hangs",
)
def rebalance_over_gloo() -> None:
    import torch

    all_gather_into_tensor = torch.distributed.all_gather_into_tensor

    @wraps(all_gather_into_tensor)
    def call(output_tensor: Any, input_tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if input_tensor.dim() == 0:
            input_tensor = input_tensor.reshape(1)
        return all_gather_into_tensor(output_tensor, input_tensor, *args, **kwargs)

    torch.distributed.all_gather_into_tensor = call


@patch(
    "dense_ppo_rewards",
    versions="nemo-aligner 0.7 (algorithms/ppo.py:222, ppo_utils.py:70)",
    reason="calculate_ppo_rewards() scatters one scalar per response; rewards that are already placed [B, S-1] are "
    "added as they are",
    needed=lambda: True,
    kind="any",
)
def dense_ppo_rewards() -> None:
    from nemo_aligner.algorithms import ppo
    from nemo_aligner.utils.ppo_utils import calculate_ppo_rewards

    def place_rewards(
        values: Any, rewards: Any, response_lengths: Any, init_policy_kl: Any, penalty_factor: float = 0.0
    ) -> Any:
        """values [B, S-1]; rewards [B] as upstream, or [B, S-1] when each token has its own."""
        if rewards.dim() == 2 and rewards.shape == values.shape:
            return rewards - penalty_factor * init_policy_kl
        return calculate_ppo_rewards(values, rewards, response_lengths, init_policy_kl, penalty_factor)

    ppo.calculate_ppo_rewards = place_rewards


@patch(
    "vectorised_gae",
    versions="nemo-aligner 0.7 (ppo_utils.py, calculate_advantages_and_returns)",
    reason="advantages are computed token by token, in a Python loop of several kernels each",
    needed=lambda: True,
    kind="any",
)
def vectorised_gae() -> None:
    from nemo_aligner.algorithms import ppo

    from nemo_prm.rewards.advantages import advantages_and_returns

    ppo.calculate_advantages_and_returns = advantages_and_returns


@patch(
    "packed_huggingface_tokenizer",
    kind="any",
    needed=lambda: True,
    versions="nemo-toolkit 2.2 (tokenizer_utils.py, get_nmt_tokenizer)",
    reason="a Hugging Face tokenizer is taken from the hub by its name: no .nemo can bring its own",
)
def packed_huggingface_tokenizer() -> None:
    from nemo.collections.nlp.models.language_modeling import megatron_base_model

    original = megatron_base_model.get_nmt_tokenizer

    def get_nmt_tokenizer(
        library: str = "sentencepiece",
        model_name: str | None = None,
        tokenizer_model: str | None = None,
        vocab_file: str | None = None,
        **others: Any,
    ) -> Any:
        if library != "huggingface" or not tokenizer_model:
            return original(library, model_name, tokenizer_model, vocab_file, **others)
        with tempfile.TemporaryDirectory(prefix="nemo_prm_tokenizer_") as folder:
            for name, path in (("tokenizer.json", tokenizer_model), ("tokenizer_config.json", vocab_file)):
                if path:
                    shutil.copyfile(path, Path(folder, name))
            return original(library, folder, None, None, **others)

    megatron_base_model.get_nmt_tokenizer = get_nmt_tokenizer
