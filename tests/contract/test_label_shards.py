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
"""A job on several machines as a user runs it: label with shards, merge, then select, report and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_scripts import error_of, output_of, script, write

from nemo_prm.data.manifest import read_labels
from nemo_prm.types import LabelRow

SHARDS = ("labels-00000-of-00002.jsonl", "labels-00001-of-00002.jsonl")


def problem(number: int) -> dict[str, Any]:
    tests = [{"kind": "call", "args": [1], "expected": 1 + number}]
    return {"problem_id": f"p{number}", "prompt": f"Add {number}.", "entry_point": "f", "tests": tests}


def response(number: int) -> dict[str, Any]:
    return {"problem_id": f"p{number}", "response": f"def f(x):\n    # add\n    return x + {number}\n"}


def shard(cwd: Path, number: int, *overrides: str) -> str:
    settings = ["problems=problems.jsonl", "responses=responses.jsonl", "output=labels.jsonl", f"shard={number}/2"]
    return output_of(script("label", *settings, *overrides, cwd=cwd))


def labels_of(rows: list[LabelRow]) -> dict[str, tuple[float, ...]]:
    return {row.problem_id: row.labels for row in rows}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five problems, labelled by two shards and merged; tests only read it."""
    folder = tmp_path_factory.mktemp("job")
    write(folder / "problems.jsonl", [problem(number) for number in range(5)])
    write(folder / "responses.jsonl", [response(number) for number in range(5)])
    for number, name in enumerate(SHARDS):
        assert name in shard(folder, number)
    merged = output_of(script("merge_labels", "shards=[labels-*-of-00002.jsonl]", "output=labels.json", cwd=folder))
    assert merged == "labels.json: 5 rows of 2 shards (correct 5, revised 0, wrong 0)\n"
    return folder


def test_shards_deal_out_the_problems(job: Path) -> None:
    first, second = (read_labels(job / name) for name in SHARDS)
    assert sorted(row.problem_id for row in first) == ["p0", "p2", "p4"]  # in the order in which they were done
    assert sorted(row.problem_id for row in second) == ["p1", "p3"]
    settings = [json.loads((job / f"{name}.settings.json").read_text(encoding="utf-8")) for name in SHARDS]
    assert settings[0] == settings[1]


def test_the_manifest_stands_for_all_shards(job: Path) -> None:
    manifest = json.loads((job / "labels.json").read_text(encoding="utf-8"))
    assert [(entry["path"], entry["rows"]) for entry in manifest["shards"]] == [(SHARDS[0], 3), (SHARDS[1], 2)]
    assert manifest["counts"]["labels"] == {"positive": 10, "neutral": 5, "negative": 0}
    assert manifest["cost"]["executions"] == 5 and manifest["skipped"] == {} and manifest["open"] == []
    rows = read_labels(job / "labels.json")
    assert labels_of(rows) == {f"p{number}": (1.0, 0.0, 1.0) for number in range(5)}
    assert {row.settings_sha256 for row in rows} == {manifest["settings_sha256"]}


def test_labels_are_read_through_the_manifest(job: Path, tmp_path: Path) -> None:
    labels = f"labels=[{job / 'labels.json'}]"
    selected = output_of(script("select_data", labels, "output=data", "strategy=full", cwd=tmp_path))
    assert "full selects 5 of 5 responses" in selected
    assert "5 of 5 responses" in output_of(script("report", labels, "output=report.html", cwd=tmp_path))
    parquet = pytest.importorskip("pyarrow.parquet")
    assert "5 rows" in output_of(script("export_labels", labels, "output=labels.parquet", cwd=tmp_path))
    table = parquet.read_table(tmp_path / "labels.parquet")
    assert sorted(table.column("problem_id").to_pylist()) == ["p0", "p1", "p2", "p3", "p4"]


def test_a_job_that_has_not_ended_is_not_merged(tmp_path: Path) -> None:
    write(tmp_path / "problems.jsonl", [problem(number) for number in range(4)])
    write(tmp_path / "responses.jsonl", [response(number) for number in range(4)])
    shard(tmp_path, 0)
    arguments = ("merge_labels", "shards=[labels-*.jsonl]", "output=labels.json")
    assert f"{SHARDS[1]} is missing" in error_of(script(*arguments, cwd=tmp_path))
    assert not (tmp_path / "labels.json").exists()
    told = output_of(script(*arguments, "allow_incomplete=true", cwd=tmp_path))
    assert f"incomplete: {SHARDS[1]} is missing" in told

    # A wrong answer needs a policy, and none is served.
    wrong = {**response(3), "response": "x = 1\n"}
    write(tmp_path / "responses.jsonl", [response(0), response(1), response(2), wrong])
    nowhere = ("generator.url=http://127.0.0.1:9", "generator.connect_timeout_s=0.2")
    settings = ["problems=problems.jsonl", "responses=responses.jsonl", "output=labels.jsonl", "shard=1/2"]
    assert "127.0.0.1:9" in error_of(script("label", *settings, *nowhere, cwd=tmp_path))
    assert "but its job has not ended" in error_of(script(*arguments, cwd=tmp_path))

    write(tmp_path / "responses.jsonl", [response(number) for number in range(4)])
    shard(tmp_path, 1, "limit=2")  # ends, but with less than shard 0 was asked to do
    assert "other settings" in error_of(script(*arguments, cwd=tmp_path))
    shard(tmp_path, 1)
    assert "labels.json: 4 rows of 2 shards" in output_of(script(*arguments, cwd=tmp_path))
    with (tmp_path / SHARDS[0]).open("a", encoding="utf-8") as file:
        file.write("\n")
    message = error_of(script("report", "labels=[labels.json]", "output=report.html", cwd=tmp_path))
    assert f"{SHARDS[0]}: has changed since it was merged" in message and "labels.json names this file" in message


def test_a_shard_that_there_is_not(tmp_path: Path) -> None:
    message = error_of(script("label", "output=labels.jsonl", "shard=2/2", cwd=tmp_path))
    assert "shard must be index/count, counted from 0" in message
    assert list(tmp_path.iterdir()) == []
