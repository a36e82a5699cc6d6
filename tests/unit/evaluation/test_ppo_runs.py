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
"""What the report reads of PPO runs, and how it shows it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.errors import DataError
from nemo_prm.evaluation.plots import draw_curves
from nemo_prm.evaluation.ppo_runs import read_run
from nemo_prm.evaluation.report import render
from nemo_prm.evaluation.report_items import ppo_items

pytest.importorskip("matplotlib", reason="the report's requirements are not installed")
pytest.importorskip("jinja2", reason="the report's requirements are not installed")

SAMPLE = {
    "step": 1,
    "problem_id": "p<1>",
    "prompt": "Add.\n",
    "response": "x = 1\n",
    "outcome": 0.0,
    "ended": False,
    "num_tokens": 3,
    "lines": [{"text": "x = 1 # <b>\n", "kind": "code", "score": 0.5, "reward": 0.125, "advantage": -0.25}],
}


def run(folder: Path, rows: list[dict[str, Any]], samples: list[dict[str, Any]] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if samples is not None:
        (folder / "rollouts").mkdir()
        (folder / "rollouts/step_000001.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    return folder


def test_curves_of_a_run_that_was_resumed(tmp_path: Path) -> None:
    rows = [{"step": step, "train_rollouts/pass_rate": step / 10, "train_rollouts/loss": 3} for step in (0, 1, 2)]
    folder = run(tmp_path / "rl", [{"step": 2, "train_rollouts/pass_rate": 0.5}, {"step": 3, "train_optim/loss": 1.0}])
    run(folder / "run_0", rows)
    run(folder / "critic", [{"step": 9, "train_rollouts/pass_rate": 0.9}])
    os.utime(folder / "run_0/metrics.jsonl", (1, 1))
    found = read_run(folder, limit=4)
    assert found.curves == {"pass_rate": {0: 0.0, 1: 0.1, 2: 0.5}}
    assert found.samples == [] and found.name == "rl"


def test_a_torn_last_line_is_passed_over_and_another_one_named(tmp_path: Path) -> None:
    folder = run(tmp_path / "rl", [{"step": 0, "train_rollouts/pass_rate": 0.5}])
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 1, "train')
    assert read_run(folder, limit=1).curves == {"pass_rate": {0: 0.5}}
    path.write_text('{"step": 1, "train\n' + '{"step": 0}\n')
    with pytest.raises(DataError, match="metrics.jsonl:1: is no row of metrics"):
        read_run(folder, limit=1)
    with pytest.raises(DataError, match="holds no metrics.jsonl; is it the output of train_ppo"):
        read_run(tmp_path / "none", limit=1)


def test_the_report_draws_the_curves_and_shows_the_lines(tmp_path: Path) -> None:
    names = ("rl", "rl_prm")
    rows = [{"step": step, "train_rollouts/pass_rate": 0.1 * step} for step in (0, 1)]
    runs = [read_run(run(tmp_path / name, rows, [SAMPLE, SAMPLE]), limit=1) for name in names]
    picture = base64.b64decode(draw_curves(runs).removeprefix("data:image/svg+xml;base64,")).decode()
    assert picture.count("<svg") == 1 and "pass rate" in picture and "rl_prm" in picture
    assert draw_curves(runs) == draw_curves(runs)
    page = render([], runs=runs)
    assert 'src="data:image/svg+xml;base64,' in page and "img-src data:" in page
    [first, second] = ppo_items(runs)
    assert (first["source"], second["source"]) == ("PPO rl", "PPO rl_prm")
    assert (first["id"], first["group"], first["notes"][1]) == (
        "step 1, p<1>",
        "failed",
        ["Length", "3 tokens, cut off"],
    )
    assert first["lines"] == [["x = 1 # <b>", None, 0.5, 0.125, -0.25]]
    assert "Curves of the PPO runs" not in render([])
