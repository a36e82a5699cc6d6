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
"""What came out of a run: summary.json and the table on the terminal."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any, Mapping, Sequence

from nemo_prm import __version__
from nemo_prm.data.rows import read_label_rows
from nemo_prm.doctor import DISTRIBUTIONS, version_of
from nemo_prm.pipeline.runner import StageResult
from nemo_prm.quickstart.stages import POLICIES, evaluation_of


def summarize(run: Path, results: Sequence[StageResult]) -> dict[str, Any]:
    """Return the content of summary.json.

    Returns:
        stages: name, seconds, reused, in order. labels: responses by class, and neutral lines. pass_at_1: share in
        [0, 1] by policy, None where undefined. versions: of this package, Python and the host.
    """
    return {
        "stages": [{"name": r.name, "seconds": round(r.seconds, 2), "reused": r.reused} for r in results],
        "labels": count_labels(run / "label" / "labels.jsonl"),
        "pass_at_1": {policy: pass_at_1(run / evaluation_of(policy) / "results.json") for policy in POLICIES},
        "versions": versions(),
    }


def count_labels(path: Path) -> dict[str, int]:
    """Responses by class, and lines with the neutral label (comments, blank lines, docstrings)."""
    counts = {"correct": 0, "revised": 0, "wrong": 0, "neutral_lines": 0}
    for row in read_label_rows(path):
        counts[row.response_class] += 1
        counts["neutral_lines"] += sum(
            label == 0 and step.kind != "code" for step, label in zip(row.steps, row.labels)
        )
    return counts


def pass_at_1(results: Path) -> float | None:
    value = json.loads(results.read_text(encoding="utf-8"))["results"]["nemo_prm"]["pass@1"]
    return None if value is None else float(value)


def versions() -> dict[str, str]:
    found = {"nemo_prm": __version__, "python": platform.python_version()}
    for name in DISTRIBUTIONS:
        if version := version_of(name):
            found[name.replace("-", "_")] = version
    return found


def as_table(summary: Mapping[str, Any]) -> str:
    """The table a run ends with."""
    width = max(len(text) for text in [*POLICIES.values(), *(stage["name"] for stage in summary["stages"])]) + 2
    lines = ["Pass@1 on held-out problems"]
    for policy, title in POLICIES.items():
        value = summary["pass_at_1"][policy]
        lines.append(f"  {title:<{width}}{'unknown' if value is None else f'{100 * value:.1f} %':>9}")
    lines += ["", "Labels"]
    for name, count in summary["labels"].items():
        lines.append(f"  {name.replace('_', ' '):<{width}}{count:>7}")
    lines += ["", f"{'Stage':<{width}}  {'seconds':>7}"]
    for stage in summary["stages"]:
        lines.append(f"  {stage['name']:<{width}}{stage['seconds']:>7.1f}{'  reused' if stage['reused'] else ''}")
    total = sum(stage["seconds"] for stage in summary["stages"] if not stage["reused"])
    lines.append(f"  {'this run':<{width}}{total:>7.1f}")
    return "\n".join(lines)
