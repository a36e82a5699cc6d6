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
"""Label rows survive their file, and a bad one is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.data.jsonl import write_jsonl
from nemo_prm.data.rows import check_distinct, label_row_from_json, label_row_to_json, read_label_rows
from nemo_prm.errors import DataError
from nemo_prm.types import Cost, LabelRow, Probe, Step, Verdict

ROW = LabelRow(
    problem_id="p",
    response_id="policy-0",
    checkpoint="policy",
    prompt="Do é.\n",
    response="x = 1\n# é\ny = 2",
    steps=(Step(0, 6), Step(6, 10, "comment"), Step(10, 15)),
    labels=(1.0, 0.0, -0.5),
    response_class="revised",
    probes=(Probe(1, 20, 3),),
    cost=Cost(21, 300, 7, 1.25),
    seed=7,
    generator="g",
    sandbox="s",
    difficulty="easy",
    verdict=Verdict("wrong_answer", 3, 2, 1, "2", "3", "", 0.5, float("nan"), "s"),
    version="0.1.0",
    settings_sha256="ab" * 32,
)


def test_round_trip(tmp_path: Path) -> None:
    plain = replace(ROW, verdict=None, difficulty=None, steps=(), labels=(), probes=())
    passed = replace(ROW, verdict=Verdict("passed", 1, 1, seconds=0.25, peak_mib=12.5))
    assert write_jsonl(tmp_path / "rows.jsonl", map(label_row_to_json, [ROW, plain, passed])) == 3
    rows = read_label_rows(tmp_path / "rows.jsonl")
    assert repr(rows) == repr([ROW, plain, passed])  # NaN is not equal to itself, but its repr is


def test_rows_of_older_versions_are_read() -> None:
    line = label_row_to_json(ROW)
    del line["version"], line["settings_sha256"]
    assert repr(label_row_from_json(line, "labels.jsonl:1")) == repr(replace(ROW, version="", settings_sha256=""))


def test_the_line_is_strict_json() -> None:
    value = json.loads(json.dumps(label_row_to_json(ROW), allow_nan=False))
    assert value["schema"] == 1
    assert value["steps"] == [[0, 6, "code"], [6, 10, "comment"], [10, 15, "code"]]
    assert value["labels"] == [1, 0, -0.5]
    assert value["probes"] == [[1, 20, 3]]
    assert value["cost"] == {"completions": 21, "tokens": 300, "executions": 7, "seconds": 1.25}
    assert value["verdict"]["peak_mib"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "`schema` must be 1, found 2"),
        ({"schema": ...}, "`schema` is missing"),
        ({"labels": [1, 0]}, "one label per step, found 2 for 3"),
        ({"labels": [1, 0, 2]}, "must lie in [-1, 1], found 2"),
        ({"labels": [1, 0, float("nan")]}, "must lie in [-1, 1], found nan"),
        ({"labels": [1, 0, True]}, "must lie in [-1, 1], found True"),
        ({"steps": [[0, 6, "code"], [5, 9, "code"], [9, 15, "code"]]}, "must follow one another"),
        ({"steps": [[0, 6, "code"], [6, 10, "code"], [10, 16, "code"]]}, "must follow one another"),
        ({"steps": [[0, 6, "codes"]]}, "must hold [start, end, kind]"),
        ({"steps": [[0, 6.0, "code"]]}, "must follow one another"),
        ({"probes": [[1, 2]]}, "`probes` must hold lists of 3 counts"),
        ({"probes": [[1, 2, -1]]}, "`probes` must hold lists of 3 counts"),
        ({"response_class": "right"}, "`response_class` must be one of correct, revised, wrong"),
        ({"cost": {"completions": 1}}, "`cost.tokens` is missing"),
        ({"verdict": {"status": "fine"}}, "`verdict.status` must be one of passed"),
        ({"problem_id": 3}, "`problem_id` must be a string"),
    ],
)
def test_bad_rows_are_named(change: dict[str, Any], message: str) -> None:
    value = {key: item for key, item in {**label_row_to_json(ROW), **change}.items() if item is not ...}
    with pytest.raises(DataError) as error:
        label_row_from_json(value, "labels.jsonl:4")
    assert str(error.value).startswith("labels.jsonl:4: ") and message in str(error.value)


def test_a_response_may_stand_in_the_stores_once() -> None:
    other = replace(ROW, response_id="policy-1")
    check_distinct([("a", [ROW]), ("b", [other])])
    with pytest.raises(DataError, match="b: response 'policy-0' of 'p' is already in a"):
        check_distinct([("a", [ROW]), ("b", [other, ROW])])
    with pytest.raises(DataError, match="is already in a"):
        check_distinct([("a", [ROW]), ("a", [ROW])])
