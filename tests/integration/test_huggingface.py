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
"""Models of Transformers become policies and come back: same logits, same bytes, same tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from label_rows import make_rows

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")
from try_huggingface import CASES, ROOT, TEXTS
from warm_stack import run_script, stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("huggingface")
    (folder / "data").mkdir()
    for name, count in (("train", 16), ("validation", 4)):
        text = "".join(json.dumps(row) + "\n" for row in make_rows(count, seed=1))
        (folder / "data" / f"{name}.jsonl").write_text(text)
    driver = Path(__file__).with_name("try_huggingface.py")
    run_script(str(driver), str(folder), timeout_s=600, HF_HUB_OFFLINE="1")
    return folder


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(folder: Path, name: str) -> None:
    found = json.loads((folder / f"{name}.json").read_text())
    assert found["difference"] < 1e-4 < found["spread"]


def test_a_policy_imported_alone_runs_on_two_ranks(folder: Path) -> None:
    assert json.loads((folder / "two.json").read_text())["difference"] < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_a_model_comes_back_as_it_went(folder: Path, name: str) -> None:
    from safetensors.torch import load_file

    def tensors(model: Path) -> dict[str, Any]:
        files = sorted(model.glob("*.safetensors"))
        assert len(files) > 1
        return {key: tensor for file in files for key, tensor in load_file(file).items()}

    before, after = tensors(folder / name), tensors(folder / f"{name}_back")
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype and after[key].equal(tensor), key
    for extra in ("special_tokens_map.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"):
        files = [folder / each / extra for each in (name, f"{name}_back")]
        assert files[0].read_bytes() == files[1].read_bytes(), extra
    configs = [json.loads((folder / each / "config.json").read_text()) for each in (name, f"{name}_back")]
    assert configs[0] == configs[1]


def test_the_tokenizer_travels_with_the_policy(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before, after = (AutoTokenizer.from_pretrained(folder / name) for name in ("qwen2", "qwen2_back"))
    found = json.loads((folder / "qwen2.json").read_text())
    assert found["tokens"] == [before.encode(text) for text in TEXTS] == [after.encode(text) for text in TEXTS]
    assert found["eos"] == before.eos_token_id and after.chat_template == before.chat_template
    assert AutoModelForCausalLM.from_pretrained(folder / "qwen2_back").config.model_type == "qwen2"


def test_a_prm_is_trained_from_an_imported_policy(folder: Path) -> None:
    metrics = [json.loads(line) for line in (folder / "prm" / "metrics.jsonl").read_text().splitlines()]
    assert sum("train/loss" in row for row in metrics) == 2 and (folder / "prm" / "prm.nemo").is_file()


def refused(script: str, *overrides: str) -> str:
    result = stack().run(str(ROOT / "scripts" / f"{script}.py"), *overrides, timeout=60)
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr[-2000:]
    return result.stderr.strip().splitlines()[-1]


def test_a_model_of_the_hub_is_not_downloaded(tmp_path: Path) -> None:
    message = refused("import_hf", "model_folder=Qwen/Qwen2.5-Coder-1.5B", f"output={tmp_path / 'a.nemo'}")
    assert "nothing is downloaded" in message and "huggingface-cli download" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' is not supported, only llama and qwen2"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling"),
        ({"use_sliding_window": True}, "use_sliding_window True is not supported"),
        ({"attention_bias": True}, "attention_bias True is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_key_value_heads": 3}, "num_attention_heads is no multiple"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor must be a number over 0, found None"),
        ({"rope_scaling": "linear"}, "rope_scaling 'linear' is no mapping"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rope_parameters .* is not supported"),
        ({"rope_theta": "x", "rope_scaling": None}, "rope_theta must be a number over 0, found 'x'"),
        ({"num_key_value_heads": "2"}, "num_key_value_heads must be a positive integer"),
        ({"head_dim": -4}, "head_dim must be a positive integer"),
        ({"vocab_size": None}, "vocab_size must be a positive integer"),
    ],
)
def test_what_megatron_would_compute_otherwise_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    from nemo_prm.errors import CheckpointError
    from nemo_prm.megatron.hf_folder import read_config

    config = json.loads((folder / "llama_gqa" / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda files: files.pop("model.layers.1.mlp.up_proj.weight"),
            "tensor model.layers.1.mlp.up_proj.weight is missing",
        ),
        (
            lambda files: files.update({"model.layers.0.x": Path("a")}),
            "tensor model.layers.0.x of a has no place in a llama",
        ),
        (lambda files: files.update({"model.layers.0.self_attn.rotary_emb.inv_freq": Path("a")}), None),
    ],
)
def test_names_are_checked_before_the_model_is_built(folder: Path, change: Any, message: str | None) -> None:
    from nemo_prm.errors import CheckpointError
    from nemo_prm.megatron import hf_folder

    model = folder / "llama_gqa"
    source = hf_folder.Source(model, hf_folder.read_config(model), hf_folder.find_tensors(model))
    hf_folder.check_names(source)
    change(source.files)
    if message is None:
        return hf_folder.check_names(source)
    with pytest.raises(CheckpointError, match=message):
        hf_folder.check_names(source)


def test_rope_parameters_are_read_as_the_older_keys() -> None:
    from nemo_prm.megatron.hf_folder import rotary

    assert rotary({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}) == (1e6, None)
    assert rotary({"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 4}}) == (5e5, 4.0)
    assert rotary({"rope_theta": 1e5, "rope_scaling": {"type": "linear", "factor": 2.0}}) == (1e5, 2.0)
    assert rotary({}) == (1e4, None)


def test_damaged_weights_are_named(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder / "llama", model)
    index = json.loads((model / "model.safetensors.index.json").read_text())
    name = "model.layers.1.mlp.up_proj.weight"
    del index["weight_map"][name]
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"tensor {name} is missing" in refused("import_hf", f"model_folder={model}", f"output={tmp_path}/a.nemo")
    index["weight_map"][name] = index["weight_map"]["model.norm.weight"]
    file = model / index["weight_map"]["model.norm.weight"]
    file.write_bytes(file.read_bytes()[:-100])
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    message = refused("import_hf", f"model_folder={model}", f"output={tmp_path}/a.nemo")
    assert str(file) in message and "cannot be read" in message
    file.unlink()
    message = refused("import_hf", f"model_folder={model}", f"output={tmp_path}/a.nemo")
    assert f"{file} is missing" in message and "is the download complete" in message


def test_a_folder_with_a_model_is_not_written_over(folder: Path) -> None:
    message = refused("export_hf", f"checkpoint={folder / 'llama.nemo'}", f"output={folder / 'llama'}")
    assert "holds a model already" in message


def test_a_policy_that_was_not_imported_has_no_such_form(tmp_path: Path) -> None:
    message = refused("export_hf", "checkpoint=embedded", f"output={tmp_path / 'out'}")
    assert "did not come from scripts/import_hf.py" in message
