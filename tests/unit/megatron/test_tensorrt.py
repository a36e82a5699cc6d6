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
"""The TensorRT-LLM adapter: its pure parts, and whether the host's class still has what it calls.

The adapter on the host's own class runs in tests/integration/test_tensorrt_adapter.py.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from nemo_prm.errors import ConfigError  # noqa: E402
from nemo_prm.megatron import tensorrt  # noqa: E402
from nemo_prm.megatron.tensorrt import (  # noqa: E402
    Row,
    plan_rows,
    read_completion,
    resolve_backend,
    with_seeds,
    word_list,
)
from nemo_prm.types import Completion  # noqa: E402

PIECES = [b"", b"a", b"b", b"\n", b" c"]  # 0 is the end of text
HERE = not (torch.cuda.is_available() and importlib.util.find_spec("tensorrt_llm"))
SKIP = pytest.mark.skipif(not HERE, reason="TensorRT-LLM is installed here")


@SKIP
def test_asking_for_it_names_the_container() -> None:
    assert resolve_backend("auto", 1) == "megatron"
    assert resolve_backend("megatron", 2) == "megatron"
    with pytest.raises(ConfigError, match=r"needs TensorRT-LLM.*NVIDIA's NeMo container \(nvcr.io/nvidia/nemo:25.02"):
        resolve_backend("tensorrt_llm", 1)
    with pytest.raises(ConfigError, match="backend must be one of auto, megatron, tensorrt_llm, got 'vllm'"):
        resolve_backend("vllm", 1)


def test_where_it_is_it_is_taken_and_several_ranks_need_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for name in tensorrt.MPI_RANKS:
        monkeypatch.delenv(name, raising=False)
    assert resolve_backend("auto", 1) == resolve_backend("tensorrt_llm", 1) == "tensorrt_llm"
    assert resolve_backend("megatron", 1) == "megatron"
    with pytest.raises(ConfigError, match="takes its rank from MPI: start with mpirun"):
        resolve_backend("auto", 2)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert resolve_backend("auto", 2) == "tensorrt_llm"


def test_rows_of_a_batch_have_one_limit() -> None:
    # a context of 20 leaves 10, 10, 4 and 1 tokens of the 10 wanted
    prompts = [(0, 8), (1, 19), (2, 10), (3, 16)]
    assert plan_rows(prompts, range(3, 5), max_new_tokens=10, context=20, max_batch=3) == [
        [Row(0, 3, 10), Row(0, 4, 10), Row(2, 3, 10)],
        [Row(2, 4, 10)],
        [Row(3, 3, 4), Row(3, 4, 4)],
        [Row(1, 3, 1), Row(1, 4, 1)],
    ]


def test_the_word_list_has_the_ids_and_where_each_word_ends() -> None:
    array = word_list([[9], [3, 4, 5], [3]], rows=2)
    assert array.dtype == "int32" and array.shape == (2, 2, 5)
    assert array.tolist() == [[[9, 3, 4, 5, 3], [1, 4, 5, -1, -1]]] * 2
    assert word_list([[9]], 1).tolist() == [[[9], [1]]]  # as the host makes it for the end of text alone


@dataclass
class SamplingConfig:
    """The fields in question, and `update`, of TensorRT-LLM's dataclass of this name."""

    temperature: float = 1.0
    random_seed: object = None

    def update(self, **changes: object) -> dict[str, object]:
        unused = {}
        for key, value in changes.items():
            if hasattr(self, key):
                setattr(self, key, value)
            else:
                unused[key] = value
        return unused


def test_the_seeds_of_the_rows_stay_whatever_the_host_draws() -> None:
    config = SamplingConfig()
    for seeds in ([5, 2**62], [7]):
        wanted = torch.tensor(seeds)
        with_seeds(config, wanted)
        config.update(random_seed=torch.randint(0, 2**32, (2,)))  # what GPTGenerateTRTLLM._generate does
        used = copy.deepcopy(config)  # what ModelRunner.generate does
        assert used.update(temperature=0.5, colour="red") == {"colour": "red"}
        assert used.random_seed.tolist() == seeds and used.temperature == 0.5  # type: ignore[attr-defined]
    assert type(config).__mro__[1] is SamplingConfig  # wrapped once, not once per request


