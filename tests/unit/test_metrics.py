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

import json
import math
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.metrics import MetricsLogger, finite_or_null


def rows(path: Path) -> list[dict[str, Any]]:
    def no_constants(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=no_constants) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_on_disk_at_once_and_nan_is_null(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path / "run")
    logger.log({"loss": 0.5, "auc": math.nan, "worst": math.inf, "note": "ünï"}, step=3)
    (row,) = rows(logger.path)  # before close: a killed run keeps its metrics
    assert {key: row[key] for key in ("step", "loss", "auc", "worst", "note")} == {
        "step": 3, "loss": 0.5, "auc": None, "worst": None, "note": "ünï"
    }  # fmt: skip
    logger.log({"loss": 0.25}, step=4)
    logger.close()
    MetricsLogger(tmp_path / "run").log({"loss": 0.125}, step=5)  # a resumed run appends
    assert [row["step"] for row in rows(logger.path)] == [3, 4, 5]


def test_tensors_and_arrays_become_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    logged = finite_or_null({"a": numpy.float32(0.5), "b": numpy.float64("nan"), "c": [numpy.int64(3)]})
    assert logged == {"a": 0.5, "b": None, "c": [3]}
    assert json.dumps(logged) == '{"a": 0.5, "b": null, "c": [3]}'


def test_logging_never_raises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def item(self) -> float:
            raise RuntimeError("device lost")

    logger = MetricsLogger(tmp_path)
    logger.log({"x": Broken()}, step=0)
    logger.log({"x": Broken()}, step=1)
    assert capsys.readouterr().err.count("device lost") == 1  # said once
    logger.log({"x": 1.0}, step=2)
    logger.close()
    logger.log({"x": 1.0}, step=3)
    assert [row["step"] for row in rows(logger.path)] == [2]


def test_other_ranks_touch_nothing(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path / "rank1", enabled=False, tensorboard=True)
    logger.log({"x": 1.0}, step=0)
    logger.close()
    assert not (tmp_path / "rank1").exists()


def test_tensorboard_holds_the_same_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("torch")
    logger = MetricsLogger(tmp_path, tensorboard=True)
    logger.log({"loss": 0.5, "note": "text is left out"}, step=7)
    logger.close()
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(7, 0.5)]
