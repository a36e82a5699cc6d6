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
"""Our sampling loop against NeMo's own `generate`, with the embedded policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from warm_stack import run_script

pytest.importorskip("nemo_aligner")


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    script = Path(__file__).with_name("try_generation.py")
    lines = [line for line in run_script(str(script)).splitlines() if line.startswith("RESULT ")]
    return json.loads(lines[0].removeprefix("RESULT "))


def test_greedy_completions_are_those_of_nemo(result: dict[str, Any]) -> None:
    for prompt, ours, nemo in zip(result["prompts"], result["greedy"], result["nemo"]):
        assert prompt + ours["text"] == nemo["whole"]
        assert (ours["num_tokens"], ours["finish_reason"]) == (nemo["num_tokens"], nemo["finish_reason"])


def test_some_end_by_themselves_and_some_at_the_limit(result: dict[str, Any]) -> None:
    assert {completion["finish_reason"] for completion in result["greedy"]} == {"stop", "length"}


def test_a_completion_keeps_the_space_and_the_newlines_it_starts_with(result: dict[str, Any]) -> None:
    starts = [
        completion["text"] for prompt, completion in zip(result["prompts"], result["greedy"]) if prompt.endswith(":\n")
    ]
    assert starts and all(text.startswith("    v = ") for text in starts)


def test_what_shares_the_batch_does_not_matter(result: dict[str, Any]) -> None:
    assert result["sampled"] == result["alone"]
    assert len({row[0]["text"] for row in result["sampled"]} | {row[1]["text"] for row in result["sampled"]}) > 10
