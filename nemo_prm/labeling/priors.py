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
"""What earlier responses of a job tell about the next one: where its first bad line may be, and what a question costs.

The model behind it is small. The policy writes each further line right with probability 1 - e, so a good prefix with r
lines to go is completed by one completion with probability (1 - e)^r; e differs from response to response. Its
distribution, and that of the position of the first bad line, are learned from rows.

It never decides a label in exact mode: it chooses the order of questions. Rows are taken by whole epochs (see
`nemo_prm.labeling.scheduler`), so the same seed asks the same questions however the work was scheduled.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Iterable, Sequence, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nemo_prm.labeling.search import halve
from nemo_prm.types import LabelRow

Floats: TypeAlias = "NDArray[np.float64]"

ERROR_RATES: Floats = np.array([0.001, 0.003, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8])  # e
BINS = 8  # of the position of the first bad line, relative to the number of search points
EM_ROUNDS = 40
MAX_MISS = 0.01  # chance that K completions of a good prefix all fail, up to which it may be asked about early
LEAST_DOUBT = 0.02  # a process reward model is never believed beyond this, nor a completion that left the response
LEAST_CHANCE = 1e-9  # of an L: sums of smaller ones would vanish beside 1
REPEATED = 0.9  # how often a completion that passes writes a good line as the response has it


@dataclass(frozen=True)
class Waves:
    """How many completions are drawn at a time: `first`, then twice as many each time, up to `most` (K) in all."""

    first: int
    most: int

    def next(self, drawn: int) -> int:
        """The size of the next wave after so many; 0 after the last."""
        return min(drawn + self.first, self.most - drawn)

    def before(self, drawn: int) -> int:
        """Completions drawn before the wave that made them `drawn`."""
        total = 0
        while total + self.next(total) < drawn:
            total += self.next(total)
        return total

    @functools.cached_property
    def starts(self) -> list[int]:
        """Completions drawn before each wave."""
        starts = [0]
        while size := self.next(starts[-1]):
            starts.append(starts[-1] + size)
        return starts[:-1]


@dataclass(frozen=True)
class Prior:
    """What is known before a failed response is searched.

    Attributes:
        shares: [BINS + 1] how often L / n, the share of search points that are completable, is 0 or in each bin.
        rates: [len(ERROR_RATES)] how often the policy has each error rate on a response that failed.
    """

    shares: Floats
    rates: Floats

    def longest(self, num_points: int) -> Floats:
        """How likely L = 0 .. n are, [n + 1], up to a factor; n = `num_points`."""
        borders = np.arange(num_points + 1) / max(num_points, 1) * BINS
        below = np.interp(borders, np.arange(BINS + 1), np.concatenate([[0.0], np.cumsum(self.shares[1:])]))
        return np.concatenate([self.shares[:1], np.diff(below)])

    def all_fail(self, left: Floats, completions: Floats) -> Floats:
        """The chance that so many completions of a good prefix with `left` lines to go all fail; shapes broadcast."""
        passes = pass_chances(left)
        return np.asarray((self.rates * (1 - passes) ** completions[..., None]).sum(axis=-1))


class Outlook:
    """What to expect of the search of one response with n search points.

    `split` asks where an answer tells the most bits per completion that it is expected to take. A question that is
    answered "no" takes all K completions, one that is answered "yes" only as many as it takes until the first passes.
    So it pays to ask where "yes" is likely, nearer to the start than the middle; but not so near that the policy, with
    many lines to go, may well fail K times by chance (`MAX_MISS`): there it asks in the middle, as Algorithm 1 does.
    The rule is greedy, and stays within 7 % of the best tree of questions (`tests/unit/labeling/test_priors.py`).
    `follow` takes in what a completion that passed tells beside its "yes".
    """

    def __init__(self, prior: Prior, num_points: int, waves: Waves, scores: Sequence[float] | None = None) -> None:
        """
        Args:
            prior: what is known.
            num_points: n.
            waves: of completions.
            scores: of a process reward model, in [-1, 1], one per search point; None where there is none.
        """
        chances = prior.longest(num_points)
        if scores is not None:
            chances = chances * first_error_chances(scores)
        self._believe(chances)
        self._starts = np.array([*waves.starts, waves.most])
        left = num_points - np.arange(num_points + 1)
        self._all_fail = prior.all_fail(left[:, None], self._starts[None, :])  # [n + 1, waves + 1]
        self._good_cost = (self._all_fail[:, :-1] * np.diff(self._starts)).sum(axis=1)
        self._bad_cost = float(waves.most)

    def _believe(self, chances: Floats) -> None:
        """Take the chances of L = 0 .. n, up to a factor; none stays below `LEAST_CHANCE`, whatever was believed."""
        self._chances = np.maximum(chances / chances.sum(), LEAST_CHANCE)
        self._sums = np.concatenate([[0.0], np.cumsum(self._chances)])

    def follow(self, shared: int) -> None:
        """Take in a program that passed and has the first `shared` search points of the response, and then differs.

        The first bad step is likely where it left the response: it cannot be before, and each good step after that
        would have been repeated with `REPEATED`. That the program passed is no answer to a question: those are
        answered by the completions of their own prefixes.
        """
        longest = np.arange(len(self._chances))
        likelihood = np.where(longest < shared, LEAST_DOUBT, np.where(longest == shared, 1.0, 1 - REPEATED))
        self._believe(self._chances * likelihood)

    def good(self, point: int, low: int, high: int) -> float:
        """The chance that L >= `point` when `low` <= L <= `high`."""
        return float((self._sums[high + 1] - self._sums[point]) / (self._sums[high + 1] - self._sums[low]))

    def split(self, low: int, high: int) -> int:
        """See `nemo_prm.labeling.search.Split`."""
        points = np.arange(low + 1, high + 1)
        good = (self._sums[high + 1] - self._sums[points]) / (self._sums[high + 1] - self._sums[low])
        miss = self._all_fail[points, -1]
        bits = _entropy(good * (1 - miss)) - good * _entropy(miss)
        worth = bits / (good * self._good_cost[points] + (1 - good) * self._bad_cost)
        worth[(miss > MAX_MISS) & (points != halve(low, high))] = -1.0
        return int(points[int(np.argmax(worth))])

    def patience(self, point: int, low: int, high: int, epsilon: float) -> int:
        """How many completions may fail before a pass among the rest is less likely than `epsilon`; at most K."""
        good, fail = self.good(point, low, high), self._all_fail[point]
        chance = good * (fail - fail[-1]) / (good * fail + 1 - good)  # after each wave
        enough = np.flatnonzero((chance < epsilon) & (self._starts > 0))
        return int(self._starts[enough[0] if enough.size else -1])


def _entropy(chance: Floats) -> Floats:
    """Bits in the answer to questions that are answered "yes" with these probabilities."""
    inside = np.clip(chance, 1e-12, 1 - 1e-12)
    return np.asarray(-inside * np.log2(inside) - (1 - inside) * np.log2(1 - inside))


def first_error_chances(scores: Sequence[float]) -> Floats:
    """How likely the first L steps are good and the next is not, L = 0 .. n, by a PRM's scores in [-1, 1]."""
    good = np.clip((np.asarray(scores, dtype=np.float64) + 1) / 2, LEAST_DOUBT, 1 - LEAST_DOUBT)
    return np.concatenate([[1.0], np.cumprod(good)]) * np.concatenate([1 - good, [1.0]])


