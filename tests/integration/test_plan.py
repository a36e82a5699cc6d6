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
"""The formulas of the sizing plan against other people's code and figures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/bench/plan.py"


@pytest.fixture(scope="module")
def plan() -> Any:
    spec = importlib.util.spec_from_file_location("plan", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plan"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def huggingface(name: str, model: Any) -> Any:
    """The same model by Transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    kinds = (Qwen2Config, Qwen2ForCausalLM) if name.startswith("qwen") else (LlamaConfig, LlamaForCausalLM)
    config = kinds[0](
        vocab_size=model.vocab,
        hidden_size=model.hidden,
        intermediate_size=model.mlp,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        tie_word_embeddings=model.tied,
        attn_implementation="eager",
    )
    return kinds[1](config)


def test_parameters_are_those_of_transformers(plan: Any) -> None:
    for name, model in plan.MODELS.items():
        with FakeTensorMode():  # no memory for the weights
            other = huggingface(name, model)
        assert model.parameters == sum(weights.numel() for weights in other.parameters()), name
    assert plan.MODELS["qwen2.5-coder-7b"].parameters == 7_615_616_512  # as published


def test_flops_are_those_that_torch_counts(plan: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for name in ("qwen2.5-coder-0.5b", "deepseek-coder-1.3b"):
        model, length = plan.MODELS[name], 64
        with FakeTensorMode(), torch.no_grad():
            other = huggingface(name, model)
            with FlopCounterMode(display=False) as counter:
                other(torch.zeros(2, length, dtype=torch.long))
        # eager attention multiplies the upper triangle, too, which kernels for causal attention leave out
        counted = counter.get_total_flops() - 2 * length * 2 * model.layers * model.hidden * length
        assert model.forward_flops(2 * length, length) == pytest.approx(counted, rel=1e-6), (
            name
        )  # but for the rotation


def test_published_figures_are_met_within_a_factor_of_two(plan: Any) -> None:
    checks = plan.checks()
    for what, published, ours in checks:
        assert 0.5 < ours / published < 2, what
    assert sum(0.8 < ours / published < 1.25 for _, published, ours in checks) >= 7


def test_a_layout_fits_and_a_smaller_one_does_not(plan: Any) -> None:
    gpu = plan.GPUS["h100"]
    for name, model in plan.MODELS.items():
        layout = plan.fit_training(model, gpu, 4096, 1, 64)
        assert layout is not None and layout.gpus == 64 and layout.memory <= plan.USABLE * gpu.memory, name
        if layout.tensor > 1:
            half = plan.training_bytes(model, 4096, 1, layout.tensor // 2, layout.pipeline, layout.data * 2)
            assert half > plan.USABLE * gpu.memory, name
    assert plan.fit_training(plan.MODELS["llama-2-70b"], gpu, 4096, 1, 8) is None


def test_the_plan_is_printed(plan: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["plan.py", "--model", "qwen2.5-coder-7b", "--gpus", "8"])
    plan.main()
    shown = capsys.readouterr().out
    for expected in ("actor, and critic: TP", "reward server", "verifier:", "labels, 40 completions", "GPU-hours"):
        assert expected in shown
    monkeypatch.setattr(sys, "argv", ["plan.py", "--model", "llama-2-70b", "--gpus", "8"])
    plan.main()
    assert "does not fit" in capsys.readouterr().out
