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
"""What audited responses say about all: is completability monotone, and are the labels those of Algorithm 1?

An audited response has been asked about at every search point with all K completions (`LabelRow.audit`), so it is
known what halving with all K would have labelled it.
"""

from __future__ import annotations

from typing import Any, Iterable

from nemo_prm.labeling.search import longest_completable_prefix, monotonicity_violations
from nemo_prm.types import LabelRow


def audit_rows(rows: Iterable[LabelRow]) -> dict[str, Any]:
    """Count over the audited rows.

    Returns:
        `responses` audited, their `prefixes`, `violations` (prefixes not completable though a longer one is), `labels`
        of steps that are not neutral, and `agreement`, the share of those labels that halving with all K gives too
        (soft labels by whether a completion passed); NaN where nothing was audited.
    """
    responses = prefixes = violations = labels = agreed = 0
    for row in rows:
        if not row.audit:
            continue
        answers = {probe.num_steps: probe.num_passed > 0 for probe in row.audit}
        exact = longest_completable_prefix(len(row.steps), answers.__contains__, answers.__getitem__).longest
        responses += 1
        prefixes += len(answers)
        violations += monotonicity_violations(list(answers.values()))
        labels += len(answers)
        agreed += sum((row.labels[i - 1] > -1) == (i <= exact) for i in answers)
    return {
        "responses": responses,
        "prefixes": prefixes,
        "violations": violations,
        "labels": labels,
        "agreement": agreed / labels if labels else float("nan"),
    }
