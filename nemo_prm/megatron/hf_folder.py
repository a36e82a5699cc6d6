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
"""A Hugging Face model folder and its config in the host's words; the standard library alone, before heavy imports."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, Mapping, NamedTuple

from nemo_prm.errors import CheckpointError

FAMILIES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
VOCABULARY_MULTIPLE = 128  # rows of the embedding are padded to it, so that tensor parallelism divides them
DTYPES = ("float32", "bfloat16", "float16")
EXTRA_FILES = (  # travel with the weights, unread
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
IGNORED = ("rotary_emb.inv_freq",)  # buffers that old checkpoints hold, and every model computes
# Keys that change what the model computes, with the values under which Megatron computes the same.
REQUIRED: dict[str, tuple[Any, ...]] = {
    "hidden_act": (None, "silu"),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "use_sliding_window": (None, False),
    "partial_rotary_factor": (None, 1.0),
    "quantization_config": (None,),
    "num_local_experts": (None,),
}


class Source(NamedTuple):
    """A model folder: its config, and the file of each tensor."""

    folder: Path
    config: dict[str, Any]
    files: dict[str, Path]  # by name of the tensor; empty keys never occur


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check the config of a model folder.

    Raises:
        CheckpointError: no folder, no config, or a model of another kind; names the key and its value.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is no folder: a model has to be on this machine, as nothing is downloaded here; get it with "
            "`huggingface-cli download NAME --local-dir FOLDER` and pass that folder"
        )
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no config.json: is it a Hugging Face model?") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    check_supported(config, str(path))
    return config


def check_supported(config: Mapping[str, Any], where: str) -> None:
    """Refuse what Megatron would compute otherwise.

    Raises:
        CheckpointError: names the key and its value.
    """
    if config.get("model_type") not in FAMILIES:
        raise CheckpointError(
            f"{where}: model_type {config.get('model_type')!r} is not supported, only {' and '.join(FAMILIES)}"
        )
    for key, values in REQUIRED.items():
        if config.get(key) not in values:
            raise CheckpointError(f"{where}: {key} {config[key]!r} is not supported")
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    for key in (*needed, "max_position_embeddings"):
        if type(config.get(key)) is not int or config[key] < 1:
            raise CheckpointError(f"{where}: {key} must be a positive integer, found {config.get(key)!r}")
    for key in ("num_key_value_heads", "head_dim"):
        if config.get(key) is not None and (type(config[key]) is not int or config[key] < 1):
            raise CheckpointError(f"{where}: {key} must be a positive integer, found {config[key]!r}")
    if config.get("head_dim") is None and config["hidden_size"] % config["num_attention_heads"]:
        raise CheckpointError(f"{where}: hidden_size is no multiple of num_attention_heads")
    if config["num_attention_heads"] % num_query_groups(config):
        raise CheckpointError(f"{where}: num_attention_heads is no multiple of num_key_value_heads")
    rotary(config, where)


def num_query_groups(config: Mapping[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


class Rotary(NamedTuple):
    """Rotary positions: their base, and by how much they are stretched (None: not)."""

    base: float
    factor: float | None


def rotary(config: Mapping[str, Any], where: str = "config.json") -> Rotary:
    """Read `rope_theta` and `rope_scaling`, or `rope_parameters`, which holds both since Transformers 5.

    Raises:
        CheckpointError: a scaling other than linear, or a value that is no number.
    """
    key = "rope_parameters" if config.get("rope_parameters") is not None else "rope_scaling"
    scaling = config.get(key) or {}
    if not isinstance(scaling, Mapping):
        raise CheckpointError(f"{where}: {key} {scaling!r} is no mapping")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear") or any(isinstance(value, Mapping) for value in scaling.values()):
        raise CheckpointError(f"{where}: {key} {dict(scaling)!r} is not supported, only linear")
    numbers = {"rope_theta": scaling.get("rope_theta", config.get("rope_theta", 10000.0))}
    if kind == "linear":
        numbers["factor"] = scaling.get("factor")
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise CheckpointError(f"{where}: {name} must be a number over 0, found {value!r}")
    factor = numbers.get("factor")
    return Rotary(float(numbers["rope_theta"]), None if factor is None else float(factor))


def padded_vocabulary(config: Mapping[str, Any]) -> int:
    return -(-int(config["vocab_size"]) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the host's model config says of the same model; its other keys are those of `conf/import_hf.yaml`."""
    context, positions = config["max_position_embeddings"], rotary(config)
    return {
        "encoder_seq_length": context,
        "max_position_embeddings": context,
        "num_layers": config["num_hidden_layers"],
        "hidden_size": config["hidden_size"],
        "ffn_hidden_size": config["intermediate_size"],
        "num_attention_heads": config["num_attention_heads"],
        "num_query_groups": num_query_groups(config),
        "kv_channels": head_dim(config),
        "rotary_base": positions.base,
        "seq_len_interpolation_factor": positions.factor,
        "layernorm_epsilon": config.get("rms_norm_eps", 1e-6),
        "qkv_bias": config["model_type"] == "qwen2",
        "share_embeddings_and_output_weights": bool(config.get("tie_word_embeddings", False)),
        "init_method_std": config.get("initializer_range", 0.02),
        "override_vocab_size": padded_vocabulary(config),
    }


