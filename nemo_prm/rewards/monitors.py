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
"""Numbers of each PPO step by which to see that a policy games its rewards.

Everything is a sum over responses, so that data-parallel ranks add theirs up before anything is divided.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Iterable, Mapping

from nemo_prm.data.steps import split_lines
from nemo_prm.types import Language, OutcomeSource

HIGH_SCORE = 0.5  # a mean line score above it is high praise for a response that fails
SUMS = (
    "responses",
    "tokens",
    "newlines",
    "lines",
    "comment_lines",
    "blank_lines",
    "repeated_lines",
    "general",
    "general_reward",
    "known",
    "passed",
    "failed_and_praised",
    "scored",
    "score",
    "score_squared",
    "score_of_passed",
    "passed_of_scored",
)
GENERAL_METRICS = ("general_reward",)  # where a reward model judges some prompts
PRM_METRICS = ("line_rewards", "praised_failures", "score_outcome_correlation")  # unknown where no PRM is asked


@dataclass(frozen=True)
class Rollout:
    """One response of a PPO step.

    Attributes:
        problem_id: what it answers.
        language: of its code.
        text: the response.
        num_tokens: of the response, EOS included.
        outcome: R_UT: 1 passed, less not, NaN unknown; or the reward model's.
        line_scores: the PRM's raw score of each line, by the token that ends it; empty where no PRM is asked.
        line_rewards: sum of the normalised line rewards, in [-1, 1]; NaN where no PRM is asked.
    """

    problem_id: str
    language: Language
    text: str
    num_tokens: int
    outcome: float
    line_scores: Mapping[int, float] = field(default_factory=dict)
    line_rewards: float = math.nan
    judged_by: OutcomeSource = "unit_tests"
    prompt: str = ""


def rollout_sums(rollouts: Iterable[Rollout]) -> dict[str, float]:
    """Sums over responses by the names of `SUMS`; add those of several ranks up, then take `rollout_metrics`."""
    sums = dict.fromkeys(SUMS, 0.0)
    for rollout in rollouts:
        steps = split_lines(rollout.text, rollout.language, rollout.prompt)
        kinds = Counter(step.kind for step in steps)
        code = [rollout.text[step.start : step.end].strip() for step in steps if step.kind == "code"]
        sums["responses"] += 1
        sums["tokens"] += rollout.num_tokens
        sums["newlines"] += rollout.text.count("\n")
        sums["lines"] += len(steps)
        sums["comment_lines"] += kinds["comment"] + kinds["docstring"]
        sums["blank_lines"] += kinds["blank"]
        sums["repeated_lines"] += len(code) - len(set(code))
        if rollout.judged_by == "reward_model":
            sums["general"] += 1
            sums["general_reward"] += rollout.outcome
            continue
        score, outcome = rollout.line_rewards, rollout.outcome
        if math.isnan(outcome):
            continue
        outcome = float(outcome >= 1)
        sums["known"] += 1
        sums["passed"] += outcome
        if math.isnan(score):
            continue
        sums["failed_and_praised"] += outcome == 0 and score > HIGH_SCORE
        sums["scored"] += 1
        sums["score"] += score
        sums["score_squared"] += score * score
        sums["score_of_passed"] += score * outcome
        sums["passed_of_scored"] += outcome
    return sums


def rollout_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """The numbers to watch; NaN where there is nothing to divide by.

    Returns:
        pass_rate, general_reward (mean of the reward model's), unknown_outcomes (a count), line_rewards (mean of their
        sum over known responses), lines_per_response, comment_share and blank_share and repeated_share (of all lines;
        docstrings are comments, a repeated line is a line of code that stands in the response before), newline_rate
        (newlines per token), praised_failures (share of the failed responses whose mean clamped line score is over
        `HIGH_SCORE`) and score_outcome_correlation (Pearson's, of that mean and whether all tests pass).
    """
    failed = sums["scored"] - sums["passed_of_scored"]
    return {
        "pass_rate": _share(sums["passed"], sums["known"]),
        "general_reward": _share(sums["general_reward"], sums["general"]),
        "unknown_outcomes": sums["responses"] - sums["general"] - sums["known"],
        "line_rewards": _share(sums["score"], sums["scored"]),
        "lines_per_response": _share(sums["lines"], sums["responses"]),
        "comment_share": _share(sums["comment_lines"], sums["lines"]),
        "blank_share": _share(sums["blank_lines"], sums["lines"]),
        "repeated_share": _share(sums["repeated_lines"], sums["lines"]),
        "newline_rate": _share(sums["newlines"], sums["tokens"]),
        "praised_failures": _share(sums["failed_and_praised"], failed),
        "score_outcome_correlation": _correlation(sums),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _correlation(sums: Mapping[str, float]) -> float:
    count = sums["scored"]
    if not count:
        return math.nan
    score, outcome = sums["score"] / count, sums["passed_of_scored"] / count
    variance = (sums["score_squared"] / count - score**2) * (outcome - outcome**2)
    if variance <= 1e-12:  # one of the two is constant
        return math.nan
    return (sums["score_of_passed"] / count - score * outcome) / math.sqrt(variance)
