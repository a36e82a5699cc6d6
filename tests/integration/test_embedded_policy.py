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
"""The embedded policy is small, solves 20 to 40 % of the held-out problems, and can be made again by its script."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from warm_stack import run_script

from nemo_prm.data.embedded import policy_path, thinking_policy_path

pytestmark = pytest.mark.skipif(importlib.util.find_spec("nemo") is None, reason="needs the extra [nemo]")


def try_policy(*arguments: str) -> dict[str, Any]:
    output = run_script("tests/integration/try_embedded_policy.py", *arguments)
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    return try_policy(str(policy_path()))


def test_size(shipped: dict[str, Any]) -> None:
    assert policy_path().stat().st_size < 20_000_000
    assert 0.9e6 < shipped["parameters"] < 3e6
    assert shipped["vocabulary"] == [640, 640] and shipped["context"] == 1024


def test_pass_at_1_is_20_to_40_percent_and_falls_with_length(shipped: dict[str, Any]) -> None:
    rates = shipped["pass_at_1"]  # 200 problems, one sample each, fixed seed
    assert 0.2 <= rates["all"] <= 0.4
    assert rates["easy"] > rates["medium"] > rates["hard"]


def test_the_host_stops_at_the_end_of_text(shipped: dict[str, Any]) -> None:
    text = shipped["host"]["text"].removeprefix(shipped["prompt"])
    assert text.startswith("def solve(v):\n    v = ") and text.endswith("    return v\n")
    assert shipped["host"]["length"] < 100


def test_its_tokenizer_gives_back_every_text(shipped: dict[str, Any]) -> None:
    assert shipped["round_trip"]


def test_the_policy_that_thinks_has_a_thought_per_operation_and_follows_it() -> None:
    path = thinking_policy_path()
    assert path.stat().st_size < 20_000_000
    found = try_policy(str(path), "thinks")
    assert found["thought_per_operation"] > 0.85
    assert found["lines_as_thought"] > 0.7


def test_the_script_makes_a_policy(tmp_path: Path) -> None:
    output = tmp_path / "made" / "policy.nemo"
    settings = [f"output={output}", f"work_dir={tmp_path}/work", "trainer.sft.max_steps=4"]
    run_script("scripts/pretrain_policy.py", *settings)
    made = try_policy(str(output))
    assert made["parameters"] > 0.9e6 and made["round_trip"] and made["pass_at_1"]["all"] == 0.0
