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
"""One labeling job: from problems to a label store and a summary, resuming what is there."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Sequence

from tqdm import tqdm

from nemo_prm.config import LabelConfig
from nemo_prm.data.selection import summarize
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.labeling.labeler import Labeler, Skipped
from nemo_prm.labeling.store import LabelStore
from nemo_prm.protocols import Generator, Verifier
from nemo_prm.types import Cost, LabelRow, Problem, Response


@dataclass
class LabelSummary:
    """What the store holds after a job, and what this run of the job has added to it.

    `seconds` is wall time of this run; the costs are sums over all rows of the store.
    """

    rows: Sequence[LabelRow]
    new_rows: int = 0
    seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)  # by reason

    def as_json(self) -> dict[str, Any]:
        """Return the content of `<store>.summary.json`."""
        total = self.cost
        return {
            **summarize(self.rows),
            "completions": total.completions,
            "tokens": total.tokens,
            "executions": total.executions,
            "cost_seconds": round(total.seconds, 3),
            "new_rows": self.new_rows,
            "seconds": round(self.seconds, 3),
            "skipped": dict(self.skipped),
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
        content, total = self.as_json(), self.cost
        lines = []
        for name in ("problems", "responses", "labels"):
            counts = content[name]
            entries = "".join(f"{key:>10}{count:>8}" for key, count in counts.items())
            lines.append(f"{name:<12}{sum(counts.values()):>8}{entries}")
        lines.append(f"{'completions':<12}{total.completions:>8}{'tokens':>10}{total.tokens:>8}")
        lines.append(f"{'executions':<12}{total.executions:>8}")
        lines.append(f"{'new':<12}{self.new_rows:>8}   in {self.seconds:.1f} s")
        lines += [f"{'skipped':<12}{count:>8}   {reason}" for reason, count in self.skipped.items()]
        return "\n".join(lines)


def restrict(
    problems: Sequence[Problem], responses: Sequence[Response] | None, limit: int | None
) -> tuple[list[Problem], list[Response] | None]:
    """Keep the first `limit` problems and the responses to them.

    Responses to problems that are in no set at all are kept, so that `run_labeling` refuses them.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, found {limit}.")
    left_out = set() if limit is None else {problem.problem_id for problem in problems[limit:]}
    kept = None if responses is None else [r for r in responses if r.problem_id not in left_out]
    return list(problems[:limit]), kept


def run_labeling(
    problems: Sequence[Problem],
    responses: Sequence[Response] | None,
    generator: Generator,
    verifier: Verifier,
    store: LabelStore,
    config: LabelConfig,
) -> LabelSummary:
    """Label what the store does not hold yet; progress goes to stderr.

    Args:
        problems: to sample responses to, or which `responses` answer.
        responses: given responses; None samples them.
        generator: the policy.
        verifier: runs the programs.
        store: open; each row is in it as soon as it is known.
        config: of the job.

    Raises:
        DataError: a given response to an unknown problem.
    """
    labeler = Labeler(generator, verifier, config)
    if responses is None:
        total = len(problems) * config.responses_per_prompt
        wanted = {problem.problem_id for problem in problems}
        done = sum(row.problem_id in wanted for row in store.rows)
        outcomes = labeler.label_sampled(problems, store.completed)
    else:
        by_id = {problem.problem_id: problem for problem in problems}
        for response in responses:
            if response.problem_id not in by_id:
                raise DataError(
                    f"response {response.response_id!r} answers the unknown problem {response.problem_id!r}."
                )
        store.check_responses(responses)
        total = len(responses)
        done = sum((r.problem_id, r.response_id) in store.completed for r in responses)
        outcomes = labeler.label_given(by_id, responses, store.completed)
    summary = LabelSummary(store.rows)
    classes: Counter[str] = Counter()
    started = time.monotonic()
    with tqdm(total=total, initial=done, desc="label", unit="response", file=sys.stderr) as progress:
        for outcome in outcomes:
            if isinstance(outcome, Skipped):
                summary.skipped[outcome.reason] += 1
                classes["skipped"] += 1
            else:
                store.append(outcome)
                summary.new_rows += 1
                classes[outcome.response_class] += 1
            progress.set_postfix(classes, refresh=False)
            progress.update()
    summary.seconds = time.monotonic() - started
    return summary
