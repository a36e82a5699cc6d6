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
"""Exported rows are the store's rows, in columns whose types do not change by accident."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from nemo_prm.data.export import BATCH_ROWS, arrow_schema, export_rows, to_record
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.types import Cost, LabelRow, Probe, Step, Verdict

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROW = LabelRow(
    problem_id="p",
    response_id="policy-0",
    checkpoint="policy",
    prompt="Do é.\n",
    response="x = 1\n# é\ny = 2",
    steps=(Step(0, 6), Step(6, 10, "comment"), Step(10, 15)),
    labels=(1.0, 0.0, -0.1),
    response_class="revised",
    probes=(Probe(1, 20, 3),),
    cost=Cost(21, 300, 7, 1.25),
    seed=2**40,
    generator="g",
    sandbox="s",
    difficulty="easy",
    verdict=Verdict("wrong_answer", 3, 2, 1, "2", "3", "", 0.5, 12.5, "s", "full"),
    version="0.1.0",
    settings_sha256="ab" * 32,
)
EMPTY = replace(ROW, response_id="policy-1", steps=(), labels=(), probes=(), verdict=None, difficulty=None)
UNMEASURED = replace(ROW, response_id="policy-2", verdict=Verdict("passed", 1, 1))
ROWS = [ROW, EMPTY, UNMEASURED]

# What other people's code may rely on; a change breaks it.
COLUMNS = {
    "schema": "int64",
    "problem_id": "string",
    "response_id": "string",
    "checkpoint": "string",
    "prompt": "string",
    "response": "string",
    "steps": "list<item: struct<start: int64, end: int64, kind: string>>",
    "labels": "list<item: double>",
    "response_class": "string",
    "probes": "list<item: struct<num_steps: int64, num_completions: int64, num_passed: int64>>",
    "cost": "struct<completions: int64, tokens: int64, executions: int64, seconds: double>",
    "seed": "int64",
    "generator": "string",
    "sandbox": "string",
    "difficulty": "string",
    "verdict": "struct<status: string, num_tests: int64, num_passed: int64, failing_test: int64, expected: string, "
    "actual: string, message: string, seconds: double, peak_mib: double, sandbox: string, level: string>",
    "finish_reason": "string",
    "audit": "list<item: struct<num_steps: int64, num_completions: int64, num_passed: int64>>",
    "derivations": "list<item: struct<num_steps: int64, completion: string, pass_rate: double, feedback: string>>",
    "version": "string",
    "settings_sha256": "string",
}


def test_columns() -> None:
    assert {field.name: str(field.type) for field in arrow_schema()} == COLUMNS


def test_a_record_holds_every_field() -> None:
    record = to_record(ROW)
    assert record.pop("schema") == 1
    assert list(record) == list(asdict(ROW))
    assert record["steps"][1] == {"start": 6, "end": 10, "kind": "comment"}
    assert record["labels"] == [1.0, 0.0, -0.1]
    assert to_record(UNMEASURED)["verdict"]["peak_mib"] is None


def test_parquet_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.parquet"
    export_rows(ROWS, path)
    table = parquet.read_table(path)
    assert table.schema.equals(arrow_schema()) and table.to_pylist() == [to_record(row) for row in ROWS]
    many = [replace(ROW, response_id=str(number)) for number in range(BATCH_ROWS + 1)]
    export_rows(many, path)  # replaces the file
    assert parquet.read_table(path).column("response_id").to_pylist() == [row.response_id for row in many]
    assert [entry.name for entry in path.parent.iterdir()] == ["labels.parquet"]


def test_dataset_round_trip(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "new" / "labels"
    export_rows(ROWS, path)
    loaded = datasets.load_from_disk(str(path))
    assert loaded.to_list() == [to_record(row) for row in ROWS]
    assert loaded.features.arrow_schema.names == list(COLUMNS)
    assert [entry.name for entry in path.parent.iterdir()] == ["labels"]
    with pytest.raises(DataError, match="labels: already exists; choose another output"):
        export_rows(ROWS, path)


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    for name in ("labels.csv", "labels.jsonl", "labels.parquet.gz"):
        with pytest.raises(ConfigError, match="must end in .parquet, or be a folder"):
            export_rows(ROWS, tmp_path / name)
    with pytest.raises(DataError, match="hold no row"):
        export_rows([], tmp_path / "labels.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("output", "library"), [("labels.parquet", "pyarrow"), ("labels", "datasets")])
def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # importing it raises ImportError
    with pytest.raises(ConfigError, match=r"pip install 'nemo-prm\[export\]'"):
        export_rows(ROWS, tmp_path / output)