def pass_chances(left: Floats | int) -> Floats:
    """[..., len(ERROR_RATES)]: the chance that one completion writes `left` lines right, by error rate."""
    return np.asarray(np.maximum((1 - ERROR_RATES) ** np.asarray(left)[..., None], 1e-9))


def learn(rows: Iterable[LabelRow], waves: Waves, draws_all: bool = False) -> Prior:
    """Return what labelled responses tell about further ones; without any, that all is equally likely.

    Args:
        rows: labelled responses.
        waves: of the completions of their prefixes.
        draws_all: all completions were drawn, also after one that passed.
    """
    shares = np.ones(BINS + 1)
    likelihoods, failed = [np.ones(len(ERROR_RATES))], [True]
    for row in rows:
        neutral = row.neutral
        num_points = neutral.count(False)
        if num_points == 0:
            continue
        right = pass_chances(num_points)
        failed.append(row.response_class != "correct")
        if not failed[-1]:
            likelihoods.append(right)
            continue
        completable = sum(label > -1 and not skip for label, skip in zip(row.labels, neutral))
        shares[-(-BINS * completable // num_points)] += 1
        likelihood = 1 - right
        for probe in row.probes:
            if probe.num_passed:  # one that did not may be of a bad prefix
                left = neutral[probe.num_steps :].count(False)
                if not left:
                    continue  # nothing was left to write, right or wrong
                passes = pass_chances(left)
                fails = 1 - passes
                if draws_all:
                    seen = passes**probe.num_passed * fails ** (probe.num_completions - probe.num_passed)
                else:
                    seen = fails ** waves.before(probe.num_completions) - fails**probe.num_completions
                likelihood = likelihood * seen / (1 - fails**waves.most)
        likelihoods.append(np.maximum(likelihood, np.finfo(float).tiny))
    posteriors = _posteriors(np.array(likelihoods))
    return Prior(shares / shares.sum(), posteriors[np.array(failed)].mean(axis=0))


def _posteriors(likelihoods: Floats) -> Floats:
    """[rows, len(ERROR_RATES)]: the error rate of each response, under the mixture that makes all most likely (EM)."""
    mixture = np.full(likelihoods.shape[1], 1 / likelihoods.shape[1])
    for _ in range(EM_ROUNDS):
        posteriors = likelihoods * mixture
        posteriors /= posteriors.sum(axis=1, keepdims=True)
        mixture = posteriors.mean(axis=0)
    return np.asarray(posteriors)
