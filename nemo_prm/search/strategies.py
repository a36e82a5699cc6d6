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
"""The strategies. Each spends at most `budget` completions on a problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping

from nemo_prm.errors import ConfigError
from nemo_prm.search.moves import Draw, PublicProblem, Score, Search, Strategy
from nemo_prm.search.ranking import Key, best, check, rank

ROUNDS = 4  # of beam: a round draws the fourth part of the budget


@dataclass(frozen=True)
class Options:
    """Of a strategy.

    Attributes:
        budget: completions per problem.
        by: what decides between candidates: prm, public, both.
        aggregate: of a response's line scores: last, min, mean, product.
        width: of beam: prefixes that are kept after a round.
        lines: of beam: by how many lines a prefix grows in a round.
    """

    budget: int = 16
    by: str = "both"
    aggregate: str = "min"
    width: int = 2
    lines: int = 2

    def __post_init__(self) -> None:
        check(self.by, self.aggregate)
        for name in ("budget", "width", "lines"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, found {getattr(self, name)}")


def single(problem: PublicProblem, options: Options) -> Search:
    """One response."""
    [candidates] = yield Draw(("",), 1)
    return candidates[0] if candidates else ""


def best_of_n(problem: PublicProblem, options: Options) -> Search:
    """The best of `budget` independent responses."""
    [candidates] = yield Draw(("",), options.budget)
    keys = yield from rank(candidates, options.by, options.aggregate)
    return best(candidates, keys)


def beam(problem: PublicProblem, options: Options) -> Search:
    """Whole responses are drawn in rounds; the next round starts where the best prefixes of this one end.

    A prefix is worth the PRM's score of its last line. Every response of every round is a candidate for the answer, so
    that nothing that was paid for is lost.
    """
    candidates: list[str] = []
    prefixes, left = [""], options.budget
    per_round = max(options.budget // ROUNDS, 1)
    while prefixes and left:
        prefixes = prefixes[:left]
        n = min(max(per_round // len(prefixes), 1), left // len(prefixes))
        left -= n * len(prefixes)
        drawn = yield Draw(tuple(prefixes), n)
        responses = [response for row in drawn for response in row]
        starts = [prefix for prefix, row in zip(prefixes, drawn) for _ in row]
        candidates += responses
        scores = yield Score(tuple(responses))
        worth: dict[str, float] = {}
        for start, response, row in zip(starts, responses, scores):
            grown = _grow(response, start, options.lines)
            line = grown.count("\n") - 1
            if grown != start and line < len(row):
                worth[grown] = max(row[line], worth.get(grown, row[line]))
        prefixes = sorted(worth, key=lambda prefix: -worth[prefix])[: options.width]
    keys: list[Key] = yield from rank(candidates, options.by, options.aggregate)
    return best(candidates, keys)


def _grow(response: str, prefix: str, lines: int) -> str:
    """The prefix, longer by so many lines of the response; unchanged where that is all of the response."""
    end = len(prefix)
    for _ in range(lines):
        newline = response.find("\n", end)
        if newline < 0 or newline + 1 >= len(response):
            return prefix
        end = newline + 1
    return response[:end]


STRATEGIES: Mapping[str, Callable[[PublicProblem, Options], Search]] = {
    "single": single,
    "best_of_n": best_of_n,
    "beam": beam,
}


def strategy(name: str, options: Options) -> Strategy:
    """A strategy by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"strategy must be one of {', '.join(STRATEGIES)}, found {name!r}")
    return lambda problem: STRATEGIES[name](problem, options)


def needs_prm(name: str, options: Options) -> bool:
    return name == "beam" or (name == "best_of_n" and options.by != "public")
