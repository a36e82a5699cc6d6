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
"""What a search may ask for. A strategy is a Python generator that yields moves and gets their results.

    def best_of_two(problem: PublicProblem) -> Search:
        [candidates] = yield Draw(("",), 2)
        verdicts = yield Run(tuple(candidates))
        return candidates[0] if verdicts[0].passed else candidates[1]

So a strategy is read top to bottom, and the driver runs many at once: what all of them ask for goes out in batches. A
strategy sees no hidden test, because nothing that it is given holds one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Generator, NamedTuple, Union

from nemo_prm.types import Language, Verdict


class PublicProblem(NamedTuple):
    """What a strategy knows of a problem."""

    problem_id: str
    prompt: str
    language: Language
    num_public_tests: int


class Refinement(NamedTuple):
    """Asks for another thought in place of `response`'s thought number `thought` (from 0)."""

    response: str
    thought: int


@dataclass(frozen=True)
class Draw:
    """Complete prefixes of a response, `n` times each; a prefix that is drawn from again goes on in its stream.

    With `refine`, there is one prefix: the thoughts before the one to be replaced. The policy is shown that thought
    and the feedback of its program, so the response must have been assessed.

    Result: for each prefix a list of whole responses; an empty one where the prefix fills the policy's context.
    """

    prefixes: tuple[str, ...]
    n: int
    refine: Refinement | None = None


@dataclass(frozen=True)
class Score:
    """Score every line of responses by the PRM. Result: a list of raw scores per response."""

    responses: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """Run the public tests. Result: a `Verdict` per response."""

    responses: tuple[str, ...]


@dataclass(frozen=True)
class Assess:
    """Run the public tests, and score every thought by the PRM, which may read what came of it.

    Result: an `Assessment` per response.
    """

    responses: tuple[str, ...]


@dataclass(frozen=True)
class Assessment:
    """What is known of a response with thoughts.

    Attributes:
        ends: where each thought ends, in code points.
        scores: raw, of each thought; of a response without thoughts, one, of the whole.
        verdict: of the public tests; None where there are none.
        feedback: of the public tests, in words; empty where there are none.
    """

    ends: tuple[int, ...]
    scores: tuple[float, ...]
    verdict: Verdict | None
    feedback: str


Move = Union[Draw, Score, Run, Assess]
Search = Generator[Move, Any, str]  # returns the answer
Strategy = Callable[[PublicProblem], Search]
