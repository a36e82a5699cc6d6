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
"""Which candidate is best: by the PRM's scores of its lines, by the public tests, or by both."""

from __future__ import annotations

import math
from typing import Callable, Generator, Mapping, Sequence

from nemo_prm.errors import ConfigError
from nemo_prm.search.moves import Assess, Assessment, Move, Run, Score
from nemo_prm.types import Verdict

Key = tuple[float, ...]


def _log_product(scores: Sequence[float]) -> float:
    """Log of the product of (s + 1) / 2: of the chances that each line is still right."""
    return math.fsum(math.log(max((min(max(score, -1.0), 1.0) + 1) / 2, 1e-9)) for score in scores)


AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "last": lambda scores: scores[-1],
    "min": min,
    "mean": lambda scores: math.fsum(scores) / len(scores),
    "product": _log_product,
}
BY = ("prm", "public", "both")


def check(by: str, aggregate: str) -> None:
    """Refuse an order or an aggregate that there is not.

    Raises:
        ConfigError: there is no such order or aggregate.
    """
    if by not in BY:
        raise ConfigError(f"by must be one of {', '.join(BY)}, found {by!r}")
    if aggregate not in AGGREGATES:
        raise ConfigError(f"aggregate must be one of {', '.join(AGGREGATES)}, found {aggregate!r}")


def rank(
    responses: Sequence[str], by: str, aggregate: str, thoughts: bool = False
) -> Generator[Move, object, list[Key]]:
    """Ask for what is needed, and return a key per response: the best one is the largest; equal ones are alike.

    Args:
        responses: candidates.
        by: prm; public, the share of public tests that pass; or both, the share first, then the PRM.
        aggregate: how a response's scores become one number.
        thoughts: whether the PRM scores thoughts, not lines.
    """
    if thoughts and by != "public":
        assessments = yield Assess(tuple(responses))
        assert isinstance(assessments, list)
        return [thought_key(assessment, by, aggregate) for assessment in assessments]
    keys: list[Key] = [() for _ in responses]
    if by in ("public", "both"):
        verdicts = yield Run(tuple(responses))
        assert isinstance(verdicts, list)
        keys = [(*key, public_share(verdict)) for key, verdict in zip(keys, verdicts)]
    if by in ("prm", "both"):
        scores = yield Score(tuple(responses))
        assert isinstance(scores, list)
        keys = [(*key, AGGREGATES[aggregate](row) if row else -math.inf) for key, row in zip(keys, scores)]
    return keys


def thought_key(assessment: Assessment, by: str, aggregate: str) -> Key:
    """The key of a response whose thoughts are scored; see `rank`."""
    worth = AGGREGATES[aggregate](assessment.scores)
    if by == "prm":
        return (worth,)
    share = -1.0 if assessment.verdict is None else public_share(assessment.verdict)
    return (share,) if by == "public" else (share, worth)


def public_share(verdict: Verdict) -> float:
    """Share of the public tests that passed; -1, the last choice, where it is unknown."""
    return -1.0 if math.isnan(verdict.pass_rate) else verdict.pass_rate


def best(responses: Sequence[str], keys: Sequence[Key]) -> str:
    """The response with the largest key, the first of equal ones; empty where there is none."""
    if not responses:
        return ""
    return responses[max(range(len(responses)), key=lambda index: (keys[index], -index))]
