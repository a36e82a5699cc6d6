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
import random

import pytest

from nemo_prm.data.selection import count_labels
from nemo_prm.evaluation.step_metrics import (
    ScoredResponse,
    area_under_roc,
    calibration_bins,
    calibration_error,
    first_error,
    length_bucket,
    measure,
    validation_report,
)
from nemo_prm.types import Cost, LabelRow, Step


def response(scores, labels, response_class="revised", **others) -> ScoredResponse:
    return ScoredResponse(tuple(scores), tuple(labels), response_class, **others)


def test_area_under_roc_counts_pairs() -> None:
    rng = random.Random(1)
    for _ in range(50):
        scores = [rng.choice([0.1, 0.2, 0.3, 0.4]) for _ in range(rng.randint(2, 30))]
        good = [rng.random() < 0.5 for _ in scores]
        pairs = [(s, t) for s, g in zip(scores, good) if g for t, b in zip(scores, good) if not b]
        expected = sum((s > t) + (s == t) / 2 for s, t in pairs) / len(pairs) if pairs else math.nan
        assert area_under_roc(scores, good) == pytest.approx(expected, nan_ok=True)


def test_first_error_f1_is_the_harmonic_mean_of_two_accuracies() -> None:
    responses = [
        response([0.5, 0.1], [1, 1], "correct"),  # nothing flagged: right
        response([0.5, -0.1], [1, 1], "correct"),  # a good line flagged
        response([0.5, -0.1, -0.1], [1, -1, -1]),  # found
        response([-0.5, -0.1, 0.1], [1, -1, -1]),  # flagged too early
        response([0.5, 0.1, -0.1], [1, -1, -1]),  # too late
        response([0.5, 0.1], [-1, -1], "wrong"),  # never
    ]
    found = first_error(responses)
    assert found == (1 / 2, 1 / 4)
    assert found.f1 == pytest.approx(2 * 0.5 * 0.25 / 0.75)
    assert math.isnan(first_error(responses[:2]).f1)
    assert first_error([responses[1], responses[2]]).f1 == 0


def test_neutral_lines_count_nowhere() -> None:
    with_comments = response([-1.0, 0.5, -1.0, -0.5], [0, 1, 0, -1])
    without = response([0.5, -0.5], [1, -1])
    assert measure([with_comments]) == pytest.approx(measure([without]), nan_ok=True)
    assert first_error([with_comments]).erroneous == 1
    assert math.isnan(first_error([response([-1.0], [0], "correct")]).correct)


def test_a_thought_whose_derivations_pass_half_of_the_tests_is_no_neutral_one() -> None:
    thoughts = response([-0.9, 0.9, 1.0], [0, 0, 1], neutral=(False,) * 3)
    found = measure([thoughts])
    assert (found["lines"], found["mse"]) == (3, pytest.approx((0.81 + 0.81) / 3))
    assert first_error([thoughts]).correct == 0  # all are good, and one is flagged
    assert thoughts.with_scores([1, 1, 1]).lines() == [(1, 0), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("kinds", "labels", "neutral"),
    [
        (("thought", "thought", "code"), (0, 0, 1), (False, False, False)),
        (("thought", "thought", "code"), (-1, 1, 0), (False, False, False)),
        (("comment", "code", "code"), (0, 0, 0.5), (True, False, False)),  # soft labels of lines
        (("comment", "code", "blank"), (0, 1, 0), (True, False, True)),
        (("code", "code", "comment", "code"), (0, 0, 0, -1), (False, False, True, False)),  # soft ones, of half
    ],
)
def test_which_labels_of_a_row_are_neutral(kinds, labels, neutral) -> None:
    steps = tuple(Step(i, i + 1, kind) for i, kind in enumerate(kinds))
    row = LabelRow("p", "r", "c", "", "abc", steps, labels, "revised", (), Cost(), 1, "", "")
    assert row.neutral == neutral
    counts = count_labels([row])
    assert counts == {
        "positive": sum(label >= 0 for label in labels) - sum(neutral),
        "neutral": sum(neutral),
        "negative": sum(label < 0 for label in labels),
    }


def test_calibration_error_by_hand() -> None:
    # chances 0.05 (2 lines, one good), 0.95 (2 lines, both good)
    lines = [(-0.9, -1.0), (-0.9, 1.0), (0.9, 1.0), (0.9, 1.0)]
    bins = calibration_bins(lines)
    assert [each.lines for each in bins] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (bins[0].predicted, bins[0].observed) == (pytest.approx(0.05), 0.5)
    assert calibration_error(bins) == pytest.approx((2 * 0.45 + 2 * 0.05) / 4)
    assert calibration_bins([(2.0, 1.0)])[9].predicted == 1.0  # scores are clamped
    assert math.isnan(calibration_error(calibration_bins([])))


def test_baselines() -> None:
    responses = [
        response([0.9, 0.8], [1, 1], "correct", difficulty="easy", num_tokens=20),
        response([0.7, -0.2], [1, -1], difficulty="hard", num_tokens=120),
        response([-0.2, -0.3], [-1, -1], "wrong", difficulty="hard", num_tokens=51),
    ]
    report = validation_report(responses)
    assert report["model"]["first_error_f1"] == 1 and report["model"]["auc"] == 1
    # the mean label is 0: nothing is flagged, and every line that is bad is called good
    assert report["constant"]["first_error_f1"] == 0 and report["constant"]["auc"] == 0.5
    assert report["constant"]["accuracy"] == 0.5
    # +1 for all of the correct response, -1 for all of the others: one good line among six is missed
    assert report["perfect_outcome"]["accuracy"] == pytest.approx(5 / 6)
    assert report["perfect_outcome"]["accuracy_on_erroneous"] == 0.5
    # 0.8, -0.2 and -0.3 for all lines: the same verdicts here
    assert report["outcome_only"]["accuracy"] == pytest.approx(5 / 6)
    assert report["outcome_only"]["mse"] == pytest.approx((2 * 0.2**2 + 1.2**2 + 0.8**2 + 2 * 0.7**2) / 6)
    assert list(report["by_class"]) == ["correct", "revised", "wrong"]
    assert {name: found["model"]["responses"] for name, found in report["by_length"].items()} == {
        "000-050": 1,
        "051-100": 1,
        "101-200": 1,
    }
    by_difficulty = report["by_difficulty"]
    assert {name: found["model"]["responses"] for name, found in by_difficulty.items()} == {"easy": 1, "hard": 2}
    for baseline in ("constant", "outcome_only", "perfect_outcome"):  # lines of the groups make up those of all
        found = [by_difficulty[name][baseline] for name in ("easy", "hard")]
        total = sum(each["lines"] * each["mse"] for each in found) / sum(each["lines"] for each in found)
        assert total == pytest.approx(report[baseline]["mse"])
    assert sum(each["lines"] for each in report["reliability"]) == 6


def test_length_buckets() -> None:
    assert [length_bucket(n) for n in (0, 50, 51, 100, 101, 200, 201)] == [
        "000-050",
        "000-050",
        "051-100",
        "051-100",
        "101-200",
        "101-200",
        "201+",
    ]


def test_soft_labels() -> None:
    found = measure([response([0.5, -0.5], [0.5, -0.5])])
    assert found["mse"] == 0 and found["accuracy"] == 1 and found["ece"] == 0


def test_scores_that_are_no_numbers_come_to_an_end() -> None:
    area_under_roc([math.nan, 1.0, math.nan], [True, False, False])
