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
"""scripts/label.py while its policy misbehaves: right labels or one clear message, never a wrong label."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Iterator

import pytest
from endpoint import Answer, Endpoint, answer, refuse
from labeling_job import (
    Request,
    at,
    policy_of,
    problems,
    rows,
    summary,
    wait_for_requests,
)
from run_scripts import write
from simulated_policy import chain
from warm_script import Run, WarmScript

from nemo_prm.data.problems import problem_to_json
from nemo_prm.types import TestCase

TASKS = [chain(f"t{i}", 4) for i in range(8)]
SIZES = ["responses_per_prompt=4", "completions=4", "seed=1"]
POLICY = policy_of(TASKS)
PATIENCE = ["generator.timeout_s=20", "generator.reconnect_timeout_s=10"]
QUARANTINED = "the policy failed on it (quarantined)"


def garbage(request: Request) -> Answer | None:
    """Each prompt has its own kind."""
    kinds = (
        refuse(500, "Internal Server Error"),
        (200, {}, b"<html>hello</html>"),
        answer({"choices": [{"text": "", "finish_reason": "stop"}] * (request["n"] + 1)}),
        answer({"choices": [{"text": None, "finish_reason": "stop"}] * request["n"]}),
    )
    return kinds[sum(request["prompt"].encode()) % len(kinds)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def label(folder: Path) -> Iterator[WarmScript]:
    with WarmScript("label", folder) as script:
        yield script


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(policy=POLICY) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(label: WarmScript, folder: Path) -> list[dict[str, Any]]:
    """The rows of the job; every test of a fault must end at these."""
    with Endpoint(policy=POLICY) as running:
        run = start(label, running, folder / "undisturbed.jsonl")
        assert run.wait() == 0, run.text()
    found = rows(folder / "undisturbed.jsonl")
    assert len(found) == 4 * len(TASKS)
    assert set(Counter(row["response_class"] for row in found)) >= {"correct", "revised"}
    return found


def start(label: WarmScript, endpoint: Endpoint, store: Path, *overrides: str) -> Run:
    settings = [problems(store.parent, TASKS), *SIZES, *PATIENCE, *at(endpoint)]
    return label.start(*settings, f"output={store}", *overrides)


def name_of(row: dict[str, Any]) -> tuple[str, str]:
    return row["problem_id"], row["response_id"]


def the_error(run: Run) -> str:
    """The one message of a run that has ended with exit code 2."""
    assert run.wait() == 2, run.text()
    [message] = run.messages()
    assert message.startswith("error: "), run.text()
    return message


def test_responses_that_the_policy_fails_on_are_set_aside(
    label: WarmScript, endpoint: Endpoint, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "labels.jsonl"
    unanswered = re.compile(r"Task t[12]\.\n$|Task t5\.\n.")  # not sampled; sampled, but not completed
    endpoint.policy = lambda request: garbage(request) if unanswered.match(request["prompt"]) else POLICY(request)
    run = start(label, endpoint, store)
    assert run.wait() == 0, run.text()
    lost = [
        row
        for row in undisturbed
        if row["problem_id"] in ("t1", "t2") or (row["problem_id"] == "t5" and row["response_class"] != "correct")
    ]
    assert rows(store) == [row for row in undisturbed if row not in lost] and len(lost) > 8
    set_aside = [json.loads(line) for line in Path(f"{store}.skipped").read_text(encoding="utf-8").splitlines()]
    assert sorted(map(name_of, set_aside)) == sorted(map(name_of, lost))
    assert {s["reason"] for s in set_aside} == {QUARANTINED}
    details = {s["problem_id"]: s["detail"] for s in set_aside}
    assert all(f"no completions from policy at {endpoint.url}" in detail for detail in details.values())
    found = summary(store)
    assert (found["skipped"], found["missing"], found["interrupted"]) == ({QUARANTINED: len(lost)}, 0, False)
    assert f"{len(lost):>8}   {QUARANTINED}" in run.text()
    endpoint.policy = POLICY  # a rerun tries them again
    assert start(label, endpoint, store).wait() == 0
    assert rows(store) == undisturbed and summary(store)["skipped"] == {}


def test_a_policy_that_answers_nothing_but_garbage_ends_the_job(
    label: WarmScript, endpoint: Endpoint, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "labels.jsonl"
    endpoint.policy = lambda request: POLICY(request) if len(endpoint.requests) < 30 else garbage(request)
    message = the_error(start(label, endpoint, store))
    saved = rows(store)
    assert f"no completions from policy at {endpoint.url}" in message
    assert "the policy failed on 20 responses in a row, the last time: " in message
    assert message.endswith(f"({len(saved)} responses are labelled in {store}; the same command goes on from there)")
    assert saved == [row for row in undisturbed if row in saved]
    assert not Path(f"{store}.summary.json").exists()
    endpoint.policy = POLICY
    assert start(label, endpoint, store).wait() == 0
    assert rows(store) == undisturbed


def test_a_policy_that_refuses_everything_ends_even_a_small_job(
    label: WarmScript, endpoint: Endpoint, tmp_path: Path
) -> None:
    store = tmp_path / "labels.jsonl"
    endpoint.policy = lambda _: refuse(404, "The model `polcy` does not exist")
    message = the_error(start(label, endpoint, store, "limit=2", "responses_per_prompt=1"))
    assert "the policy failed on every response, the last time: " in message
    assert "The model `polcy` does not exist" in message


def test_a_policy_that_goes_away_and_comes_back_costs_only_time(
    label: WarmScript, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "labels.jsonl"
    with Endpoint(policy=POLICY) as first:
        first.delay_s = 0.02
        run = start(label, first, store)
        wait_for_requests(first, 25, run)
    assert run.running(0.3)
    with Endpoint(policy=POLICY, port=first.port) as second:
        assert run.wait() == 0, run.text()
    assert second.requests and rows(store) == undisturbed
    assert summary(store)["skipped"] == {}


def test_a_policy_that_is_too_slow_or_gone_ends_the_job_and_it_resumes(
    label: WarmScript, endpoint: Endpoint, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "labels.jsonl"
    run = start(label, endpoint, store, "generator.timeout_s=0.7")
    wait_for_requests(endpoint, 25, run)
    endpoint.delay_s = 2.0
    message = the_error(run)
    saved = rows(store)
    assert "timed out; it is busy or stuck, or generator.timeout_s = 0.7 is short" in message
    assert f"({len(saved)} responses are labelled in {store}" in message
    endpoint.delay_s = 0.0
    with Endpoint() as other:
        pass
    message = the_error(start(label, other, store, "generator.connect_timeout_s=0.3"))
    assert "is it running, and is generator.url right? (" in message
    assert f"({len(rows(store))} responses are labelled in {store}" in message
    assert start(label, endpoint, store).wait() == 0
    assert rows(store) == undisturbed
    assert label.left_behind() == []


def test_another_policy_under_the_same_name_is_refused(label: WarmScript, endpoint: Endpoint, tmp_path: Path) -> None:
    store = tmp_path / "labels.jsonl"
    assert start(label, endpoint, store, "limit=2").wait() == 0
    saved = store.read_text(encoding="utf-8")
    message = the_error(start(label, endpoint, store, "generator.model=newer"))
    assert "openai/newer answers under the name of checkpoint 'policy'" in message
    assert "what is there already is of openai/policy: serve that one" in message
    assert store.read_text(encoding="utf-8") == saved
    store.unlink()  # the cache remembers, too
    assert "openai/newer answers" in the_error(start(label, endpoint, store, "generator.model=newer", "limit=4"))


def test_a_verdict_that_is_unknown_is_no_label(
    label: WarmScript, endpoint: Endpoint, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """A test that breaks down on wrong answers: of what gave one, nothing is known."""
    store, task = tmp_path / "labels.jsonl", TASKS[0].problem
    call = f"candidate({task.tests[0].args[0]}) != {task.tests[0].expected}"
    code = f"def check(candidate):\n    if {call}:\n        candidate(lambda: 1)\n"  # which no program can be given
    broken = dataclasses.replace(task, tests=(TestCase("code", code=code),))
    write(tmp_path / "broken.jsonl", [problem_to_json(problem) for problem in (broken, TASKS[1].problem)])
    run = start(label, endpoint, store, f"problems={tmp_path / 'broken.jsonl'}")
    assert run.wait() == 0, run.text()
    known = [
        (row["response_id"], row["labels"])
        for row in undisturbed
        if row["problem_id"] == "t1" or (row["problem_id"] == "t0" and row["response_class"] == "correct")
    ]
    assert [(row["response_id"], row["labels"]) for row in rows(store)] == known and len(known) < 8
    assert summary(store)["skipped"] == {"the sandbox failed (infra_error)": 8 - len(known)}
