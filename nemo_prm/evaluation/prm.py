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
"""How well a served PRM scores labelled responses."""

from __future__ import annotations

import math
import sys
from typing import Any, Sequence

from tqdm import tqdm

from nemo_prm.data.steps import line_ends, split_lines
from nemo_prm.evaluation.step_metrics import (
    ScoredResponse,
    first_error_matrix,
    roc_curve,
    validation_report,
)
from nemo_prm.protocols import StepScorer
from nemo_prm.types import LabelRow

AT_ONCE = 64  # responses
MAX_ROC_POINTS = 200


def score_rows(rows: Sequence[LabelRow], scorer: StepScorer, code_only: bool) -> list[list[float] | None]:
    """Scores of the steps of each row; None where they cannot be told apart (lines that end in one token).

    Args:
        rows: label rows.
        scorer: the PRM; it scores lines, and a step has the score of its last line.
        code_only: whether it scores lines inside a code fence alone.
    """
    found: list[list[float] | None] = []
    for start in tqdm(range(0, len(rows), AT_ONCE), desc="score", unit="batch", file=sys.stderr):
        part = rows[start : start + AT_ONCE]
        finished = [row.finish_reason == "stop" for row in part]
        cut_off = () if all(finished) else (finished,)  # a scorer need not know of these
        scored = scorer.score_steps([row.prompt for row in part], [row.response for row in part], *cut_off)
        found += [step_scores(row, scores, code_only) for row, scores in zip(part, scored)]
    return found


def step_scores(row: LabelRow, scores: Sequence[float], code_only: bool) -> list[float] | None:
    """The scores of a row's steps, of those of its lines; None where these are fewer than the lines."""
    ends = (
        [step.end for step in split_lines(row.response, prompt=row.prompt)] if code_only else line_ends(row.response)
    )
    if len(ends) != len(scores):
        return None
    by_end = dict(zip(ends, scores))
    if any(step.end not in by_end for step in row.steps):
        return None
    return [by_end[step.end] for step in row.steps]


def prm_report(rows: Sequence[LabelRow], scores: Sequence[list[float] | None]) -> dict[str, Any]:
    """What results.json of `evaluate_prm` holds.

    Returns:
        `nemo_prm.evaluation.step_metrics.validation_report` without lengths; roc, at most 200 points; first_error, the
        matrix; num_responses, and num_unscored of them.
    """
    known = [
        ScoredResponse(tuple(each), row.labels, row.response_class, row.difficulty or "unknown", neutral=row.neutral)
        for row, each in zip(rows, scores)
        if each is not None
    ]
    report = validation_report(known)
    del report["by_length"]
    lines = [line for response in known for line in response.lines()]
    one_kind = math.isnan(report["model"]["auc"])
    points = [] if one_kind else roc_curve([score for score, _ in lines], [label >= 0 for _, label in lines])
    stride = -(-len(points) // (MAX_ROC_POINTS - 1)) or 1  # the last point is added
    return {
        **report,
        "roc": [*points[:-1:stride], *points[-1:]],
        "first_error": first_error_matrix(known),
        "num_responses": len(rows),
        "num_unscored": len(rows) - len(known),
    }


def as_table(report: dict[str, Any]) -> str:
    """A small table for the terminal."""
    names = ("auc", "first_error_f1", "accuracy_on_correct", "accuracy_on_erroneous", "ece", "mse")
    lines = [f"{'':16}" + "".join(f"{name:>23}" for name in names)]
    for model in ("model", "constant", "outcome_only", "perfect_outcome"):
        lines.append(f"{model:16}" + "".join(f"{report[model][name]:>23.3f}" for name in names))
    return "\n".join(lines)
