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
"""How well a process reward model tells good lines from bad ones, and finds the first bad one.

Neutral lines count nowhere. A line is bad where its label is below 0; a score below `THRESHOLD` calls it bad.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from nemo_prm.types import ResponseClass

THRESHOLD = 0.0  # labels are +1 and -1: the middle
NUM_BINS = 10
LENGTHS = (50, 100, 200)  # upper ends of the length buckets, in tokens of the response; the paper parts at 100


@dataclass(frozen=True)
class ScoredResponse:
    """Scores and labels of the labelled lines of one response, in order; both in [-1, 1], labels may be soft.

    `num_tokens` are the response's. `neutral` says which lines are; by default those with label 0.
    """

    scores: tuple[float, ...]
    labels: tuple[float, ...]
    response_class: ResponseClass
    difficulty: str = "unknown"
    num_tokens: int = 0
    neutral: tuple[bool, ...] | None = None

    def with_scores(self, scores: Iterable[float]) -> ScoredResponse:
        """The same response as another model scores it."""
        return replace(self, scores=tuple(scores))

    def lines(self) -> list[tuple[float, float]]:
        """Score and label of each line that is not neutral."""
        neutral = [label == 0 for label in self.labels] if self.neutral is None else self.neutral
        return [(score, label) for score, label, skip in zip(self.scores, self.labels, neutral) if not skip]

    def first_error(self) -> int | None:
        """Which of `lines` is the first bad one; None where all are good."""
        return next((i for i, (_, label) in enumerate(self.lines()) if label < 0), None)

    def first_flagged(self) -> int | None:
        """Which of `lines` is the first that the scores call bad."""
        return next((i for i, (score, _) in enumerate(self.lines()) if score < THRESHOLD), None)


class Bin(NamedTuple):
    """Lines whose predicted chance of being good lies in one tenth of [0, 1]: their number, and the two means."""

    lines: int
    predicted: float
    observed: float


def area_under_roc(scores: Sequence[float], good: Sequence[bool]) -> float:
    """Chance that a good line scores above a bad one, ties counted half; NaN where there is only one kind.

    The Mann-Whitney statistic from mean ranks: O(n log n).
    """
    num_good = sum(good)
    num_bad = len(good) - num_good
    if not num_good or not num_bad:
        return math.nan
    order = sorted(range(len(scores)), key=scores.__getitem__)
    rank_sum, start = 0.0, 0
    while start < len(order):
        end = start + 1
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        rank_sum += (start + end + 1) / 2 * sum(good[i] for i in order[start:end])  # ranks start + 1 to end
        start = end
    return (rank_sum - num_good * (num_good + 1) / 2) / (num_good * num_bad)


class FirstError(NamedTuple):
    """ProcessBench's accuracies, NaN where there is no such response.

    `correct`: of the responses without a bad line, those where none is flagged; `erroneous`: of the others, those
    where the first flagged line is the first bad one.
    """

    correct: float
    erroneous: float

    @property
    def f1(self) -> float:
        """Their harmonic mean (ProcessBench, arXiv 2412.06559, section 3)."""
        if math.isnan(self.correct) or math.isnan(self.erroneous):
            return math.nan
        total = self.correct + self.erroneous
        return 2 * self.correct * self.erroneous / total if total else 0.0


def first_error(responses: Iterable[ScoredResponse]) -> FirstError:
    """How often the first bad line is found, and no line of a good response is flagged."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for response in responses:
        if response.lines():
            truth = response.first_error()
            hits[truth is None].append(response.first_flagged() == truth)
    return FirstError(_mean(hits[True]), _mean(hits[False]))


def first_error_matrix(responses: Iterable[ScoredResponse]) -> dict[str, dict[str, int]]:
    """How many responses have a bad line or not, against where the first flagged line is.

    Returns:
        By truth, "bad line" or "all good": counts of "before it", "at it", "after it" and "nowhere"; a flag in a good
        response is "before it".
    """
    counts = {
        truth: dict.fromkeys(("before it", "at it", "after it", "nowhere"), 0) for truth in ("bad line", "all good")
    }
    for response in responses:
        if not response.lines():
            continue
        truth, flagged = response.first_error(), response.first_flagged()
        if flagged is None:
            place = "nowhere"
        elif truth is None or flagged < truth:
            place = "before it"
        else:
            place = "at it" if flagged == truth else "after it"
        counts["all good" if truth is None else "bad line"][place] += 1
    return counts


