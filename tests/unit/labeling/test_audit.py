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
"""Audited rows: violations of monotonicity, and agreement with Algorithm 1, counted by hand."""

from __future__ import annotations

import math

from nemo_prm.labeling.audit import audit_rows
from nemo_prm.types import Cost, LabelRow, Probe, Step


def row(labels: tuple[float, ...], *passes: int) -> LabelRow:
    """Steps whose label is 0 are neutral; `passes` are those of the others' prefixes, of 20."""
    points = [i for i, label in enumerate(labels, start=1) if label]
    audit = tuple(Probe(i, 20, passed) for i, passed in zip(points, passes))
    steps, text = tuple(Step(i, i + 1) for i in range(len(labels))), "x" * len(labels)
    return LabelRow("p", "r", "c", "", text, steps, labels, "revised", (), Cost(), 0, "g", "s", audit=audit)


def test_by_hand() -> None:
    monotone = row((1, 0, 1, -1, -1), 20, 3, 0, 0)
    # halving asks about the third of four points (no), then the second (yes): two good ones, as it was labelled
    violated = row((1, 1, -1, -1), 0, 5, 0, 1)  # the first and the third fail though a longer one passes
    early = row((1, -1, -1, -1), 9, 4, 0, 0)  # given up at the second, which passes
    not_audited = row((1, -1))
    assert audit_rows([monotone, violated, early, not_audited]) == {
        "responses": 3,
        "prefixes": 12,
        "violations": 2,
        "labels": 12,
        "agreement": 11 / 12,
    }


def test_without_audited_rows_the_agreement_is_undefined() -> None:
    assert math.isnan(audit_rows([row((1, -1))])["agreement"])
