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
"""What goes wrong without each patch of `nemo_prm.megatron.compat`: run as a script in a process without any patch.

Prints one JSON object: patch name -> the error that its symptom raises, or null where there is none any more.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import sys
import types


def cuda_calls() -> None:
    import torch

    torch.zeros(1).cuda()


def cuda_tensor_types() -> None:
    import torch

    torch.cuda.LongTensor([1])


def cuda_device_literals() -> None:
    import torch

    torch.zeros(1, device="cuda")


def adam_step_in_group() -> None:
    import torch

    parameter = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(2, 2)
    optimizer.step()
    # what make_sharded_optimizer_tensor of megatron-core asserts of every entry of the state
    for name, value in optimizer.state_dict()["state"][0].items():
        assert value.shape == parameter.shape, f"Optimizer shape {tuple(value.shape)} of {name}"


def checkpoint_write_item() -> None:
    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from torch.distributed.checkpoint.filesystem import _StorageWriterTransforms

    transforms = [_StorageWriterTransforms()] if "transform_list" in inspect.getsource(filesystem_async) else []
    filesystem_async._write_item(*transforms, io.BytesIO(), io.BytesIO(b""), None, "key")


def checkpoint_queue_by_fork() -> None:
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    assert "'spawn'" not in inspect.getsource(filesystem_async._get_write_results_queue), "the manager is spawned"


def sdpa_core_attention() -> None:
    import torch
    from megatron.core import parallel_state
    from megatron.core.transformer.dot_product_attention import DotProductAttention
    from megatron.core.transformer.enums import AttnMaskType
    from megatron.core.transformer.transformer_config import TransformerConfig

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    torch.cuda.current_device = lambda: torch.device("cpu")
    try:
        parallel_state.initialize_model_parallel()
        config = TransformerConfig(num_layers=1, hidden_size=8, num_attention_heads=2)
        buffer = parallel_state.get_global_memory_buffer()
        buffer.get_tensor = lambda shape, dtype, name: torch.empty(shape, dtype=dtype)
        attention = DotProductAttention(config, 1, AttnMaskType.causal, "self", attention_dropout=0.0)
        query = torch.randn(4, 4, 2, 4)  # four sequences, and the mask the reward model hands over is of two
        attention(query, query, query, torch.ones(2, 1, 4, 4, dtype=torch.bool).triu(1))
    finally:
        torch.distributed.destroy_process_group()


def cache_rotated_keys() -> None:
    from megatron.core.transformer.attention import Attention

    source = inspect.getsource(Attention.forward)
    cached, rotated = source.index("_adjust_key_value_for_inference("), source.index("apply_rotary_pos_emb(")
    assert rotated < cached, "keys are rotated after they are cached"


def pytorch_container_version() -> None:
    import re

    re.fullmatch(r"[0-9][0-9]\.[0-9][0-9].*", os.environ.get("NVIDIA_PYTORCH_VERSION"))
    from nemo.collections.nlp.models.language_modeling import megatron_base_model

    assert "re.fullmatch" in inspect.getsource(megatron_base_model), "the version is no longer matched"


def megatron_bert_models() -> None:
    from nemo.collections.nlp.models.nlp_model import get_megatron_pretrained_bert_models

    get_megatron_pretrained_bert_models()


def local_layer_spec() -> None:
    from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import get_specs

    get_specs("", None, False)


def tensor_parallel_defaults() -> None:
    from nemo.collections.nlp.modules.common.megatron import build_model

    build_model.set_defaults_if_not_set_tensor_model_parallel_attributes  # noqa: B018


def ddp_strategy_without_apex() -> None:
    from nemo.collections.nlp.parts.nlp_overrides import NLPDDPStrategy

    NLPDDPStrategy()


def weight_decay_groups() -> None:
    import torch
    from nemo.collections.nlp.modules.common.megatron.utils import get_params_for_weight_decay_optimization

    get_params_for_weight_decay_optimization(torch.nn.Linear(1, 1))


def gradient_norm() -> None:
    from nemo.collections.nlp.modules.common.megatron import clip_grads

    clip_grads.multi_tensor_applier, clip_grads.amp_C  # noqa: B018


def model_cuda() -> None:
    import torch
    from nemo.core.classes.modelPT import ModelPT

    torch.cuda.current_device = lambda: torch.device("cpu")
    ModelPT.cuda(torch.nn.Linear(1, 1))


def adapters_without_transformer_engine() -> None:
    from nemo.collections.nlp.parts.mixins import nlp_adapter_mixins

    nlp_adapter_mixins.swap_mcore_mixin  # noqa: B018


def adapter_attention_forward() -> None:
    name = "megatron.core.extensions.transformer_engine"
    given = sys.modules.get(name)
    sys.modules[name] = types.SimpleNamespace(SplitAlongDim=None)  # so that it can be imported without the other patch
    try:
        from nemo.collections.nlp.modules.common.megatron.adapters.mcore_mixins import MCoreSelfAttentionMixin
    finally:
        del sys.modules[name]
        if given is not None:
            sys.modules[name] = given
    inspect.signature(MCoreSelfAttentionMixin.forward).bind(None, None, None, inference_context=None)


def tensorrt_llm_stand_in() -> None:
    import nemo_aligner.utils.trt_llm  # noqa: F401


def rebalance_over_gloo() -> None:
    import torch

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        torch.distributed.all_gather_into_tensor(torch.zeros(1, dtype=torch.int64), torch.tensor(3))
    finally:
        torch.distributed.destroy_process_group()


def dense_ppo_rewards() -> None:
    import torch
    from nemo_aligner.utils.ppo_utils import calculate_ppo_rewards

    values = torch.zeros(2, 3)
    calculate_ppo_rewards(values, torch.ones(2, 3), torch.tensor([4, 4]), torch.tensor(0.0))


def vectorised_gae() -> None:
    from nemo_aligner.utils.ppo_utils import calculate_advantages_and_returns

    assert "for i in" not in inspect.getsource(calculate_advantages_and_returns), "a loop over the tokens"


def packed_huggingface_tokenizer() -> None:
    import tempfile

    from nemo.collections.nlp.models.language_modeling import megatron_base_model
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    with (
        tempfile.NamedTemporaryFile(suffix=".json") as file,
        tempfile.NamedTemporaryFile("w", suffix=".json") as config,
    ):
        Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(file.name)
        config.write('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        config.flush()
        megatron_base_model.get_nmt_tokenizer("huggingface", "no/such-model", file.name, config.name, use_fast=True)


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported; else it asks the hub again and again
    names = sys.argv[1:]
    result: dict[str, str | None] = {}
    for name in names:
        try:
            globals()[name]()
            result[name] = None
        except Exception as error:  # the symptom, whatever it is
            result[name] = f"{type(error).__name__}: {error}".strip()[:300]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
