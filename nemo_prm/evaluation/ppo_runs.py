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
"""What PPO runs have written, for the report: the curves of their steps, and responses line by line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Mapping, Sequence

from nemo_prm.data.jsonl import read_jsonl
from nemo_prm.errors import DataError

PREFIX = "train_rollouts/"
CURVES = {  # what is drawn, and what it is called
    "pass_rate": "pass rate",
    "rewards": "reward",
    "line_rewards": "line rewards",
    "init_policy_kl": "KL to the first policy",
    "explained_variance": "explained variance",
    "generation_length": "tokens per response",
    "lines_per_response": "lines per response",
    "newline_rate": "newlines per token",
    "comment_share": "share of comments",
    "blank_share": "share of blank lines",
    "repeated_share": "share of repeated lines",
    "praised_failures": "failures that the PRM praises",
    "score_outcome_correlation": "correlation of score and outcome",
    "probe_drift": "drift of the PRM",
    "unknown_outcomes": "unknown outcomes",
}


@dataclass(frozen=True)
class PPORun:
    """A run.

    Attributes:
        name: of its folder.
        curves: by the names of `CURVES`, value by step.
        samples: responses of the last step that has any, as `nemo_prm.ppo.samples` writes them.
    """

    name: str
    curves: Mapping[str, Mapping[int, float]]
    samples: Sequence[Mapping[str, Any]]


def distinct_names(folders: Sequence[str]) -> list[str]:
    """What to call the outputs of runs: their last parts, as many as tell them apart."""
    paths = [Path(folder).absolute().parts for folder in folders]
    for count in range(1, max(map(len, paths), default=0) + 1):
        names = ["/".join(parts[-count:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return list(folders)


def read_run(folder: Path, limit: int, name: str = "") -> PPORun:
    """Read a run's folder, wherever a resumed run has put its files; a step that was run again counts once.

    Args:
        folder: `output` of `train_ppo`.
        limit: responses.
        name: what to call it; by default as its folder.

    Raises:
        DataError: it holds no metrics, or a line that is none.
    """
    curves: dict[str, dict[int, float]] = {}
    files = sorted(folder.rglob("metrics.jsonl"), key=lambda path: path.stat().st_mtime)
    files = [path for path in files if "critic" not in path.relative_to(folder).parts]
    if not files:
        raise DataError(f"{folder} holds no metrics.jsonl; is it the output of train_ppo?")
    for path in files:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                for curve in CURVES:
                    value = row.get(PREFIX + curve)
                    if isinstance(value, (int, float)):
                        curves.setdefault(curve, {})[int(row["step"])] = float(value)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if number == len(lines):
                    break  # torn by a kill
                raise DataError(f"{path}:{number}: is no row of metrics ({error!r})") from None
    samples: list[Mapping[str, Any]] = []
    written = sorted(folder.rglob("rollouts/step_*.jsonl"))
    if written:
        samples = [sample for _, sample in islice(read_jsonl(written[-1]), limit)]
    return PPORun(name or folder.name, curves, samples)
