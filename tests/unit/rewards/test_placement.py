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
"""Rewards at the ends of blocks, functions and thoughts, against literals worked out by hand."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="the heavy stack is not installed")

import torch

from nemo_prm.data.splitters import splitter
from nemo_prm.errors import ConfigError
from nemo_prm.rewards.placement import step_rewards

NAN = math.nan
#          columns of the response with a prompt of two tokens: 1 to 7; the last token is EOS
PIECES = [b"def f():\n", b"    x = 1\n", b"    return x\n", b"\n", b"def g():\n", b"    return 2\n", b""]
SCORES = torch.tensor([NAN, 0.9, 0.8, 0.5, 0.1, -0.2, -3.0, NAN])


def paid(steps: str, scores: torch.Tensor = SCORES, **rules: object) -> list[float]:
    rewards = step_rewards(scores, 2, PIECES, "python", splitter(steps), **rules)  # type: ignore[arg-type]
    return [round(value, 6) for value in rewards.tolist()]


def test_functions_are_paid_where_they_end() -> None:
    # f ends with its return, g takes the blank line above it: two steps, scores 0.5 and -3, which is clamped to -1
    assert paid("functions") == [0, 0, 0, 0.25, 0, 0, -0.5, 0]
    assert paid("functions", clamp=None) == [0, 0, 0, 0.25, 0, 0, -1.5, 0]
    assert paid("functions", normalise=False) == [0, 0, 0, 0.5, 0, 0, -1, 0]


def test_lines_are_what_the_server_pays() -> None:
    expected = [round(value / 6, 6) for value in (0, 0.9, 0.8, 0.5, 0.1, -0.2, -1, 0)]
    assert paid("lines") == expected


def test_a_step_that_ends_where_no_line_is_scored_is_an_error() -> None:
    scores = SCORES.clone()
    scores[3] = NAN
    with pytest.raises(ConfigError, match="rules.code_only=false"):
        paid("functions", scores)


def test_an_empty_response_is_paid_nothing() -> None:
    rewards = step_rewards(torch.tensor([NAN, NAN]), 2, [b""], "python", splitter("functions"))
    assert rewards.tolist() == [0, 0]
