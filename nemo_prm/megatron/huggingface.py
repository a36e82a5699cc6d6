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
"""Weights of Llama and Qwen2 models to and from Megatron, tensor by tensor.

One table says where each tensor of a Hugging Face checkpoint lies inside Megatron's parameters. Import copies into
these places, export copies out of them, so that the two cannot differ. Megatron fuses query, key and value (by query
group: its queries, its key, its value) and the two halves of the gated MLP (gate, up).
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any, Iterator, Mapping

import torch
import yaml
from lightning.pytorch import Trainer
from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel
from nemo.collections.nlp.parts.nlp_overrides import NLPDDPStrategy
from nemo_aligner.utils.train_script_utils import init_distributed
from omegaconf import DictConfig, open_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nemo_prm.errors import CheckpointError
from nemo_prm.megatron import checkpoint as nemo_file
from nemo_prm.megatron import hf_folder
from nemo_prm.megatron.policy import load_policy


def places(config: Mapping[str, Any], parameters: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Name of each tensor of the Hugging Face checkpoint, and the view of a parameter that holds it.

    Views have the tensor's elements in its order, if not its shape.

    Args:
        config: content of config.json.
        parameters: of a megatron-core GPTModel with the layers of its local or its Transformer Engine spec.
    """
    groups, width, hidden = hf_folder.num_query_groups(config), hf_folder.head_dim(config), config["hidden_size"]
    queries = config["num_attention_heads"] // groups
    ffn, vocabulary = config["intermediate_size"], config["vocab_size"]

    def find(*names: str) -> torch.Tensor:
        return next(parameters[name] for name in names if name in parameters)

    yield "model.embed_tokens.weight", find("embedding.word_embeddings.weight")[:vocabulary]
    for number in range(config["num_hidden_layers"]):
        mcore, hf = f"decoder.layers.{number}.", f"model.layers.{number}."
        attention, mlp = f"{mcore}self_attention.", f"{mcore}mlp."
        yield (
            f"{hf}input_layernorm.weight",
            find(f"{mcore}input_layernorm.weight", f"{attention}linear_qkv.layer_norm_weight"),
        )
        kinds = ["weight", "bias"] if config["model_type"] == "qwen2" else ["weight"]
        for kind in kinds:
            shape = (groups, queries + 2, width, hidden) if kind == "weight" else (groups, queries + 2, width)
            fused = find(f"{attention}linear_qkv.{kind}").view(shape)
            yield f"{hf}self_attn.q_proj.{kind}", fused[:, :queries]
            yield f"{hf}self_attn.k_proj.{kind}", fused[:, queries]
            yield f"{hf}self_attn.v_proj.{kind}", fused[:, queries + 1]
        yield f"{hf}self_attn.o_proj.weight", find(f"{attention}linear_proj.weight")
        yield (
            f"{hf}post_attention_layernorm.weight",
            find(f"{mcore}pre_mlp_layernorm.weight", f"{mlp}linear_fc1.layer_norm_weight"),
        )
        yield f"{hf}mlp.gate_proj.weight", find(f"{mlp}linear_fc1.weight")[:ffn]
        yield f"{hf}mlp.up_proj.weight", find(f"{mlp}linear_fc1.weight")[ffn:]
        yield f"{hf}mlp.down_proj.weight", find(f"{mlp}linear_fc2.weight")
    yield "model.norm.weight", find("decoder.final_layernorm.weight")
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", find("output_layer.weight")[:vocabulary]


def shape_of(name: str, config: Mapping[str, Any], view: torch.Tensor) -> tuple[int, ...]:
    """Shape of a tensor in the Hugging Face checkpoint, where projections have two dimensions."""
    if "self_attn" in name and not name.endswith("o_proj.weight"):
        return (-1, config["hidden_size"]) if name.endswith("weight") else (-1,)
    return tuple(view.shape)


