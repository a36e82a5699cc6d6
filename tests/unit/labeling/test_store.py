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
"""The label store: resumes, survives a kill, and refuses to mix labels."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Iterator

import pytest
from simulated_policy import SimulatedPolicy, chain

from nemo_prm import __version__
from nemo_prm.config import LabelConfig, SamplingConfig, SandboxConfig
from nemo_prm.data.rows import read_label_rows
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.labeling.run import restrict, run_labeling
from nemo_prm.labeling.store import LabelStore, label_settings
from nemo_prm.sandbox.verifier import SandboxVerifier
from nemo_prm.types import Cost, LabelRow, Response

TASKS = [chain(f"t{i}", 3) for i in range(6)]
PROBLEMS = [task.problem for task in TASKS]


@pytest.fixture(scope="module")
def verifier() -> Iterator[SandboxVerifier]:
    with SandboxVerifier(workers=2) as found:
        yield found


def config(path: Path, **keys: Any) -> LabelConfig:
    return dataclasses.replace(LabelConfig(output=str(path), responses_per_prompt=2, completions=4), **keys)


def row(number: int, text: str = "é") -> LabelRow:
    return LabelRow("p", f"r{number}", "c", "", text, (), (), "wrong", (), Cost(), 0, "g", "s")


def content(path: Path) -> list[tuple[Any, ...]]:
    rows = read_label_rows(path)
    return sorted((r.problem_id, r.response_id, r.response, r.labels, r.response_class, r.probes) for r in rows)


def test_rows_are_there_when_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.jsonl"
    with LabelStore(path, {}) as store:
        for number in range(3):
            store.append(row(number))
            assert len(read_label_rows(path)) == number + 1
    with LabelStore(path, {}) as store:
        assert set(store.completed) == {("p", "r0"), ("p", "r1"), ("p", "r2")}
        store.append(row(3))
    assert [r.response_id for r in read_label_rows(path)] == ["r0", "r1", "r2", "r3"]


def test_a_row_says_by_which_settings_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelStore(path, label_settings(config(path), PROBLEMS)) as store:
        store.append(row(0))
        kept = store.rows
    [found] = read_label_rows(path)
    assert kept == [found]
    assert found.version == __version__
    settings = json.loads((tmp_path / "labels.jsonl.settings.json").read_text(encoding="utf-8"))
    assert found.settings_sha256 == hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("size", [1, 10, 100_000])
def test_a_torn_last_line_is_dropped(tmp_path: Path, size: int) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelStore(path, {}) as store:
        store.append(row(0))
        store.append(row(1, "x" * size))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in {first + 1, (first + len(whole)) // 2, len(whole) - 1}:
        path.write_bytes(whole[:cut])
        with LabelStore(path, {}) as store:
            assert set(store.completed) == {("p", "r0")}
            store.append(row(1, "x" * size))
        assert path.read_bytes() == whole
    path.write_bytes(whole[: first - 1])
    with LabelStore(path, {}) as store:
        assert store.rows == [] and path.stat().st_size == 0


def test_a_bad_line_within_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelStore(path, {}) as store:
        store.append(row(0))
    path.write_bytes(b'{"schema": 1\n' + path.read_bytes())
    with pytest.raises(DataError, match=r"labels\.jsonl:1: not valid JSON"):
        LabelStore(path, {})


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        LabelStore(tmp_path / "labels.jsonl", {}),
        pytest.raises(DataError, match="another process is writing"),
    ):
        LabelStore(tmp_path / "labels.jsonl", {})
    with LabelStore(tmp_path / "labels.jsonl", {}):
        pass


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        LabelStore(tmp_path, {})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 2}, "seed 1234 -> 2"),
        ({"completions": 5}, "completions 4 -> 5"),
        ({"soft_labels": True}, "soft_labels False -> True"),
        ({"steps": "blocks"}, "steps lines -> blocks"),
        ({"responses_per_prompt": 3}, "responses_per_prompt 2 -> 3"),
        ({"checkpoint": "other"}, "checkpoints ['policy'] -> ['other']"),
        ({"responses": "r.jsonl"}, "given_responses False -> True"),
        ({"sampling": SamplingConfig(temperature=0.5)}, "sampling"),
        ({"sandbox": SandboxConfig(time_limit_s=1.0)}, "time_limit_s None -> 1.0"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, Any], name: str) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelStore(path, label_settings(config(path), PROBLEMS)) as store:
        store.append(row(0))
    with pytest.raises(DataError) as error:
        LabelStore(path, label_settings(config(path, **change), PROBLEMS))
    assert "made with other settings" in str(error.value) and name in str(error.value)


def test_settings_that_change_no_label_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelStore(path, label_settings(config(path), PROBLEMS)) as store:
        store.append(row(0))
    with LabelStore(path, label_settings(config(path, limit=2, sandbox=SandboxConfig(workers=7)), PROBLEMS)) as store:
        assert len(store.rows) == 1
    changed = [dataclasses.replace(PROBLEMS[0], tests=PROBLEMS[0].tests[:1]), *PROBLEMS[1:]]
    with pytest.raises(DataError, match="problems_sha256"):
        LabelStore(path, label_settings(config(path), changed))
    (tmp_path / "labels.jsonl.settings.json").unlink()
    with pytest.raises(DataError, match="how they were made, is missing"):
        LabelStore(path, label_settings(config(path), PROBLEMS))


def test_a_job_resumes_and_extends(tmp_path: Path, verifier: SandboxVerifier) -> None:
    path, whole = tmp_path / "labels.jsonl", tmp_path / "whole.jsonl"
    summaries = []
    for target, count in ((whole, 6), (path, 2), (path, 6), (path, 6)):
        settings = config(target)
        with LabelStore(target, label_settings(settings, PROBLEMS)) as store:
            policy = SimulatedPolicy(TASKS)
            problems, responses = restrict(PROBLEMS, None, count)
            summaries.append(run_labeling(problems, responses, policy, verifier, store, settings).as_json())
    assert content(path) == content(whole)
    assert [summary["new_rows"] for summary in summaries] == [12, 4, 8, 0]
    assert policy.calls == []  # the last run had nothing to do
    for summary in summaries:
        assert sum(summary["responses"].values()) == (4 if summary["new_rows"] == 4 else 12)
        assert summary["executions"] >= sum(summary["responses"].values())
    assert summaries[2]["labels"] == summaries[0]["labels"] == summaries[3]["labels"]


def test_given_responses(tmp_path: Path, verifier: SandboxVerifier) -> None:
    path = tmp_path / "labels.jsonl"
    settings = config(path, responses="r.jsonl")
    responses = [Response("t0", "a", TASKS[0].response()), Response("t1", "a", TASKS[1].response([1]))]

    def run(entries: list[Response]) -> dict[str, Any]:
        with LabelStore(path, label_settings(settings, PROBLEMS)) as store:
            return run_labeling(PROBLEMS, entries, SimulatedPolicy(TASKS), verifier, store, settings).as_json()

    assert run(responses)["new_rows"] == 2
    assert run(responses)["new_rows"] == 0
    with pytest.raises(DataError, match="another response named 'a' to 't0'"):
        run([dataclasses.replace(responses[0], text="other")])
    with pytest.raises(DataError, match="answers the unknown problem 'none'"):
        run([Response("none", "a", "")])


def test_restrict() -> None:
    responses = [Response(name, "a", "") for name in ("t0", "t5", "none")]
    problems, kept = restrict(PROBLEMS, responses, 2)
    assert [p.problem_id for p in problems] == ["t0", "t1"]
    assert kept is not None and [r.problem_id for r in kept] == ["t0", "none"]
    assert restrict(PROBLEMS, None, None) == (PROBLEMS, None)
    with pytest.raises(ConfigError, match="limit must be at least 1"):
        restrict(PROBLEMS, None, 0)


def test_the_summary_is_a_table_and_json(tmp_path: Path, verifier: SandboxVerifier) -> None:
    long = chain("l" * 500, 2)
    settings = config(tmp_path / "labels.jsonl")
    with LabelStore(settings.output, label_settings(settings, [long.problem, PROBLEMS[0]])) as store:
        policy = SimulatedPolicy([long, *TASKS], max_prompt=300)
        summary = run_labeling([long.problem, PROBLEMS[0]], None, policy, verifier, store, settings)
    content = json.loads(json.dumps(summary.as_json(), allow_nan=False))
    assert content["skipped"] == {"the prompt fills the policy's context": 2}
    assert sum(content["responses"].values()) == content["new_rows"] == 2
    table = summary.as_table()
    assert "skipped" in table and "fills the policy's context" in table
    for word in ("problems", "responses", "labels", "completions", "executions", "correct", "revised", "wrong"):
        assert word in table
