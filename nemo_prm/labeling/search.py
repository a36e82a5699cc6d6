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
"""Search for the longest completable prefix, and the labels that follow: PSGPO, arXiv 2410.17621, Algorithm 1.

Pure functions of what is known; who draws completions and runs programs is `nemo_prm.labeling.labeler`. Prefixes are
counted in steps: prefix i is the first i steps, 1 <= i <= m. A search point is a prefix that ends with a step that is
not neutral. Of n search points the first L are completable, 0 <= L <= n; a question about point s asks whether L >= s.
"""

from __future__ import annotations

from typing import Callable, Mapping, NamedTuple, Protocol, Sequence


class Split(Protocol):
    """Chooses the next question; labels do not depend on it as long as completability is monotone."""

    def __call__(self, low: int, high: int) -> int:
        """Return s in (low, high]: the point to ask about, when `low` <= L <= `high` is known."""
        ...


def halve(low: int, high: int) -> int:
    """Ask in the middle: at most ceil(log2(n + 1)) questions, whatever they cost (Algorithm 1)."""
    return (low + high) // 2 + 1


class SearchResult(NamedTuple):
    """`longest`: steps of the longest prefix found completable, 0 if none was. `asked`: the questions, in order."""

    longest: int
    asked: tuple[tuple[int, bool], ...]


class PrefixSearch:
    """One search, driven from outside: ask about `next_probe`, `record` the answer.

    The last search point is asked like any other: a response that failed may still be the prefix of one that passes
    (it was cut off, or lacks its last line). Prefix 0, the bare prompt, is not asked.
    """

    def __init__(self, search_points: Sequence[int], split: Split = halve) -> None:
        """
        Args:
            search_points: prefixes that end with a step that is not neutral, ascending.
            split: chooses the questions.
        """
        self._points = list(search_points)
        self._split = split
        self._low, self._high = 0, len(self._points)  # L lies between them
        self._next = self._choose()
        self.asked: list[tuple[int, bool]] = []

    @property
    def next_probe(self) -> int | None:
        """The prefix to ask about, None when the search is over."""
        return None if self._next is None else self._points[self._next - 1]

    def record(self, completable: bool) -> None:
        """Take the answer about `next_probe`."""
        assert self._next is not None, "the search is over"
        self.asked.append((self._points[self._next - 1], completable))
        if completable:
            self._low = self._next
        else:
            self._high = self._next - 1
        self._next = self._choose()

    @property
    def state(self) -> tuple[int, int, int]:
        """The point to ask about (0: none), and the bounds of L."""
        return self._next or 0, self._low, self._high

    @property
    def longest(self) -> int:
        """The longest prefix known to be completable, 0 if none is."""
        return self._points[self._low - 1] if self._low else 0

    def _choose(self) -> int | None:
        if self._low == self._high:
            return None
        point = self._split(self._low, self._high)
        assert self._low < point <= self._high, "a split must choose a point whose answer is open"
        return point


def longest_completable_prefix(
    num_steps: int,
    is_search_point: Callable[[int], bool],
    oracle: Callable[[int], bool],
    split: Split = halve,
) -> SearchResult:
    """Find the longest completable prefix of a failed response.

    Args:
        num_steps: m.
        is_search_point: whether prefix i may be asked about (its last step is not neutral).
        oracle: whether prefix i is completable, presumed monotone: true up to some i, false above. Where it is not,
            the result is some i whose answer was yes while the next search point's was no.
        split: chooses the questions; `halve` asks at most ceil(log2(num_steps + 1)).
    """
    search = PrefixSearch([i for i in range(1, num_steps + 1) if is_search_point(i)], split)
    while (probe := search.next_probe) is not None:
        search.record(oracle(probe))
    return SearchResult(search.longest, tuple(search.asked))


def monotonicity_violations(answers: Sequence[bool]) -> int:
    """Count the search points that are not completable although a longer prefix is.

    Args:
        answers: whether each search point is completable, ascending, all of them asked.
    """
    last = max((i for i, answer in enumerate(answers) if answer), default=-1)
    return sum(not answer for answer in answers[: last + 1])


def hard_labels(neutral: Sequence[bool], longest: int) -> tuple[float, ...]:
    """Return +1 for the steps of the longest completable prefix, -1 for those after it, 0 for neutral ones.

    Args:
        neutral: per step, whether it is neutral (neutral in correct responses too, so that comments never pay).
        longest: steps in the longest completable prefix; the number of steps for a correct response.
    """
    return tuple(0.0 if skip else (1.0 if i <= longest else -1.0) for i, skip in enumerate(neutral, start=1))


def soft_labels(neutral: Sequence[bool], longest: int, shares: Mapping[int, float]) -> tuple[float, ...]:
    """Return labels from the shares of completions that passed, mapped from [0, 1] to [-1, 1].

    Only some prefixes were probed. A step takes the share of the nearest probe at or after it within the longest
    completable prefix: what a longer prefix reaches, a shorter one reaches too. After that prefix no completion has
    passed, which is -1.

    Args:
        neutral: per step, whether it is neutral.
        longest: steps in the longest completable prefix.
        shares: prefix -> share of its completions that passed, of the probed ones; `longest` is one of them.
    """
    probed = sorted(i for i in shares if i <= longest)
    labels = []
    for i, skip in enumerate(neutral, start=1):
        above = next((probe for probe in probed if probe >= i), None)
        labels.append(0.0 if skip else (-1.0 if above is None else 2.0 * shares[above] - 1.0))
    return tuple(labels)
