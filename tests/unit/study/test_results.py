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
"""Rows of the study and the page made of them, on hand-made runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.config import StudyConfig
from nemo_prm.errors import ConfigError
from nemo_prm.study.page import write_page
from nemo_prm.study.results import collect, read_results, settings, write_results
from nemo_prm.study.stages import Cell
from nemo_prm.study.statistics import mean

pytest.importorskip("matplotlib", reason="the report's requirements are not installed")
pytest.importorskip("scipy", reason="the heavy stack is not installed")

CONFIG = StudyConfig(seeds=[1, 2, 3])


def row(arm: str, seed: int, pass_at_1: float) -> dict[str, Any]:
    return {
        "arm": arm,
        "seed": seed,
        "settings": settings(CONFIG),
        "pass_at_1": pass_at_1,
        "by_difficulty": {"easy": pass_at_1 + 0.1, "medium": pass_at_1, "hard": pass_at_1 - 0.1},
        "by_length": {},
        "passed": [],
        "curves": {"pass_rate": [0.2, 0.3], "explained_variance": [0.25, 0.5], "comment_share": [0.1, 0.2]},
        "seconds": 1.0,
    }


def page(tmp_path: Path, values: dict[str, list[float]]) -> str:
    rows = {Cell(arm, seed): row(arm, seed, v) for arm, vs in values.items() for seed, v in enumerate(vs, start=1)}
    write_page(tmp_path / "study.md", rows, CONFIG)
    assert (tmp_path / "study/arms.svg").read_text().count("<svg") == 1
    assert (tmp_path / "study/pass_rate.svg").exists()
    return (tmp_path / "study.md").read_text()


def test_the_interval_is_students() -> None:
    found = mean([1.0, 2.0, 3.0])
    assert found.value == 2.0
    # t of 2 degrees of freedom at 97.5 % is 4.302653, the deviation 1: 4.302653 / sqrt(3)
    assert found.high - 2.0 == pytest.approx(2.484138, abs=1e-6)
    assert 2.0 - found.low == pytest.approx(2.484138, abs=1e-6)
    assert not found._replace(low=-0.1).excludes_zero() and found._replace(low=0.1).excludes_zero()
    assert mean([1.5])[:2] == (1.5, pytest.approx(math.nan, nan_ok=True))
    assert mean([]).num_values == mean([math.nan]).num_values == 0
    assert mean([1.0, math.nan, 2.0, 3.0]) == found


def test_differences_are_taken_seed_by_seed(tmp_path: Path) -> None:
    # seeds differ by 10 points, the arms by 2, 3 and 4: paired, the interval excludes zero
    text = page(tmp_path, {"rl": [0.2, 0.3, 0.4], "both": [0.22, 0.33, 0.44]})
    assert (
        "**DenseReward and ValueInit against neither: +3.0 points of Pass@1 (+0.5 to +5.5, 3 seeds). The interval"
        in text
    )
    assert "excludes zero.**" in text
    assert "| DenseReward and ValueInit | 3 | 33.0 ± 27.3 | +3.0 | +0.5 to +5.5 | 43.0 | 33.0 | 23.0 | 0.25 |" in text
    assert "| neither | 3 | 30.0 ± 24.8 |  |  | 40.0 | 30.0 | 20.0 | 0.25 |" in text
    assert "| hard | 20.0 | 23.0 | +3.0 | +0.5 to +5.5 |" in text


def test_the_page_says_which_monitors_see_that_a_safeguard_is_missing(tmp_path: Path) -> None:
    rows = {Cell(arm, seed): row(arm, seed, 0.5) for arm in ("both", "no_neutral") for seed in (1, 2, 3)}
    for seed, share in ((1, 0.31), (2, 0.32), (3, 0.33)):  # 0.2 with it
        rows[Cell("no_neutral", seed)]["curves"]["comment_share"] = [0.1, share]
        rows[Cell("no_neutral", seed)]["curves"]["blank_share"] = [0.1, share]  # not known of the other
    write_page(tmp_path / "study.md", rows, CONFIG)
    assert (
        "- no neutral label: comment share +0.12 (+0.0952 to +0.145, 3 seeds)\n" in (tmp_path / "study.md").read_text()
    )


def test_no_effect_is_called_none(tmp_path: Path) -> None:
    text = page(tmp_path, {"rl": [0.2, 0.3, 0.4], "both": [0.25, 0.28, 0.41]})
    assert "The interval holds zero: no effect is shown.**" in text


def test_one_seed_claims_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, {"rl": [0.2], "both": [0.9]})
    assert "**DenseReward and ValueInit against neither: one seed says nothing.**" in text


def test_the_page_is_the_same_each_time(tmp_path: Path) -> None:
    values = {"rl": [0.2, 0.3], "both": [0.25, 0.28]}
    first = page(tmp_path, values), (tmp_path / "study/arms.svg").read_bytes()
    assert first == (page(tmp_path, values), (tmp_path / "study/arms.svg").read_bytes())


def test_a_row_holds_what_its_run_has_written(tmp_path: Path) -> None:
    cell = Cell("both", 2)
    for name in (cell.name, cell.evaluation):
        (tmp_path / name).mkdir()
    steps = [
        {"step": 0, "train_rollouts/pass_rate": 0.25, "train_rollouts/comment_share": 0.123456789},
        {"step": 0, "train_optim/loss": 1.0},
        {"step": 1, "train_rollouts/pass_rate": None, "train_rollouts/comment_share": 0.5},
    ]
    (tmp_path / cell.name / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    (tmp_path / cell.name / "stage.json").write_text('{"seconds": 12.5}')
    (tmp_path / cell.evaluation / "results.json").write_text(
        json.dumps(
            {
                "results": {"nemo_prm": {"pass@1": 0.5}},
                "by_difficulty": {"easy": {"pass@1": 0.75}},
                "by_length": {"<=50": {"pass_rate": 0.5, "num_samples": 4}},
            }
        )
    )
    samples = [("p", "passed"), ("p", "passed"), ("q", "wrong_answer"), ("q", "infra_error")]
    (tmp_path / cell.evaluation / "samples.jsonl").write_text(
        "".join(json.dumps({"problem_id": name, "status": status}) + "\n" for name, status in samples)
    )
    found = collect(tmp_path, cell, CONFIG)
    assert found["curves"] == {"pass_rate": [0.25, None], "comment_share": [0.12346, 0.5]}
    assert found["passed"] == [2, 0]
    assert (found["pass_at_1"], found["by_difficulty"], found["seconds"]) == (0.5, {"easy": 0.75}, 12.5)

    table = tmp_path / "study/results.jsonl"
    write_results(table, {cell: found})
    assert read_results(table, CONFIG) == {cell: found}
    with pytest.raises(ConfigError, match="results.jsonl:1 has steps=12; set these, or pass another page"):
        read_results(table, StudyConfig(steps=13))
    assert read_results(tmp_path / "none.jsonl", CONFIG) == {}
