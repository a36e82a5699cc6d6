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
"""Which policy a checkpoint holds, with archives as small as a test needs."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from nemo_prm.data.embedded import policy_path
from nemo_prm.errors import CheckpointError
from nemo_prm.megatron.identity import difference, identify

CONFIG = """
num_layers: 2
hidden_size: 64
optim: {lr: 0.1}
tokenizer: {library: sentencepiece, model: 'nemo:%s_tokenizer.model'}
"""


def make(
    path: Path, weights: bytes = b"w" * 5_000_000, tokenizer: bytes = b"t", prefix: str = "1f", **config: str
) -> Path:
    text = CONFIG % prefix
    for key, value in ({"target": "nemo.MegatronGPTModel"} | config).items():
        text += f"{key}: {value}\n"
    files = {
        "model_config.yaml": text.encode(),
        f"{prefix}_tokenizer.model": tokenizer,
        "model_weights/0.distcp": weights,
    }
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return path


def test_the_name_follows_the_content(tmp_path: Path) -> None:
    weights = b"w" * 5_000_000
    one = identify(make(tmp_path / "a" / "policy.nemo"))
    assert one.name.startswith("policy.nemo@") and len(one.name) == len("policy.nemo@") + 12
    assert identify(make(tmp_path / "b" / "policy.nemo")).name == one.name  # a copy elsewhere
    with tarfile.open(tmp_path / "a" / "policy.nemo") as archive:
        archive.extractall(tmp_path / "folder" / "policy.nemo", filter="data")
    assert identify(tmp_path / "folder" / "policy.nemo").name == one.name
    names = {one.name}
    for other in (b"v" + weights[1:], weights[:-1] + b"v", weights + b"w", weights.replace(b"w", b"v")):
        names.add(identify(make(tmp_path / "c" / "policy.nemo", other)).name)
    assert len(names) == 5


def test_what_a_running_model_can_take(tmp_path: Path) -> None:
    running = identify(make(tmp_path / "running.nemo"))
    same = make(tmp_path / "same.nemo", b"other", prefix="2e", optim="{lr: 0.2}", kv_channels="null")
    assert difference(running, identify(same)) == ""
    deeper = identify(make(tmp_path / "deeper.nemo", num_layers="3"))
    assert difference(running, deeper) == "another architecture: num_layers is 3, here 2"
    turning = identify(make(tmp_path / "turning.nemo", position_embedding_type="rope"))
    assert difference(running, turning) == "another architecture: position_embedding_type is rope, here None"
    assert difference(running, identify(make(tmp_path / "words.nemo", tokenizer=b"u"))) == "another tokenizer"
    assert difference(running, identify(policy_path())) != ""


def test_what_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        identify(tmp_path / "none.nemo")
    head = make(tmp_path / "head.nemo", target="nemo_aligner.MegatronGPTCriticModel")
    with pytest.raises(CheckpointError, match="holds a model with a scalar head"):
        identify(head)
    with pytest.raises(CheckpointError, match="holds a model config that is no YAML"):
        identify(make(tmp_path / "odd.nemo", target="["))
    whole = make(tmp_path / "whole.nemo").read_bytes()
    (tmp_path / "half.nemo").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="a damaged one"):
        identify(tmp_path / "half.nemo")