def roc_curve(scores: Sequence[float], good: Sequence[bool]) -> list[tuple[float, float]]:
    """Shares of the bad and of the good lines that score at least a threshold, for each threshold, from (0, 0)."""
    num_good = sum(good)
    num_bad = len(good) - num_good
    points, hits, order = [(0.0, 0.0)], [0, 0], sorted(range(len(scores)), key=lambda i: -scores[i])
    for position, index in enumerate(order):
        hits[good[index]] += 1
        if position + 1 == len(order) or scores[order[position + 1]] != scores[index]:
            points.append((hits[0] / max(num_bad, 1), hits[1] / max(num_good, 1)))
    return points


def calibration_bins(lines: Sequence[tuple[float, float]]) -> list[Bin]:
    """Score and label of lines, both mapped from [-1, 1] to chances, in `NUM_BINS` bins of equal width."""
    bins: list[list[tuple[float, float]]] = [[] for _ in range(NUM_BINS)]
    for score, label in lines:
        chance = (min(max(score, -1.0), 1.0) + 1) / 2
        bins[min(int(chance * NUM_BINS), NUM_BINS - 1)].append((chance, (label + 1) / 2))
    return [Bin(len(each), _mean(c for c, _ in each), _mean(o for _, o in each)) for each in bins]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean over lines of |predicted - observed| of their bin.

    Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599, Eq. 3.
    """
    total = sum(each.lines for each in bins)
    gaps = (each.lines * abs(each.predicted - each.observed) for each in bins if each.lines)
    return sum(gaps) / total if total else math.nan


def measure(responses: Sequence[ScoredResponse]) -> dict[str, float]:
    """All numbers of a set of responses; NaN where one cannot be computed.

    Returns:
        responses, lines (counts), mse, auc, accuracy (lines called what they are), first_error_f1 with its two
        accuracies, ece.
    """
    lines = [line for response in responses for line in response.lines()]
    found = first_error(responses)
    good = [label >= 0 for _, label in lines]
    return {
        "responses": len(responses),
        "lines": len(lines),
        "mse": _mean((score - label) ** 2 for score, label in lines),
        "auc": area_under_roc([score for score, _ in lines], good),
        "accuracy": _mean((score >= THRESHOLD) is truth for (score, _), truth in zip(lines, good)),
        "first_error_f1": found.f1,
        "accuracy_on_correct": found.correct,
        "accuracy_on_erroneous": found.erroneous,
        "ece": calibration_error(calibration_bins(lines)),
    }


def constant_baseline(responses: Sequence[ScoredResponse]) -> list[ScoredResponse]:
    """Every line scored with the mean label: what is known without looking."""
    mean = _mean(label for response in responses for _, label in response.lines())
    return [response.with_scores([mean] * len(response.labels)) for response in responses]


def outcome_baseline(responses: Sequence[ScoredResponse]) -> list[ScoredResponse]:
    """Every line of a response scored as its last line is: the model as an outcome reward model, one score for all."""
    return [response.with_scores(response.scores[-1:] * len(response.labels)) for response in responses]


def perfect_outcome(responses: Sequence[ScoredResponse]) -> list[ScoredResponse]:
    """Every line scored with the true outcome of its response, +1 passed or -1 failed: what tests tell."""
    return [
        response.with_scores([1.0 if response.response_class == "correct" else -1.0] * len(response.labels))
        for response in responses
    ]


def validation_report(responses: Sequence[ScoredResponse]) -> dict[str, Any]:
    """`measure` of the model and the baselines, over all responses and split; what validation.json holds.

    Returns:
        model, constant, outcome_only, perfect_outcome: measures; by_class, by_length, by_difficulty: the same four by
        group; reliability: the bins of the calibration error.
    """
    scored = {
        "model": responses,
        "constant": constant_baseline(responses),  # of all responses, in a group too
        "outcome_only": outcome_baseline(responses),
        "perfect_outcome": perfect_outcome(responses),
    }

    def split(key: Callable[[ScoredResponse], str]) -> Mapping[str, Any]:
        keys = [key(response) for response in responses]
        return {
            group: {
                name: measure([entry for entry, found in zip(entries, keys) if found == group])
                for name, entries in scored.items()
            }
            for group in sorted(set(keys))
        }

    lines = [line for response in responses for line in response.lines()]
    return {
        **{name: measure(entries) for name, entries in scored.items()},
        "by_class": split(lambda response: response.response_class),
        "by_length": split(lambda response: length_bucket(response.num_tokens)),
        "by_difficulty": split(lambda response: response.difficulty),
        "reliability": [each._asdict() for each in calibration_bins(lines)],
    }


def length_bucket(num_tokens: int) -> str:
    """Name of the bucket of a response's length; names sort as the lengths do."""
    lower = 0
    for upper in LENGTHS:
        if num_tokens <= upper:
            return f"{lower:03d}-{upper:03d}"
        lower = upper + 1
    return f"{lower:03d}+"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else math.nan