@torch.no_grad()
def fill(model: torch.nn.Module, config: Mapping[str, Any], files: Mapping[str, Path]) -> torch.dtype:
    """Copy the tensors of safetensors files into a model, one at a time.

    Returns:
        The type of all tensors; float32, which holds them all, where they have several.

    Raises:
        CheckpointError: a tensor is of another shape, or quantised; or a file is damaged.
    """
    dtypes = set()
    parameters = dict(model.named_parameters())
    for name in ("embedding.word_embeddings.weight", "output_layer.weight"):
        if name in parameters:
            parameters[name][config["vocab_size"] :] = 0  # padding
    for name, view in places(config, parameters):
        try:
            with safe_open(files[name], framework="pt") as file:
                tensor = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"tensor {name} of {files[name]} cannot be read ({error})") from None
        expected = torch.empty(view.shape, device="meta").reshape(shape_of(name, config, view)).shape
        if tensor.shape != expected:
            raise CheckpointError(
                f"tensor {name} of {files[name]} has shape {tuple(tensor.shape)}, and config.json asks for "
                f"{tuple(expected)}"
            )
        if str(tensor.dtype).removeprefix("torch.") not in hf_folder.DTYPES:
            raise CheckpointError(
                f"tensor {name} of {files[name]} is {tensor.dtype}: quantised weights are not supported"
            )
        dtypes.add(tensor.dtype)
        view.copy_(tensor.view(view.shape))
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def import_model(cfg: DictConfig, source: hf_folder.Source) -> Path:
    """Write a Hugging Face model as a policy `.nemo`; memory: the model in float32, and one tensor.

    Args:
        cfg: `conf/import_hf.yaml`.
        source: the model folder.

    Returns:
        The path of the policy.

    Raises:
        CheckpointError: see `hf_folder.check_names` and `fill`.
    """
    hf_folder.check_names(source)
    with open_dict(cfg.model):
        cfg.model.update(hf_folder.model_config(source.config))
        cfg.model.tokenizer = hf_folder.find_tokenizer(source.folder)
        cfg.model.huggingface = {  # what `export_model` writes again
            "config": source.config,
            "files": hf_folder.pack_extra_files(source.folder),
        }
        cfg.model.target = f"{MegatronGPTModel.__module__}.{MegatronGPTModel.__qualname__}"
    trainer = Trainer(
        strategy=NLPDDPStrategy(),
        devices=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    model = MegatronGPTModel(cfg.model, trainer)
    dtype = fill(model.model, source.config, source.files)
    init_distributed(trainer, model, cfg.model.get("transformer_engine", False))
    model.model.to(dtype)  # as the weights came: nothing is lost, and a bfloat16 model takes half the room
    with open_dict(model.cfg):
        model.cfg.huggingface.dtype = str(dtype).removeprefix("torch.")
    output = Path(cfg.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    model.save_to(str(output))
    return output


@torch.no_grad()
def export_model(checkpoint: Path, output: Path, max_shard_size: str = "5GB") -> Path:
    """Write a policy that came from `import_model`, however trained since, as a Hugging Face model folder.

    Args:
        checkpoint: the policy.
        output: the folder.
        max_shard_size: of one safetensors file.

    Raises:
        CheckpointError: another policy, which has no Hugging Face form.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    settings = yaml.safe_load(nemo_file.read_config(checkpoint))
    imported = settings.get("huggingface")
    if not imported:
        raise CheckpointError(
            f"{checkpoint} did not come from scripts/import_hf.py: what it computes may have no Hugging Face form"
        )
    if any(output.glob("*.safetensors")):
        raise CheckpointError(f"{output} holds a model already: choose another folder, or empty it")
    config = imported["config"]
    model = load_policy(checkpoint, precision="32")
    dtype = getattr(torch, imported["dtype"])
    found = dict(places(config, dict(model.model.named_parameters())))
    shapes = {
        name: torch.empty(view.shape, dtype=dtype, device="meta").reshape(shape_of(name, config, view))
        for name, view in found.items()
    }
    split = split_torch_state_dict_into_shards(shapes, max_shard_size=max_shard_size)
    output.mkdir(parents=True, exist_ok=True)
    for file, names in split.filename_to_tensors.items():
        tensors = {name: found[name].to(dtype).reshape(shapes[name].shape).contiguous() for name in names}
        save_file(tensors, output / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (output / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    hf_folder.unpack_extra_files(imported["files"], output)
    write_tokenizer(settings["tokenizer"], checkpoint, output)
    return output


def write_tokenizer(tokenizer: Mapping[str, Any], checkpoint: Path, output: Path) -> None:
    """Write the tokenizer's files, which the `.nemo` holds, under the names that Transformers knows."""
    model = "tokenizer.json" if tokenizer["library"] == "huggingface" else "tokenizer.model"
    for key, name in (("model", model), ("vocab_file", "tokenizer_config.json")):
        if tokenizer.get(key):
            (output / name).write_bytes(read_artifact(checkpoint, str(tokenizer[key])))


def read_artifact(checkpoint: Path, value: str) -> bytes:
    """A file inside a `.nemo`, archive or folder, by its entry in the model config (`nemo:<name>`)."""
    name = value.removeprefix("nemo:")
    if checkpoint.is_dir():
        return (checkpoint / name).read_bytes()
    with tarfile.open(checkpoint) as archive:
        for member in archive:
            if Path(member.name).name == name and member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                return content.read()
    raise CheckpointError(f"{checkpoint} holds no file {name}")
