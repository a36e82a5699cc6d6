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
from itertools import combinations

import pytest

from nemo_prm.evaluation.pass_at_k import Counts, bootstrap_interval, estimate, pass_at_k


@pytest.mark.parametrize("n", range(1, 8))
def test_equals_the_share_of_all_subsets_that_hold_a_pass(n: int) -> None:
    for passed in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(combinations([True] * passed + [False] * (n - passed), k))
            assert pass_at_k(n, passed, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-15)


def test_literals() -> None:
    assert pass_at_k(10, 3, 1) == 0.3
    assert pass_at_k(5, 2, 2) == 0.7  # 1 - C(3,2)/C(5,2) = 1 - 3/10
    assert pass_at_k(10, 1, 10) == 1.0
    assert pass_at_k(10, 0, 10) == 0.0
    assert pass_at_k(4, 1, 2) == 0.5


def test_stays_exact_where_floats_overflow() -> None:
    # C(4000, 2000) has over 1200 digits; one pass among 4000 is in half of all halves.
    assert pass_at_k(4000, 1, 2000) == 0.5


def test_too_few_samples_are_undefined_and_nonsense_raises() -> None:
    assert math.isnan(pass_at_k(2, 2, 3))
    assert math.isnan(pass_at_k(0, 0, 1))
    for arguments in ((3, 4, 1), (3, -1, 1), (3, 1, 0)):
        with pytest.raises(ValueError):
            pass_at_k(*arguments)


def test_problems_weigh_the_same_and_undefined_ones_are_left_out() -> None:
    result = estimate([Counts(10, 10), Counts(2, 0), Counts(0, 0)], k=1, seed=0)
    assert result.mean == 0.5  # not 10/12, and not 1/3
    assert result.num_problems == 2
    assert math.isnan(estimate([Counts(1, 1)], k=2, seed=0).mean)
    assert math.isnan(estimate([], k=1, seed=0).high)


def test_interval_covers_what_the_normal_approximation_covers() -> None:
    values = [0.0] * 60 + [1.0] * 40  # standard error sqrt(0.4 * 0.6 / 100) = 0.049
    low, high = bootstrap_interval(values, seed=7)
    assert low == pytest.approx(0.4 - 1.96 * 0.049, abs=0.02)
    assert high == pytest.approx(0.4 + 1.96 * 0.049, abs=0.02)
    assert (low, high) == bootstrap_interval(values, seed=7)
    assert bootstrap_interval([0.25] * 5, seed=1) == (0.25, 0.25)
