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
"""The TensorRT-LLM adapter on the host's own class; only TensorRT-LLM itself, which needs a GPU, is stood in for."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from warm_stack import run_script

pytest.importorskip("nemo_aligner")
if importlib.util.find_spec("tensorrt_llm"):
    pytest.skip("TensorRT-LLM is installed: the server runs on it", allow_module_level=True)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    script = Path(__file__).with_name("try_tensorrt.py")
    lines = [line for line in run_script(str(script)).splitlines() if line.startswith("RESULT ")]
    return json.loads(lines[0].removeprefix("RESULT "))


def test_greedy_completions_are_those_of_megatron(result: dict[str, Any]) -> None:
    assert result["engine greedy"] == result["megatron greedy"]
    assert {completion["finish_reason"] for completion in result["engine greedy"]} == {"stop", "length"}
    assert result["engine greedy"][-1]["num_tokens"] < 12  # all that the context leaves


def test_stop_strings_end_them_at_the_same_place(result: dict[str, Any]) -> None:
    assert result["engine stopping"] == result["megatron stopping"]
    assert all(completion["num_tokens"] < 30 for completion in result["engine stopping"])  # the engine stopped too


def test_each_completion_has_a_seed_of_its_own(result: dict[str, Any]) -> None:
    assert result["waves"]
    assert all(len(set(texts)) > 1 for texts in result["texts"])


def test_what_does_not_fit_is_refused(result: dict[str, Any]) -> None:
    [refusal] = result["refused"]
    assert refusal.endswith("tokens leave no room in a context of 1024")


def test_the_engine_is_built_once_and_refitted_for_another_checkpoint(result: dict[str, Any]) -> None:
    calls = result["calls"]
    assert calls[0] == ["exporter", {"folder": True, "load_model": False}]
    assert calls[1] == ["build", {"model_type": "gptnext", "max_batch_size": 5, "use_refit": True, "gpus_per_node": 1}]
    assert [call for call in calls if call[0] in ("build", "refit")][1:] == [["refit", True]]
    assert result["after"] is True
    sizes = [call[1] for call in calls if call[0] == "generate"]
    assert max(size["rows"] for size in sizes) == 5 and {size["limit"] for size in sizes} > {60}
    assert {size["top_k"] for size in sizes} == {0, 1}


def test_an_engine_that_could_not_be_refitted_answers_no_more(result: dict[str, Any]) -> None:
    assert result["broken"].startswith("the engine could not take the weights of ")
