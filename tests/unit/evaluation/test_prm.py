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
from __future__ import annotations

import math
from dataclasses import replace
from typing import Sequence

import pytest

from nemo_prm.data.steps import split_lines
from nemo_prm.evaluation.prm import as_table, prm_report, score_rows, step_scores
from nemo_prm.evaluation.step_metrics import ScoredResponse, area_under_roc, first_error_matrix, roc_curve
from nemo_prm.types import Cost, LabelRow, Step

FENCED = "Thought 1: go\n```python\nx = 1\ny = 2\n```\n"


def row(response: str = "a = 1\nb = 2\nc = 3", labels: Sequence[float] = (1.0, -1.0, -1.0)) -> LabelRow:
    return LabelRow(
        "p", "r", "c", "Task\n", response, split_lines(response), tuple(labels), "revised", (), Cost(), 1, "g", "s"
    )


def test_a_step_has_the_score_of_its_last_line() -> None:
    assert step_scores(row(), [0.1, 0.2, 0.3], code_only=False) == [0.1, 0.2, 0.3]
    blocks = replace(row(), steps=(Step(0, 12), Step(12, 17)), labels=(1.0, -1.0))
    assert step_scores(blocks, [0.1, 0.2, 0.3], code_only=False) == [0.2, 0.3]
    fenced = row(FENCED, (1.0, -1.0))
    assert step_scores(fenced, [0.5, 0.6], code_only=True) == [0.5, 0.6]  # a server that scores code alone
    assert step_scores(fenced, [0.1, 0.2, 0.5, 0.6, 0.9], code_only=False) == [0.5, 0.6]


def test_lines_that_share_a_token_are_not_guessed() -> None:
    assert step_scores(row(), [0.1, 0.2], code_only=False) is None
    thought = replace(row(FENCED), steps=(Step(0, 14, "thought"),), labels=(1.0,))
    assert step_scores(thought, [0.5, 0.6], code_only=True) is None  # it ends where the server scores nothing


def test_rows_are_scored_in_order_and_measured() -> None:
    class Scorer:
        def score_steps(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[float]]:
            assert set(prompts) == {"Task\n"}
            return [[0.5, -0.5, -0.9][: response.count("\n") + 1] for response in responses]

    rows = [row(), row("a = 1", (1.0,)), replace(row(), labels=(1.0, 1.0, -1.0))]
    scores = score_rows(rows, Scorer(), code_only=False)
    assert scores == [[0.5, -0.5, -0.9], [0.5], [0.5, -0.5, -0.9]]
    report = prm_report(rows, [*scores[:2], None])
    assert (report["num_responses"], report["num_unscored"], report["model"]["lines"]) == (3, 1, 4)
    assert (report["model"]["auc"], report["model"]["first_error_f1"]) == (1.0, 1.0)
    assert report["roc"][0] == (0.0, 0.0) and report["roc"][-1] == (1.0, 1.0)
    assert report["first_error"]["bad line"] == {"before it": 0, "at it": 1, "after it": 0, "nowhere": 0}
    assert "by_length" not in report and as_table(report).startswith(" ")
    assert math.isnan(prm_report(rows[1:2], [[0.5]])["model"]["auc"])
    assert prm_report(rows[1:2], [[0.5]])["roc"] == []


def scored(scores: Sequence[float], labels: Sequence[float]) -> ScoredResponse:
    return ScoredResponse(tuple(scores), tuple(labels), "revised")


def test_where_the_first_flag_is() -> None:
    bad = (1.0, -1.0, -1.0)
    responses = [
        scored((0.5, -0.5, 0.5), bad),  # at it
        scored((-0.5, -0.5, 0.5), bad),  # before it
        scored((0.5, 0.5, -0.5), bad),  # after it
        scored((0.5, 0.5, 0.5), bad),  # nowhere
        scored((0.5, 0.5), (1.0, 1.0)),  # nowhere, rightly
        scored((0.5, -0.5), (1.0, 1.0)),  # before what is not there
        scored((-1.0,), (0.0,)),  # neutral lines alone: it says nothing
    ]
    assert first_error_matrix(responses) == {
        "bad line": {"before it": 1, "at it": 1, "after it": 1, "nowhere": 1},
        "all good": {"before it": 1, "at it": 0, "after it": 0, "nowhere": 1},
    }


def test_the_curve_has_the_area() -> None:
    scores, good = [0.9, 0.8, 0.8, 0.3, 0.1], [True, True, False, True, False]
    curve = roc_curve(scores, good)
    assert curve == [(0.0, 0.0), (0.0, 1 / 3), (0.5, 2 / 3), (0.5, 1.0), (1.0, 1.0)]
    area = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in zip(curve, curve[1:]))
    assert area == pytest.approx(area_under_roc(scores, good))
