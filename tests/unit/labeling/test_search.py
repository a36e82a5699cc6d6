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
"""Binary search against brute force, and labels written out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_prm.labeling.search import (
    PrefixSearch,
    Split,
    hard_labels,
    longest_completable_prefix,
    monotonicity_violations,
    soft_labels,
)


def brute_force(points: list[int], completable: set[int]) -> int:
    """The longest completable one of all prefixes that may be asked about, each of them asked."""
    return max((i for i in points if i in completable), default=0)


@pytest.mark.parametrize("num_steps", range(0, 65))
def test_equals_brute_force_on_every_monotone_pattern(num_steps: int) -> None:
    points = list(range(1, num_steps + 1))
    for boundary in range(0, num_steps + 1):
        completable = set(range(1, boundary + 1))
        result = longest_completable_prefix(num_steps, lambda i: True, completable.__contains__)
        assert result.longest == brute_force(points, completable)
        assert len(result.asked) <= math.ceil(math.log2(num_steps + 1))
        assert len({i for i, _ in result.asked}) == len(result.asked)
        assert all(1 <= i <= num_steps and answer == (i in completable) for i, answer in result.asked)


@pytest.mark.parametrize("num_steps", range(1, 65, 3))
def test_any_split_gives_the_same_labels(num_steps: int) -> None:
    splits: list[Split] = [
        lambda low, high: low + 1,
        lambda low, high: high,
        lambda low, high: max((low + 3 * high) // 4, low + 1),
    ]
    for boundary in range(0, num_steps + 1):
        for split in splits:
            result = longest_completable_prefix(num_steps, lambda i: True, lambda i: i <= boundary, split)  # noqa: B023
            assert result.longest == boundary
            assert len({i for i, _ in result.asked}) == len(result.asked)


def test_monotonicity_violations() -> None:
    assert monotonicity_violations([]) == monotonicity_violations([False, False]) == 0
    assert monotonicity_violations([True, True, False, False]) == 0
    assert monotonicity_violations([True, False, True, False]) == 1
    assert monotonicity_violations([False, False, False, True]) == 3


@given(st.lists(st.booleans(), max_size=64), st.integers(0, 64))
def test_neutral_steps_are_never_asked_about(is_code: list[bool], boundary: int) -> None:
    points = [i for i, code in enumerate(is_code, start=1) if code]
    completable = set(range(1, boundary + 1))
    result = longest_completable_prefix(len(is_code), lambda i: is_code[i - 1], completable.__contains__)
    assert result.longest == brute_force(points, completable)
    assert {i for i, _ in result.asked} <= set(points)
    assert len(result.asked) <= math.ceil(math.log2(len(points) + 1))


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_without_monotony_the_result_is_a_change_from_yes_to_no(answers: list[bool]) -> None:
    result = longest_completable_prefix(len(answers), lambda i: True, lambda i: answers[i - 1])
    if result.longest:
        assert answers[result.longest - 1]
    after = result.longest + 1
    assert after > len(answers) or not answers[after - 1]


def test_a_comment_at_the_end_changes_no_label_of_code() -> None:
    plain = longest_completable_prefix(3, lambda i: True, lambda i: i <= 3)
    padded = longest_completable_prefix(5, lambda i: i <= 3, lambda i: i <= 3)
    assert plain.longest == padded.longest == 3


def test_a_response_that_was_cut_off_is_completable_as_a_whole() -> None:
    assert longest_completable_prefix(4, lambda i: True, lambda i: True).longest == 4


def test_a_search_is_driven_step_by_step() -> None:
    search = PrefixSearch([1, 2, 4, 5, 6])
    assert (search.next_probe, search.longest) == (4, 0)
    search.record(False)
    assert search.next_probe == 2
    search.record(True)
    assert (search.next_probe, search.longest) == (None, 2)
    assert search.asked == [(4, False), (2, True)]
    with pytest.raises(AssertionError, match="over"):
        search.record(True)


def test_hard_labels() -> None:
    neutral = (False, True, False, False, True)
    assert hard_labels(neutral, 3) == (1, 0, 1, -1, 0)
    assert hard_labels(neutral, 5) == (1, 0, 1, 1, 0)
    assert hard_labels(neutral, 0) == (-1, 0, -1, -1, 0)
    assert hard_labels((), 0) == ()


def test_soft_labels() -> None:
    neutral = (False, False, True, False, False, False)
    shares = {2: 0.75, 4: 0.25, 5: 0.0}
    assert soft_labels(neutral, 4, shares) == (0.5, 0.5, 0, -0.5, -1, -1)
    assert soft_labels(neutral, 4, {4: 1.0, 5: 0.0}) == (1, 1, 0, 1, -1, -1)
    assert soft_labels((False, False), 0, {1: 0.0}) == (-1, -1)
