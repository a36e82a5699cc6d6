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

from typing import Callable, Mapping

from nemo_prm.config import SearchConfig
from nemo_prm.data.steps import scored_line_ends
from nemo_prm.data.thoughts import check_inputs
from nemo_prm.errors import ConfigError
from nemo_prm.search.moves import Assess, Assessment, Draw, PublicProblem, Refinement, Score, Search, Strategy
from nemo_prm.search.ranking import Key, best, check, rank, thought_key

ROUNDS = 4  # of beam: a round draws the fourth part of the budget


def check_options(options: SearchConfig) -> None:
    """Refuse options that no strategy can use.

    Raises:
        ConfigError: naming the option.
    """
    check(options.by, options.aggregate)
    check_inputs(options.inputs)
    for name in ("budget", "width", "lines", "rounds"):
        if getattr(options, name) < 1:
            raise ConfigError(f"{name} must be at least 1, found {getattr(options, name)}")


def single(problem: PublicProblem, options: SearchConfig) -> Search:
    """One response."""
    [candidates] = yield Draw(("",), 1)
    return candidates[0] if candidates else ""


def best_of_n(problem: PublicProblem, options: SearchConfig) -> Search:
    """The best of `budget` independent responses."""
    [candidates] = yield Draw(("",), options.budget)
    keys = yield from rank(candidates, options.by, options.aggregate, options.inputs != "lines")
    return best(candidates, keys)


def beam(problem: PublicProblem, options: SearchConfig) -> Search:
    """Whole responses are drawn in rounds; the next round starts where the best prefixes of this one end.

    A prefix grows by `lines` lines, or on to the next one that has a score, and is worth this score. Every response of
    every round is a candidate for the answer, so that nothing that was paid for is lost.
    """
    candidates: list[str] = []
    prefixes, left = [""], options.budget
    per_round = max(options.budget // ROUNDS, 1)
    while prefixes and left:
        prefixes = prefixes[:left]
        n = min(max(per_round // len(prefixes), 1), left // len(prefixes))
        drawn = yield Draw(tuple(prefixes), n)
        responses = [response for row in drawn for response in row]
        left -= len(responses)
        starts = [prefix for prefix, row in zip(prefixes, drawn) for _ in row]
        candidates += responses
        scores = yield Score(tuple(responses))
        worth: dict[str, float] = {}
        for start, response, row in zip(starts, responses, scores):
            ends = scored_line_ends(response, len(row), problem.prompt) or ()
            for end, score in zip(ends, row):
                if end < len(response) and response.count("\n", len(start), end) >= options.lines:
                    grown = response[:end]
                    worth[grown] = max(score, worth.get(grown, score))
                    break
        prefixes = sorted(worth, key=lambda prefix: -worth[prefix])[: options.width]
    keys: list[Key] = yield from rank(candidates, options.by, options.aggregate)
    return best(candidates, keys)


def gvr(problem: PublicProblem, options: SearchConfig) -> Search:
    """Generate-Verify-Refine (CodePRM, 2025.findings-acl.428): the thought that is doubted is written anew.

    Responses are drawn, their programs are run on the public tests, and their thoughts scored. In the best response
    the first thought whose score is below `threshold` is refined: the policy is shown it with the feedback, goes on
    from the thoughts before it, and the best of these responses and the former one is next. After `rounds`
    refinements, or where no thought is doubted and a public test still fails, it begins anew. It ends early with a
    response that passes the public tests and whose thoughts all hold.
    """
    keys: dict[str, Key] = {}
    left = options.budget
    while left:
        current, [drawn] = None, (yield Draw(("",), min(options.width, left)))
        if not drawn:
            break  # the prompt fills the policy's context
        for number in range(options.rounds + 1):
            left -= len(drawn)
            responses = tuple(dict.fromkeys([*([current] if current else []), *drawn]))
            assessments: dict[str, Assessment] = dict(zip(responses, (yield Assess(responses))))
            keys |= {each: thought_key(found, options.by, options.aggregate) for each, found in assessments.items()}
            current = best(responses, [keys[each] for each in responses])
            found = assessments[current]
            doubted = next((i for i in range(len(found.ends)) if found.scores[i] < options.threshold), None)
            if doubted is None and (found.verdict is None or found.verdict.passed):
                return current
            if doubted is None or number == options.rounds or not left:
                break
            prefix = current[: found.ends[doubted - 1]] if doubted else ""
            [drawn] = yield Draw((prefix,), min(options.width, left), Refinement(current, doubted))
            if not drawn:
                break  # with the hint it fills the policy's context
    return best(list(keys), list(keys.values()))


STRATEGIES: Mapping[str, Callable[[PublicProblem, SearchConfig], Search]] = {
    "single": single,
    "best_of_n": best_of_n,
    "beam": beam,
    "gvr": gvr,
}


def strategy(name: str, options: SearchConfig) -> Strategy:
    """A strategy by name, with the options of a search.

    Raises:
        ConfigError: there is none of that name, or it cannot use an option.
    """
    check_options(options)
    if name not in STRATEGIES:
        raise ConfigError(f"strategy must be one of {', '.join(STRATEGIES)}, found {name!r}")
    if name == "beam" and options.inputs != "lines":
        raise ConfigError("beam goes by scores of lines: set inputs=lines, or choose another strategy")
    if name == "gvr" and options.inputs == "lines":
        raise ConfigError("gvr goes by scores of thoughts: set inputs to what the PRM was trained to read")
    return lambda problem: STRATEGIES[name](problem, options)


def needs_prm(name: str, options: SearchConfig) -> bool:
    return name in ("beam", "gvr") or (name == "best_of_n" and options.by != "public")