@pytest.mark.parametrize(
    ("tokens", "total", "limit", "stop", "expected"),
    [
        ([1, 1, 2, 3, 0, 0], 5, 9, (), Completion("b\n", 3, "stop")),  # the end of text is counted
        ([1, 1, 2, 3, 4, 0], 5, 9, (), Completion("b\n c", 3, "length")),
        ([1, 1, 2, 3, 4, 1], 6, 2, (), Completion("b\n", 2, "length")),  # a row may run on behind its limit
        ([1, 1, 2, 0, 4, 1], 6, 9, (), Completion("b", 2, "stop")),  # and behind its end
        ([1, 1, 2, 3, 4, 1], 6, 9, ("\n", "c"), Completion("b", 4, "stop")),
        ([1, 1, 2, -42, 4, 1], 6, 9, (), Completion("b", 1, "length")),  # no token of the vocabulary
        ([1, 1, 99, 0], 4, 9, (), Completion("", 1, "length")),
        ([1, 1, 0], 3, 9, ("a",), Completion("", 1, "stop")),
    ],
)
def test_a_row_becomes_a_completion(
    tokens: list[int], total: int, limit: int, stop: tuple[str, ...], expected: Completion
) -> None:
    assert read_completion(tokens, 2, total, limit, 0, PIECES, stop) == expected


def source_of(module: str) -> ast.Module:
    """The installed source, without importing it: it needs TensorRT-LLM."""
    package, _, rest = module.partition(".")
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        pytest.skip(f"{package} is not installed")
    path = Path(found.submodule_search_locations[0], *rest.split(".")).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def methods(module: str, name: str) -> dict[str, ast.FunctionDef]:
    [found] = [node for node in source_of(module).body if isinstance(node, ast.ClassDef) and node.name == name]
    return {node.name: node for node in found.body if isinstance(node, ast.FunctionDef)}


def parameters(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in function.args.args]


def calls(function: ast.FunctionDef, name: str) -> list[ast.Call]:
    return [n for n in ast.walk(function) if isinstance(n, ast.Call) and ast.unparse(n.func) == name]


def test_the_class_of_the_host_is_built_and_called_as_the_adapter_does() -> None:
    host = methods("nemo_aligner.utils.trt_llm", "GPTGenerateTRTLLM")
    adapter = methods_of_adapter()
    [built] = calls(adapter["__init__"], "GPTGenerateTRTLLM")
    given = [keyword.arg for keyword in built.keywords]
    required = parameters(host["__init__"])[1 : -len(host["__init__"].args.defaults)]
    assert set(given) <= set(parameters(host["__init__"])) and set(required) <= set(given)
    assert parameters(host["refit"]) == ["self", "model"]
    assert parameters(host["generate"]) == ["self", "inputs"]
    [returned] = [
        n.value
        for n in ast.walk(host["generate"])
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "output"
    ]
    assert isinstance(returned, ast.Dict)
    assert [ast.literal_eval(key) for key in returned.keys if key] == ["response_tokens", "response_lengths"]


def test_the_host_keeps_one_sampling_config_and_reads_it_at_each_call() -> None:
    host = methods("nemo_aligner.utils.trt_llm", "GPTGenerateTRTLLM")
    [config] = calls(host["__init__"], "tensorrt_llm.runtime.SamplingConfig")
    [changed] = calls(methods_of_adapter()["_draw"], "self._engine.sampling_config.update")
    assert {k.arg for k in changed.keywords} <= {k.arg for k in config.keywords}
    [seeded] = calls(host["_generate"], "self.sampling_config.update")
    assert [k.arg for k in seeded.keywords] == ["random_seed"]
    [generated] = calls(host["_generate"], "tensorrt_llm_run.tensorrt_llm_worker_context.decoder.generate")
    assert {k.arg: ast.unparse(k.value) for k in generated.keywords}["sampling_config"] == "self.sampling_config"


def test_the_exporter_of_the_host_sizes_an_engine_by_the_sum() -> None:
    """So that `max_input_len` = context - 1 and `max_generation_length` = 1 allow any prompt that leaves room."""
    build = methods("nemo.export.tensorrt_llm", "TensorRTLLM")["build"]
    [saved] = calls(build, "self.trtllm_helper.build_and_save_engine")
    sizes = {keyword.arg: ast.unparse(keyword.value) for keyword in saved.keywords}
    assert sizes["max_seq_len"] == "max_input_len + max_output_len"


def methods_of_adapter() -> dict[str, ast.FunctionDef]:
    tree = ast.parse(Path(tensorrt.__file__).read_text(encoding="utf-8"))
    [found] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TensorRTGenerator"]
    return {node.name: node for node in found.body if isinstance(node, ast.FunctionDef)}