def find_tensors(folder: Path) -> dict[str, Path]:
    """The file of each tensor, by the index, or of the one file there is.

    Raises:
        CheckpointError: no safetensors, or an index that names a file that is not there.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = {str(name): folder / str(file) for name, file in names.items()}
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{index} is no index of safetensors ({type(error).__name__}: {error})") from None
    elif (folder / "model.safetensors").exists():
        files = dict.fromkeys(_names(folder / "model.safetensors"), folder / "model.safetensors")
    else:
        raise CheckpointError(
            f"{folder} holds neither model.safetensors nor model.safetensors.index.json; convert other weights with "
            "Transformers: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(OTHER)"
        )
    missing = sorted({str(path) for path in files.values() if not path.exists()})
    if missing:
        raise CheckpointError(f"{missing[0]} is missing, although {index.name} names it: is the download complete?")
    return files


def tensor_names(config: Mapping[str, Any]) -> list[str]:
    """The tensors of a model, in the order in which `nemo_prm.megatron.huggingface.places` has them."""
    names = ["model.embed_tokens.weight"]
    kinds = ("weight", "bias") if config["model_type"] == "qwen2" else ("weight",)
    for number in range(config["num_hidden_layers"]):
        projections = [f"self_attn.{each}_proj.{kind}" for kind in kinds for each in "qkv"]
        mlp = [f"mlp.{each}_proj.weight" for each in ("gate", "up", "down")]
        parts = [
            "input_layernorm.weight",
            *projections,
            "self_attn.o_proj.weight",
            "post_attention_layernorm.weight",
            *mlp,
        ]
        names += [f"model.layers.{number}.{part}" for part in parts]
    names.append("model.norm.weight")
    return names if config.get("tie_word_embeddings", False) else [*names, "lm_head.weight"]


def check_names(source: Source) -> None:
    """Compare a folder's tensors with those that its config asks for.

    Raises:
        CheckpointError: one is missing, or has no place in such a model.
    """
    wanted = tensor_names(source.config)
    for name in wanted:
        if name not in source.files:
            raise CheckpointError(f"tensor {name} is missing from {source.folder}")
    left = {name for name in source.files if not name.endswith(IGNORED)} - set(wanted)
    if source.config.get("tie_word_embeddings", False):
        left.discard("lm_head.weight")  # some checkpoints hold the tied matrix twice
    if left:
        name, kind = min(left), source.config["model_type"]
        raise CheckpointError(f"tensor {name} of {source.files[name]} has no place in a {kind} model")


def pack_extra_files(folder: Path) -> dict[str, str]:
    """Content of those of `EXTRA_FILES` that are there, in base64: OmegaConf would take a "${" in it for its own."""
    found = {name: folder / name for name in EXTRA_FILES}
    return {name: b64encode(path.read_bytes()).decode() for name, path in found.items() if path.is_file()}


def unpack_extra_files(packed: Mapping[str, str], folder: Path) -> None:
    """Write what `pack_extra_files` read."""
    for name in EXTRA_FILES:
        if name in packed:
            (folder / name).write_bytes(b64decode(packed[name]))


def _names(path: Path) -> list[str]:
    """Names of the tensors of a safetensors file: https://huggingface.co/docs/safetensors, "Format"."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            return [name for name in json.loads(file.read(size)) if name != "__metadata__"]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no safetensors file, or a damaged one ({error})") from None


def find_tokenizer(folder: Path) -> dict[str, Any]:
    """The host's tokenizer config of a model folder: the files travel inside the `.nemo`.

    Raises:
        CheckpointError: no tokenizer of a known kind.
    """
    settings = folder / "tokenizer_config.json"
    packed = {"vocab_file": str(settings)} if settings.exists() else {"vocab_file": None}
    if (folder / "tokenizer.json").exists():
        if not settings.exists():
            raise CheckpointError(
                f"{folder} holds tokenizer.json, but no tokenizer_config.json to say which class it is"
            )
        return {
            "library": "huggingface",
            "type": folder.resolve().name,
            "model": str(folder / "tokenizer.json"),
            "use_fast": True,
            **packed,
        }
    if (folder / "tokenizer.model").exists():
        return {
            "library": "sentencepiece",
            "type": None,
            "model": str(folder / "tokenizer.model"),
            "sentencepiece_legacy": False,
            **packed,
        }
    raise CheckpointError(f"{folder} holds neither tokenizer.json nor tokenizer.model")
