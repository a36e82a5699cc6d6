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
"""Which model a `.nemo` holds: a name that no other weights have, and whether a running policy can take them."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Mapping, NamedTuple

import yaml

from nemo_prm.errors import CheckpointError
from nemo_prm.megatron.checkpoint import check_policy, read_config

SAMPLES, SAMPLE = 32, 2**16  # pieces read of each file, and their size in bytes
DIGITS = 12  # of the digest, in names
# What the weights mean and no shape tells; missing means the host's default, so that None equals it.
ARCHITECTURE = (
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "num_query_groups",
    "kv_channels",
    "encoder_seq_length",
    "max_position_embeddings",
    "position_embedding_type",
    "rotary_percentage",
    "rotary_base",
    "rotary_interleaved",
    "seq_len_interpolation_factor",
    "scale_positional_embedding",
    "apply_embedding_scaling",
    "normalization",
    "layernorm_epsilon",
    "layernorm_zero_centered_gamma",
    "qk_layernorm",
    "activation",
    "openai_gelu",
    "bias",
    "attention_type",
    "window_size",
    "transformer_block_type",
    "share_embeddings_and_output_weights",
    "num_moe_experts",
    "moe_router_topk",
)


class Identity(NamedTuple):
    """Of one policy checkpoint.

    Attributes:
        name: `<file name>@<digest>`: another digest for other weights, wherever the file lies.
        architecture: `ARCHITECTURE` of its config.
        tokenizer: the tokenizer's config, the content of its files in it as digests.
    """

    name: str
    architecture: Mapping[str, Any]
    tokenizer: Mapping[str, Any]


def identify(path: Path) -> Identity:
    """Look into a policy checkpoint, without reading its weights whole.

    Raises:
        CheckpointError: no `.nemo`, a damaged one, or one of a model with a scalar head in place of a vocabulary.
    """
    try:
        config = yaml.safe_load(read_config(path))
    except yaml.YAMLError as error:
        raise CheckpointError(f"{path} holds a model config that is no YAML") from error
    check_policy(path)
    name, files = _digests(path)
    tokenizer = {key: _content(value, files) for key, value in (config.get("tokenizer") or {}).items()}
    architecture = {key: config.get(key) for key in ARCHITECTURE}
    return Identity(name, architecture, tokenizer)


def checkpoint_name(path: Path) -> str:
    """`<file name>@<digest>` of any checkpoint: another digest for other weights, wherever the file lies.

    Raises:
        CheckpointError: no `.nemo`, or a damaged one.
    """
    return _digests(path)[0]


def _digests(path: Path) -> tuple[str, dict[str, str]]:
    """The checkpoint's name, and a digest of each of its files."""
    # Samples of the weights will do: no training leaves a million of them as they were.
    total, files = hashlib.sha256(), {}
    try:
        for name, size, file in _files(path):
            digest = hashlib.sha256(f"{size}/".encode())
            for number in range(SAMPLES):
                file.seek(max(size - SAMPLE, 0) * number // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
            files[name] = digest.hexdigest()
            total.update(f"{name}/{files[name]}/".encode())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is no .nemo checkpoint: not a tar archive, or a damaged one") from error
    return f"{path.name}@{total.hexdigest()[:DIGITS]}", files


def difference(running: Identity, other: Identity) -> str:
    """Why a model that runs as `running` cannot take the weights of `other`; empty when it can."""
    for key in ARCHITECTURE:
        if running.architecture[key] != other.architecture[key]:
            return f"another architecture: {key} is {other.architecture[key]}, here {running.architecture[key]}"
    return "" if running.tokenizer == other.tokenizer else "another tokenizer"


def _files(path: Path) -> Iterator[tuple[str, int, BinaryIO]]:
    """Name, size and content of every file of a checkpoint, an archive or a folder, by name."""
    if path.is_dir():
        for found in sorted(path.rglob("*")):
            if found.is_file():
                with found.open("rb") as file:
                    yield found.relative_to(path).as_posix(), found.stat().st_size, file
        return
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            content: Any = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                with contextlib.closing(content):
                    yield member.name.removeprefix("./"), member.size, content


def _content(value: Any, files: Mapping[str, str]) -> Any:
    """`nemo:<random>_tokenizer.model` names a file of the archive anew at each save: its content stands for it."""
    return files.get(value.removeprefix("nemo:"), value) if isinstance(value, str) else value
