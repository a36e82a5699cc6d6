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

import random

import pytest

pytest.importorskip("nemo", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

from nemo_prm.errors import ConfigError
from nemo_prm.serving.reward import RewardRules, plan_passes


def test_every_row_is_in_one_pass_of_at_most_so_many_rows() -> None:
    rng = random.Random(1)
    for _ in range(50):
        lengths = [rng.randint(2, 300) for _ in range(rng.randint(1, 90))]
        passes = plan_passes(lengths, 16, 100.0)
        assert sorted(index for part in passes for index in part) == list(range(len(lengths)))
        assert max(map(len, passes)) <= 16


def test_little_of_a_large_batch_is_padding() -> None:
    rng = random.Random(2)
    lengths = [rng.randint(50, 230) for _ in range(64)]
    computed = sum(len(part) * max(lengths[index] for index in part) for part in plan_passes(lengths, 32, 64.0))
    assert 1 - sum(lengths) / computed < 0.1


def test_few_short_rows_share_a_pass() -> None:
    assert plan_passes([10, 90, 40], 32, 200.0) == [[0, 2, 1]]


def test_the_plan_is_the_cheapest() -> None:
    # together 3 * 90 + 50 = 320; apart 50 + 10 + 50 + 2 * 90 = 290; three passes 290
    assert plan_passes([90, 10, 90], 32, 50.0) == [[1], [0, 2]]
    assert plan_passes([90, 10, 90], 32, 100.0) == [[1, 0, 2]]  # 370 against 390
    assert plan_passes([], 32, 1.0) == []


def test_a_bound_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="rules.clamp must be over 0"):
        RewardRules(clamp=0.0)
