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
"""`read_labels` takes a store or a manifest, and names the file that is not what the manifest says."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.data.jsonl import write_json, write_jsonl
from nemo_prm.data.manifest import read_labels
from nemo_prm.data.rows import label_row_to_json
from nemo_prm.errors import DataError
from nemo_prm.types import Cost, LabelRow


def row(name: str) -> LabelRow:
    return LabelRow(name, "r", "c", "", "é", (), (), "wrong", (), Cost(), 0, "g", "s")


ROWS = [row("p"), row("q"), row("r")]


def store(path: Path, rows: list[LabelRow]) -> dict[str, Any]:
    """Write a store; returns its entry in a manifest."""
    write_jsonl(path, map(label_row_to_json, rows))
    return {"path": path.name, "rows": len(rows), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    shards = [store(tmp_path / "a.jsonl", ROWS[:2]), store(tmp_path / "b.jsonl", ROWS[2:])]
    write_json(tmp_path / "labels.json", {"kind": "labels", "schema": 1, "shards": shards})
    return tmp_path / "labels.json"


def test_a_manifest_and_a_store_are_read_alike(manifest: Path) -> None:
    assert read_labels(manifest) == ROWS
    assert read_labels(str(manifest.with_name("a.jsonl"))) == ROWS[:2]
    packed = manifest.with_name("packed.jsonl.gz")
    packed.write_bytes(gzip.compress(manifest.with_name("b.jsonl").read_bytes()))
    assert read_labels(packed) == ROWS[2:]


def test_a_file_that_has_changed_is_named(manifest: Path) -> None:
    path = manifest.with_name("b.jsonl")
    store(path, [row("s")])
    with pytest.raises(DataError, match=r"b\.jsonl: has changed since it was merged .*labels\.json names this file"):
        read_labels(manifest)
    path.unlink()
    with pytest.raises(DataError, match=r"b\.jsonl: no such file\. .*labels\.json names this file; merge the shards"):
        read_labels(manifest)


def test_a_row_count_that_is_not_right(manifest: Path) -> None:
    value = json.loads(manifest.read_text(encoding="utf-8"))
    value["shards"][0]["rows"] = 3
    write_json(manifest, value)
    with pytest.raises(DataError, match=r"a\.jsonl: holds 2 rows, not 3"):
        read_labels(manifest)


@pytest.mark.parametrize("change", [{"kind": "selection"}, {"kind": None}, {"schema": 2}])
def test_another_json_file_is_no_manifest(manifest: Path, change: dict[str, Any]) -> None:
    write_json(manifest, {**json.loads(manifest.read_text(encoding="utf-8")), **change})
    with pytest.raises(DataError, match=r"labels\.json: is no manifest of labels"):
        read_labels(manifest)


def test_a_manifest_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    for content, message in (("{", "not valid JSON"), ("[]", "expected a JSON object, found a list")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_labels(path)
    with pytest.raises(DataError, match="no such file"):
        read_labels(tmp_path / "none.json")
