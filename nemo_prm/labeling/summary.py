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
"""What a labeling job has done and what it cost, as JSON and as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Sequence

from nemo_prm.data.selection import summarize
from nemo_prm.labeling.audit import audit_rows
from nemo_prm.labeling.labeler import Skipped
from nemo_prm.labeling.oracle import Spent
from nemo_prm.metrics import finite_or_null
from nemo_prm.types import Cost, LabelRow


@dataclass
class LabelSummary:
    """What the store holds after a job, and what this run of the job has added to it.

    Attributes:
        rows: all of the store.
        asked: responses that the job is to label.
        labelled: of these, in the store.
        paid: by this run; what the cache held is not in it, and what responses share is in it once.
        new_rows: added by this run.
        seconds: wall time of this run.
        skipped: responses of this run without a label, by reason.
        last_skipped: the last one, by reason.
        signal: that ended the run before its time.
    """

    rows: Sequence[LabelRow]
    asked: int
    labelled: int
    paid: Spent = field(default_factory=Spent)
    new_rows: int = 0
    seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)
    last_skipped: dict[str, Skipped] = field(default_factory=dict)
    signal: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the content of `<store>.summary.json`; its costs are sums over all rows of the store."""
        total = self.cost
        return {
            "asked": self.asked,
            "missing": max(self.asked - self.labelled - self.skipped.total(), 0),
            **summarize(self.rows),
            "completions": total.completions,
            "tokens": total.tokens,
            "executions": total.executions,
            "cost_seconds": round(total.seconds, 3),
            "new_rows": self.new_rows,
            "seconds": round(self.seconds, 3),
            "paid": {**asdict(self.paid), "seconds": round(self.paid.seconds, 3)},
            "skipped": dict(self.skipped),
            "audit": finite_or_null(audit_rows(self.rows)),
            "interrupted": self.signal is not None,
        }

    @property
    def cost(self) -> Cost:
        costs = [row.cost for row in self.rows]
        return Cost(
            sum(cost.completions for cost in costs),
            sum(cost.tokens for cost in costs),
            sum(cost.executions for cost in costs),
            sum(cost.seconds for cost in costs),
        )

    def as_table(self) -> str:
        """Return a small table for the terminal."""
        content, total, paid = self.as_json(), self.cost, self.paid
        lines = []
        for name in ("problems", "responses", "labels"):
            counts = content[name]
            entries = "".join(f"{key:>10}{count:>8}" for key, count in counts.items())
            lines.append(f"{name:<12}{sum(counts.values()):>8}{entries}")
        lines.append(f"{'completions':<12}{total.completions:>8}{'tokens':>10}{total.tokens:>8}")
        lines.append(f"{'executions':<12}{total.executions:>8}")
        lines.append(
            f"{'new':<12}{self.new_rows:>8}   in {self.seconds:.1f} s, for {paid.completions} completions, "
            f"{paid.tokens} tokens, {paid.executions} executions"
        )
        for reason, count in self.skipped.items():
            last = self.last_skipped.get(reason)
            such_as = f", the last: {last.problem_id} {' '.join(last.detail.split())}".rstrip() if last else ""
            lines.append(f"{'skipped':<12}{count:>8}   {reason}{such_as}")
        if (found := content["audit"])["responses"]:
            lines.append(
                f"{'audited':<12}{found['responses']:>8}   {found['prefixes']} prefixes, {found['violations']} not "
                f"completable though a longer one is; {found['agreement']:.2%} of labels as by halving with all K"
            )
        return "\n".join(lines)
