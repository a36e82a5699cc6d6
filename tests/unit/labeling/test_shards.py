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
"""Shards of a job: together they are the job, and what does not belong together is not merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_policy import SimulatedPolicy, chain

from nemo_prm.config import LabelConfig
from nemo_prm.data.jsonl import write_json
from nemo_prm.data.manifest import read_labels
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.labeling.merge import merge
from nemo_prm.labeling.run import run_labeling
from nemo_prm.labeling.shards import Shard, parse_shard, parse_shard_path, shard_of, shard_path
from nemo_prm.labeling.store import LabelStore, label_settings, summary_path
from nemo_prm.sandbox.verifier import SandboxVerifier
from nemo_prm.types import Cost, LabelRow, Problem, Response, Step

SETTINGS = {"seed": 1}


@pytest.fixture(scope="module")
def verifier() -> Iterator[SandboxVerifier]:
    with SandboxVerifier(workers=2) as found:
        yield found


def test_parse_shard() -> None:
    assert parse_shard("3/16") == Shard(3, 16)
    assert parse_shard("0/1") == Shard(0, 1)
    for text in ("16/16", "0/0", "-1/4", "1/2/3", "1", "", "a/b", "1 / 2"):
        with pytest.raises(ConfigError, match="shard must be index/count, counted from 0"):
            parse_shard(text)


def test_the_store_of_a_shard() -> None:
    assert shard_path("runs/labels.jsonl", Shard(3, 16)) == Path("runs/labels-00003-of-00016.jsonl")
    assert shard_path("a.b.jsonl", Shard(123456, 200000)) == Path("a.b-123456-of-200000.jsonl")
    for output in ("runs/labels.jsonl", "labels", "x-00000-of-00002.jsonl"):
        assert parse_shard_path(shard_path(output, Shard(3, 16))) == (Path(output), Shard(3, 16))
    for name in ("labels.jsonl", "a-0-of-2.jsonl", "a-00002-of-00002.jsonl", "a-00000-of-00002.jsonl.summary.json"):
        assert parse_shard_path(name) is None


@given(st.integers(0, 40), st.integers(1, 12))
def test_every_problem_is_in_one_shard(size: int, count: int) -> None:
    problems = [Problem(f"p{number}", f"Do {number}.", ()) for number in range(size)]
    responses = [Response(problem.problem_id, f"r{n}", "") for problem in problems for n in range(2)]
    shards = [shard_of(problems, responses, Shard(index, count)) for index in range(count)]
    assert sorted((p.problem_id for part, _ in shards for p in part)) == sorted(p.problem_id for p in problems)
    assert max(len(part) for part, _ in shards) - min(len(part) for part, _ in shards) <= 1
    for part, answers in shards:
        assert answers == [r for r in responses if r.problem_id in {p.problem_id for p in part}]
    assert shard_of(problems, None, Shard(0, count))[1] is None


def test_responses_to_unknown_problems_stay_to_be_refused() -> None:
    stranger = Response("none", "r", "")
    for index in range(2):
        _, responses = shard_of([Problem("p", "Do p.", ())], [stranger], Shard(index, 2))
        assert responses == [stranger]


def test_shards_together_label_what_one_job_labels(tmp_path: Path, verifier: SandboxVerifier) -> None:
    tasks = [chain(f"t{i}", 3) for i in range(5)]
    problems = [task.problem for task in tasks]
    config = LabelConfig(output=str(tmp_path / "labels.jsonl"), responses_per_prompt=2, completions=4)
    shards = [Shard(index, 3) for index in range(3)]
    for path, part in [
        (Path(config.output), problems),
        *((shard_path(config.output, shard), shard_of(problems, None, shard)[0]) for shard in shards),
    ]:
        with LabelStore(path, label_settings(config, problems)) as store:
            summary = run_labeling(part, None, SimulatedPolicy(tasks), verifier, store, config)
        write_json(summary_path(path), {"asked": 2 * len(part), "missing": 0, "limit": None, **summary.as_json()})
    write_json(tmp_path / "labels.json", merge([str(tmp_path / "labels-*.jsonl")], tmp_path / "labels.json"))
    whole, parts = read_labels(config.output), read_labels(tmp_path / "labels.json")

    def found(rows: list[LabelRow]) -> list[tuple[Any, ...]]:
        return sorted((r.problem_id, r.response_id, r.response, r.labels, r.settings_sha256) for r in rows)

    assert len(whole) == 10 and found(parts) == found(whole)
    counts = json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))["counts"]
    summary_of_all = json.loads(Path(f"{config.output}.summary.json").read_text(encoding="utf-8"))
    assert counts == {name: summary_of_all[name] for name in ("responses", "problems", "labels")}


def row(problem: str, response: str = "r0") -> LabelRow:
    cost = Cost(3, 20, 2, 0.5)
    return LabelRow(problem, response, "c", "", "a\n", (Step(0, 2),), (-1.0,), "wrong", (), cost, 0, "g", "s")


def write_shard(folder: Path, index: int, count: int, rows: list[LabelRow], **changes: Any) -> Path:
    """A shard as label.py leaves it; `changes` of its summary, and `settings`."""
    path = shard_path(folder / "labels.jsonl", Shard(index, count))
    with LabelStore(path, {**SETTINGS, **changes.pop("settings", {})}) as store:
        for entry in rows:
            store.append(entry)
    summary = {"asked": len(rows), "missing": 0, "limit": None, "skipped": {}, "responses": {"wrong": len(rows)}}
    write_json(summary_path(path), {**summary, **changes})
    return path


def merged(folder: Path, pattern: str = "labels-*.jsonl", **keys: Any) -> dict[str, Any]:
    return merge([str(folder / pattern)], folder / "labels.json", **keys)


def test_counts_and_costs_add_up(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, 3, [row("p"), row("p", "r1")], asked=3, skipped={"the sandbox failed": 1})
    write_shard(tmp_path, 1, 3, [row("q")], asked=2, skipped={"the sandbox failed": 1})
    write_shard(tmp_path, 2, 3, [])  # there may be more shards than problems
    manifest = json.loads(json.dumps(merged(tmp_path)))
    assert manifest["rows"] == 3 and [entry["rows"] for entry in manifest["shards"]] == [2, 1, 0]
    assert manifest["settings"] == SETTINGS
    assert manifest["counts"] == {
        "responses": {"correct": 0, "revised": 0, "wrong": 3},
        "problems": {"easy": 0, "medium": 0, "hard": 2},
        "labels": {"positive": 0, "neutral": 0, "negative": 3},
    }
    assert manifest["cost"] == {"completions": 9, "tokens": 60, "executions": 6, "seconds": 1.5}
    assert manifest["skipped"] == {"the sandbox failed": 2} and manifest["open"] == []


def test_a_manifest_may_lie_elsewhere_and_move_with_its_shards(tmp_path: Path) -> None:
    write_shard(tmp_path / "job" / "stores", 0, 1, [row("p")])
    path = tmp_path / "job" / "made" / "labels.json"
    path.parent.mkdir()
    write_json(path, merge([str(tmp_path / "job" / "stores" / "*.jsonl")], path))
    assert [r.problem_id for r in read_labels(path)] == ["p"]
    (tmp_path / "job").rename(tmp_path / "moved")
    assert [r.problem_id for r in read_labels(tmp_path / "moved" / "made" / "labels.json")] == ["p"]


def test_missing_and_unfinished_shards(tmp_path: Path) -> None:
    write_shard(tmp_path, 1, 4, [row("p")], asked=5, missing=4)
    other = write_shard(tmp_path, 3, 4, [row("q")])
    with pytest.raises(DataError) as error:
        merged(tmp_path)
    for text in (
        "labels-00000-of-00004.jsonl is missing",
        "labels-00002-of-00004.jsonl is missing",
        "labels-00001-of-00004.jsonl lacks 4 of 5 responses",
        "allow_incomplete=true",
    ):
        assert text in str(error.value)
    manifest = merged(tmp_path, allow_incomplete=True)
    assert manifest["rows"] == 2 and len(manifest["open"]) == 3
    summary_path(other).unlink()
    assert "its job has not ended" in merged(tmp_path, allow_incomplete=True)["open"][-1]
    write_shard(tmp_path, 3, 4, [row("q", "r1")])  # the summary counts this row alone
    assert "has changed since its job ended" in merged(tmp_path, allow_incomplete=True)["open"][-1]


def test_shards_of_other_settings(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, 3, [row("p")])
    write_shard(tmp_path, 1, 3, [row("q")], settings={"seed": 2, "completions": 20})
    with pytest.raises(DataError, match=r"00001-of-00003.jsonl: was made .*completions None -> 20; seed 1 -> 2"):
        merged(tmp_path, allow_incomplete=True)
    with pytest.raises(DataError, match="limit None -> 7"):
        write_shard(tmp_path / "limit", 0, 2, [row("p")])
        write_shard(tmp_path / "limit", 1, 2, [row("q")], limit=7)
        merged(tmp_path / "limit")


def test_rows_that_do_not_belong_here(tmp_path: Path) -> None:
    path = write_shard(tmp_path, 0, 2, [row("p"), row("p", "r1")])
    write_shard(tmp_path, 1, 2, [row("p")])
    with pytest.raises(DataError, match=r"00001-of-00002.jsonl: responses to 'p' are already in .*00000-of-00002"):
        merged(tmp_path)
    once = path.read_bytes()
    path.write_bytes(once + once)
    with pytest.raises(DataError, match=r"00000-of-00002.jsonl: response 'r0' of 'p' is already in"):
        merged(tmp_path)
    path.write_bytes(once + b'{"schema": 1}\n')
    with pytest.raises(DataError, match=r"00000-of-00002.jsonl:3: `response` is missing"):
        merged(tmp_path)
    path.write_bytes(once + b'{"schema": 1')
    with pytest.raises(DataError, match=r"00000-of-00002.jsonl: its last line has no end"):
        merged(tmp_path)
    foreign = write_shard(tmp_path / "foreign", 0, 1, [row("q")], settings={"seed": 9})
    path.write_bytes(foreign.read_bytes())
    with pytest.raises(DataError, match=r"settings.json does not say how response 'r0' of 'q' was made"):
        merged(tmp_path)


def test_which_files_are_shards(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, 1, [row("p")])
    write_shard(tmp_path / "copy", 0, 1, [row("p")])
    output = tmp_path / "labels.json"
    assert merge([str(tmp_path / "*.jsonl"), str(tmp_path / "labels-*.jsonl")], output)["rows"] == 1
    with pytest.raises(DataError, match="is the same shard as"):
        merge([str(tmp_path / "*.jsonl"), str(tmp_path / "copy" / "*.jsonl")], output)
    with pytest.raises(DataError, match="settings.json: is no shard; their names end like"):
        merge([str(tmp_path / "labels-*")], output)
    with pytest.raises(DataError, match=r"none-\*.jsonl: no such file"):
        merge([str(tmp_path / "none-*.jsonl")], output)
    with pytest.raises(DataError, match="shards names no file"):
        merge([], output)
    write_shard(tmp_path, 1, 2, [row("q")])
    with pytest.raises(DataError, match="is a shard of another job"):
        merge([str(tmp_path / "*.jsonl")], output)
    with pytest.raises(ConfigError, match=r"output must end in .json, .* found 'labels.jsonl'"):
        merge([str(tmp_path / "*.jsonl")], "labels.jsonl")


def test_shards_without_their_settings(tmp_path: Path) -> None:
    path = write_shard(tmp_path, 0, 1, [row("p")])
    Path(f"{path}.settings.json").unlink()
    with pytest.raises(DataError, match=r"jsonl.settings.json: no such file"):
        merged(tmp_path)


def test_rows_of_older_versions_merge(tmp_path: Path) -> None:
    path = write_shard(tmp_path, 0, 1, [row("p")])
    line = json.loads(path.read_text(encoding="utf-8"))
    del line["version"], line["settings_sha256"]
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    write_json(tmp_path / "labels.json", merged(tmp_path))
    assert read_labels(tmp_path / "labels.json") == [row("p")]
