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

from __future__ import annotations

import math

import pytest

from nemo_prm.rewards.monitors import Rollout, rollout_metrics, rollout_sums

NAN = float("nan")


def rollout(text: str, outcome: float, line_rewards: float = NAN, num_tokens: int = 4, language="python") -> Rollout:
    return Rollout("p", language, text, num_tokens, outcome, line_rewards=line_rewards)


def metrics(*rollouts: Rollout) -> dict[str, float]:
    return rollout_metrics(rollout_sums(rollouts))


def test_what_the_lines_are() -> None:
    padded = rollout('"""Doc."""\n# a\n\nx = 1\nx = 1\n  x = 1\ny = "# no comment"\n', 1.0, num_tokens=16)
    plain = rollout("x = 1\n", 1.0)
    found = metrics(padded, plain)
    assert found["lines_per_response"] == 4.0
    assert found["comment_share"] == 2 / 8  # the docstring, and "# a"
    assert found["blank_share"] == 1 / 8
    assert found["repeated_share"] == 2 / 8
    assert found["newline_rate"] == 8 / 20


def test_comments_are_the_language_s_own() -> None:
    assert metrics(rollout("// a\n#include <x>\n", 1.0, language="cpp"))["comment_share"] == 0.5


def test_only_the_code_in_a_fence_counts() -> None:
    assert metrics(rollout("Look:\n\n```python\n# a\nx = 1\n```\n", 1.0))["comment_share"] == 0.5


def test_praise_and_outcome() -> None:
    found = metrics(
        rollout("a\n", 0.0, 0.6), rollout("b\n", 0.0, -0.6), rollout("c\n", 1.0, 0.9), rollout("d\n", NAN, 1.0)
    )
    assert found["pass_rate"] == 1 / 3
    assert found["unknown_outcomes"] == 1
    assert found["praised_failures"] == 1 / 2
    assert found["line_rewards"] == pytest.approx(0.3)
    # scores 0.6, -0.6, 0.9, outcomes 0, 0, 1: covariance 0.2, variances 0.42 and 2 / 9
    assert found["score_outcome_correlation"] == pytest.approx(0.2 / math.sqrt(0.42 * 2 / 9))


def test_what_cannot_be_known_is_nan() -> None:
    assert all(math.isnan(value) for name, value in metrics().items() if name != "unknown_outcomes")
    alike = metrics(rollout("a\n", 1.0, 0.5), rollout("b\n", 1.0, 0.7))
    assert math.isnan(alike["score_outcome_correlation"]) and math.isnan(alike["praised_failures"])
    unasked = metrics(rollout("a\n", 1.0))
    assert math.isnan(unasked["line_rewards"]) and unasked["pass_rate"] == 1.0


def test_a_share_of_the_tests_is_no_pass() -> None:
    found = metrics(rollout("a\n", 0.75, 0.6), rollout("b\n", 1.0, 0.9), rollout("c\n", 0.0, -0.5))
    assert found["pass_rate"] == 1 / 3
    assert found["praised_failures"] == 1 / 2


def test_what_a_reward_model_judges_is_counted_apart() -> None:
    general = Rollout("g", "python", "Hello.\n", 4, -2.5, judged_by="reward_model")
    found = metrics(rollout("a\n", 1.0, 0.5), rollout("b\n", NAN, 0.5), general)
    assert (found["general_reward"], found["pass_rate"], found["unknown_outcomes"]) == (-2.5, 1.0, 1)
    assert found["lines_per_response"] == 1.0


def test_sums_of_ranks_add_up() -> None:
    one, other = [rollout("a\n", 0.0, 0.1)], [rollout("b\n# c\n", 1.0, 0.4), rollout("d", 0.0, 0.3)]
    sums = [rollout_sums(part) for part in (one, other, one + other)]
    assert sums[2] == pytest.approx({name: sums[0][name] + sums[1][name] for name in sums[0]})
