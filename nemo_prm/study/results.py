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
"""results.jsonl: a row for each arm and seed that has run, with what the page needs and the settings it ran with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

from nemo_prm.config import StudyConfig
from nemo_prm.data.jsonl import read_json, read_jsonl, write_jsonl
from nemo_prm.errors import ConfigError
from nemo_prm.evaluation.ppo_runs import read_run
from nemo_prm.study.stages import Cell

SETTINGS = (
    "policy",
    "baseline_seed",
    "steps",
    "label_problems",
    "completions",
    "evaluate_problems",
    "evaluate_samples",
)
CURVES = (  # of those that `read_run` knows
    "pass_rate",
    "unknown_outcomes",
    "line_rewards",
    "lines_per_response",
    "comment_share",
    "blank_share",
    "repeated_share",
    "newline_rate",
    "praised_failures",
    "score_outcome_correlation",
    "explained_variance",
    "init_policy_kl",
    "generation_length",
)
Row = Mapping[str, Any]


def settings(config: StudyConfig) -> dict[str, Any]:
    """What two rows must have in common to stand in one table."""
    return {name: getattr(config, name) for name in SETTINGS}


def read_results(path: Path, config: StudyConfig) -> dict[Cell, Row]:
    """The rows by arm and seed; none where there is no file.

    Raises:
        ConfigError: they were made with other settings.
    """
    rows: dict[Cell, Row] = {}
    for where, row in read_jsonl(path) if path.exists() else ():
        if row["settings"] != settings(config):
            had = {name: row["settings"].get(name) for name in SETTINGS}
            differing = [f"{name}={value}" for name, value in had.items() if value != getattr(config, name)]
            raise ConfigError(f"{where} has {', '.join(differing)}; set these, or pass another page")
        rows[Cell(row["arm"], row["seed"])] = row
    return rows


def write_results(path: Path, rows: Mapping[Cell, Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, [rows[cell] for cell in sorted(rows)])


def collect(run: Path, cell: Cell, config: StudyConfig) -> dict[str, Any]:
    """The row of a cell whose stages have ended.

    Returns:
        arm, seed, settings, pass_at_1, by_difficulty (Pass@1), by_length (pass_rate and num_samples), passed (samples
        that passed, by problem in the order of the file), curves by name and seconds of the training.
    """
    results = read_json(run / cell.evaluation / "results.json")
    passed: dict[str, int] = {}
    for _, sample in read_jsonl(run / cell.evaluation / "samples.jsonl"):
        passed[sample["problem_id"]] = passed.get(sample["problem_id"], 0) + (sample["status"] == "passed")
    return {
        "arm": cell.arm,
        "seed": cell.seed,
        "settings": settings(config),
        "pass_at_1": results["results"]["nemo_prm"]["pass@1"],
        "by_difficulty": {name: entry["pass@1"] for name, entry in results["by_difficulty"].items()},
        "by_length": results["by_length"],
        "passed": list(passed.values()),
        "curves": _curves(run / cell.name),
        "seconds": read_json(run / cell.name / "stage.json")["seconds"],
    }


def _curves(folder: Path) -> dict[str, list[float | None]]:
    curves = {name: curve for name, curve in read_run(folder, limit=0).curves.items() if name in CURVES}
    steps = sorted({step for curve in curves.values() for step in curve})
    return {name: [_rounded(curves[name].get(step)) for step in steps] for name in CURVES if name in curves}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def final(rows: Sequence[Row], name: str) -> list[float]:
    """A curve's last value of each row that has it."""
    values = [row["curves"][name][-1] for row in rows if row["curves"].get(name)]
    return [value for value in values if value is not None]
