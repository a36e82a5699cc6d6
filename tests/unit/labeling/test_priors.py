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
"""What is learned from rows, and that it saves completions without losing labels."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from typing import Any, Sequence

import numpy as np
import pytest

from nemo_prm.labeling.priors import BINS, ERROR_RATES, MAX_MISS, Outlook, Prior, Waves, learn
from nemo_prm.labeling.search import Split, halve, longest_completable_prefix
from nemo_prm.types import Cost, LabelRow, Probe, ResponseClass, Step

WAVES = Waves(2, 20)


def prior(error_rate: float, shares: Sequence[float] = (1.0,) * (BINS + 1)) -> Prior:
    """One that knows the policy's error rate."""
    rates = np.isclose(ERROR_RATES, error_rate).astype(float)
    assert rates.sum() == 1
    return Prior(np.array(shares) / sum(shares), rates)


def row(response_class: ResponseClass, labels: Sequence[float], *probes: Probe) -> LabelRow:
    """Steps whose label is 0 are neutral."""
    steps = tuple(Step(i, i + 1, "code" if label else "comment") for i, label in enumerate(labels))
    text = "x" * len(labels)
    return LabelRow("p", "r", "c", "", text, steps, tuple(labels), response_class, probes, Cost(), 0, "g", "s")


def test_waves() -> None:
    sizes = [WAVES.next(drawn) for drawn in (0, 2, 6, 14, 20)]
    assert sizes == [2, 4, 8, 6, 0]
    assert WAVES.starts == [0, 2, 6, 14]
    assert [WAVES.before(drawn) for drawn in (2, 6, 14, 20)] == [0, 2, 6, 14]
    assert [Waves(1, 5).next(drawn) for drawn in (0, 1, 3, 5)] == [1, 2, 2, 0]
    assert Waves(20, 20).starts == [0] and Waves(3, 2).next(0) == 2


def test_where_the_first_bad_line_is() -> None:
    rows = [row("revised", [1, 0, 1, -1, -1])] * 3 + [row("wrong", [-1, -1])] + [row("correct", [1, 1])] * 5
    shares = learn(rows, WAVES).shares * (4 + BINS + 1)
    # 2 of 4 search points is the fourth of eight bins; one of each bin is there from the start
    assert shares.round(6).tolist() == [2, 1, 1, 1, 4, 1, 1, 1, 1]
    chances = learn(rows, WAVES).longest(4)
    assert chances.argmax() == 2 and len(chances) == 5 and chances.sum() == pytest.approx(1)
    assert learn([], WAVES).longest(0).tolist() == pytest.approx([1 / 9])
    half = replace(row("revised", [1, 1, -1, -1]), labels=(0.0, 0.0, -1.0, -1.0))  # soft labels of code
    assert learn([half], WAVES).shares.argmax() == 4


@pytest.mark.parametrize("error_rate", [0.02, 0.1, 0.3])
def test_the_error_rate_is_learned(error_rate: float) -> None:
    """From responses of 10 lines of a policy that slips as often at each; within a factor of 2."""
    rng, rows = random.Random(0), []
    for _ in range(400):
        slips = [i for i in range(10) if rng.random() < error_rate]
        if not slips:
            rows.append(row("correct", [1] * 10))
            continue
        good, probe = slips[0], slips[0] // 2 + 1
        labels = [1] * good + [-1] * (10 - good)
        passes, drawn = (1 - error_rate) ** (10 - probe), 0
        while good >= probe and drawn < 20:
            size = WAVES.next(drawn)
            drawn += size
            if any(rng.random() < passes for _ in range(size)):
                rows.append(row("revised", labels, Probe(probe, drawn, 1)))
                break
        else:
            rows.append(row("wrong", labels, Probe(probe, 20, 0)))
    learned = float((learn(rows, WAVES).rates * ERROR_RATES).sum())
    assert error_rate / 2 < learned < error_rate * 2


