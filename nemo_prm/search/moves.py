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

from nemo_prm.types import Language


class PublicProblem(NamedTuple):
    """What a strategy knows of a problem."""

    problem_id: str
    prompt: str
    language: Language
    num_public_tests: int


@dataclass(frozen=True)
class Draw:
    """Complete prefixes of a response, `n` times each; a prefix that is drawn from again goes on in its stream.

    Result: for each prefix a list of whole responses; an empty one where the prefix fills the policy's context.
    """

    prefixes: tuple[str, ...]
    n: int


@dataclass(frozen=True)
class Score:
    """Score every line of responses by the PRM. Result: a list of raw scores per response."""

    responses: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """Run the public tests. Result: a `Verdict` per response."""

    responses: tuple[str, ...]


Move = Union[Draw, Score, Run]
Search = Generator[Move, Any, str]  # returns the answer
Strategy = Callable[[PublicProblem], Search]