def expected_cost(chances: Sequence[float], pass_cost: float, split: Split) -> float:
    """Completions that a search takes on average when no good prefix fails."""
    total = 0.0
    for longest, chance in enumerate(chances):
        search = longest_completable_prefix(len(chances) - 1, lambda i: True, lambda i: i <= longest, split)  # noqa: B023
        total += chance * sum(pass_cost if answer else 20.0 for _, answer in search.asked)
    return total / sum(chances)


def least_cost(chances: Sequence[float], pass_cost: float) -> float:
    """That of the best tree of questions, by trying all of them."""

    @functools.cache
    def cost(low: int, high: int) -> float:
        def asked(point: int) -> float:
            passes, fails = sum(chances[point : high + 1]), sum(chances[low:point])
            return passes * pass_cost + fails * 20.0 + cost(low, point - 1) + cost(point, high)

        return min(map(asked, range(low + 1, high + 1)), default=0.0)

    return cost(0, len(chances) - 1) / sum(chances)


@pytest.mark.parametrize("num_points", [1, 2, 5, 11, 24, 40])
@pytest.mark.parametrize("decay", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("first_wave", [1, 2, 20])
def test_questions_of_a_strong_policy_are_near_the_best(num_points: int, decay: float, first_wave: int) -> None:
    known = prior(0.001, [decay**i for i in range(BINS + 1)])
    split = Outlook(known, num_points, Waves(first_wave, 20)).split
    chances = known.longest(num_points).tolist()
    best, ours = least_cost(chances, first_wave), expected_cost(chances, first_wave, split)
    assert best <= ours + 1e-9 and ours <= 1.07 * best
    assert ours <= expected_cost(chances, first_wave, halve) + 1e-9


def test_a_prefix_that_a_weak_policy_may_fail_on_by_chance_is_not_asked_about_early() -> None:
    strong, weak = Outlook(prior(0.01), 16, WAVES), Outlook(prior(0.3), 16, WAVES)
    assert strong.split(0, 16) < halve(0, 16) == 9
    assert prior(0.3).all_fail(np.array([12]), np.array([20]))[0] > MAX_MISS
    assert weak.split(0, 16) >= 9
    assert [weak.split(0, high) for high in (1, 2, 3)] == [1, 2, 2]  # where nothing is safe, the middle


def test_scores_of_a_process_reward_model_find_the_line_at_once() -> None:
    known = prior(0.02)
    scores = [1.0] * 9 + [-1.0] * 11
    split = Outlook(known, 20, WAVES, scores).split
    search = longest_completable_prefix(20, lambda i: True, lambda i: i <= 9, split)
    assert search.asked == ((9, True), (10, False))
    misled = longest_completable_prefix(20, lambda i: True, lambda i: i <= 15, split)
    assert misled.longest == 15


def test_scores_that_are_all_wrong_cost_no_more_than_a_search_needs() -> None:
    for truth, scores in ((40, [-1.0] * 40), (0, [1.0] * 40)):
        split = Outlook(prior(0.02), 40, WAVES, scores).split
        search = longest_completable_prefix(40, lambda i: True, lambda i: i <= truth, split)  # noqa: B023
        assert search.longest == truth and len(search.asked) < 20


def test_where_a_program_that_passed_left_the_response_is_asked_about_next() -> None:
    outlook = Outlook(prior(0.01), 20, WAVES)
    outlook.follow(9)
    search = longest_completable_prefix(20, lambda i: True, lambda i: i <= 9, outlook.split)
    assert search.asked == ((10, False), (9, True)) or search.asked == ((9, True), (10, False))
    for truth in (0, 4, 9, 15, 20):  # it may mislead, and decides nothing
        assert longest_completable_prefix(20, lambda i: True, lambda i: i <= truth, outlook.split).longest == truth  # noqa: B023
    assert outlook.good(9, 0, 20) > 0.9 > 0.5 > outlook.good(10, 0, 20)


def test_patience() -> None:
    outlook = Outlook(prior(0.1), 10, WAVES)
    assert outlook.patience(5, 0, 10, 0.0) == 20
    assert outlook.patience(10, 0, 10, 0.05) == 2  # the last line: one good completion in ten is bad
    assert outlook.patience(1, 0, 10, 0.05) > 2
    assert outlook.patience(1, 0, 10, 1.0) == 2  # some are always drawn


def test_patience_keeps_its_word() -> None:
    """The chance that a pass was missed, over simulated prefixes, is what it was said to be."""
    rng, error_rate, epsilon = random.Random(1), 0.15, 0.1
    outlook = Outlook(prior(error_rate), 10, WAVES)
    patience = outlook.patience(3, 0, 10, epsilon)
    assert 2 <= patience < 20
    passes, missed, given_up = (1 - error_rate) ** 7, 0, 0
    for _ in range(20_000):
        good = rng.random() < outlook.good(3, 0, 10)
        first = next((i for i in range(20) if good and rng.random() < passes), 20)
        if first >= patience:
            given_up += 1
            missed += first < 20
    assert missed / given_up < epsilon


def simulate(num_lines: int, error_rate: float, split: Any, count: int, seed: int) -> tuple[float, float]:
    """Share of responses whose first bad line is found exactly, and completions for one."""
    rng, exact, drawn_in_all = random.Random(seed), 0, 0
    for _ in range(count):
        bad = num_lines
        while bad == num_lines:
            bad = next((i for i in range(num_lines) if rng.random() < error_rate), num_lines)

        def oracle(prefix: int) -> bool:
            nonlocal drawn_in_all
            drawn = 0
            while size := WAVES.next(drawn):
                drawn, drawn_in_all = drawn + size, drawn_in_all + size
                passes = (1 - error_rate) ** (num_lines - prefix) if prefix <= bad else 0.0  # noqa: B023
                if any(rng.random() < passes for _ in range(size)):
                    return True
            return False

        exact += longest_completable_prefix(num_lines, lambda i: True, oracle, split).longest == bad
    return exact / count, drawn_in_all / count


@pytest.mark.parametrize(("error_rate", "saved"), [(0.02, 1.3), (0.1, 1.3), (0.2, 1.05), (0.3, 0.95)])
def test_it_costs_less_and_finds_as_many_first_bad_lines(error_rate: float, saved: float) -> None:
    shares = [0.0] * (BINS + 1)
    for i in range(13):
        shares[-(-BINS * i // 12)] += (1 - error_rate) ** i
    outlook = Outlook(prior(error_rate, shares), 12, WAVES)
    exact, cost = simulate(12, error_rate, outlook.split, 1500, 0)
    exact_by_halves, cost_by_halves = simulate(12, error_rate, halve, 1500, 1)
    assert exact > exact_by_halves - 0.03
    assert cost_by_halves > saved * cost


def test_a_prefix_with_nothing_left_to_write_tells_nothing() -> None:
    """It was cut off, say; of the completions, which write nothing, the second wave's was the first that passed."""
    waves = Waves(2, 20)
    usual = [row("revised", [1] * 5 + [-1] * 5, Probe(5, 2, 1), Probe(6, 20, 0))] * 20
    odd = row("revised", [1] * 10, Probe(10, 6, 1))
    learned = learn([*usual, odd], waves)
    assert np.isfinite(learned.shares).all() and np.isfinite(learned.rates).all()
    before = learn(usual, waves)
    assert abs(learned.rates @ ERROR_RATES - before.rates @ ERROR_RATES) < 0.05


def test_where_all_completions_are_drawn_their_share_tells_the_error_rate() -> None:
    waves = Waves(2, 20)
    rows = [row("revised", [1] * 5 + [-1] * 5, Probe(5, 20, passed), Probe(6, 20, 0)) for passed in (18, 19, 19, 20)]
    learned = learn(rows * 5, waves, draws_all=True)
    assert learned.rates @ ERROR_RATES < 0.2 < learn(rows * 5, waves).rates @ ERROR_RATES
