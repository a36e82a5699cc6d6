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
"""scripts/label.py with a policy behind an endpoint: audits, the sequential mode, several checkpoints."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Iterator

import pytest
from endpoint import Answer, Endpoint
from labeling_job import Request, at, policy_of, problems, rows, summary
from simulated_policy import chain
from warm_script import Run, WarmScript

TASKS = [chain(f"t{i}", 6, error_rate=0.2) for i in range(12)]


@pytest.fixture(scope="module")
def label(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmScript]:
    with WarmScript("label", tmp_path_factory.mktemp("label")) as script:
        yield script


def run(label: WarmScript, endpoint: Endpoint, store: Path, *overrides: str) -> Run:
    settings = [
        problems(store.parent, TASKS),
        *at(endpoint),
        f"output={store}",
        "responses_per_prompt=4",
        "completions=10",
    ]
    return label.start(*settings, *overrides)


def violations(audit: list[list[int]]) -> int:
    """Prefixes that no completion finished, though one finished a longer prefix."""
    passed = [count for _, _, count in audit]
    return sum(count == 0 < max(passed[i:]) for i, count in enumerate(passed))


def test_an_audit_changes_no_label_and_says_how_far_the_sequential_mode_agrees(
    label: WarmScript, tmp_path: Path
) -> None:
    modes = {
        "exact": [],
        "audited": ["audit_share=0.5"],
        "sequential": ["audit_share=0.5", "sequential_epsilon=0.1"],
    }
    found, printed, labels = {}, {}, {}
    for name, overrides in modes.items():
        store = tmp_path / f"{name}.jsonl"
        with Endpoint(policy=policy_of(TASKS)) as endpoint:
            ended = run(label, endpoint, store, *overrides)
            assert ended.wait() == 0, ended.text()
        found[name], printed[name], labels[name] = summary(store), ended.text(), rows(store)
        served = sum(request["n"] for request in endpoint.requests)
        assert found[name]["paid"]["completions"] == served and f", for {served} completions, " in ended.text()
        assert (found[name]["asked"], found[name]["missing"], found[name]["new_rows"]) == (48, 0, 48)
    assert [row["labels"] for row in labels["audited"]] == [row["labels"] for row in labels["exact"]]
    assert found["exact"]["audit"] == {
        "responses": 0, "prefixes": 0, "violations": 0, "labels": 0, "agreement": None,
    }  # fmt: skip
    assert "audited" not in printed["exact"]
    failed = sum(row["response_class"] != "correct" for row in labels["audited"])
    for name in ("audited", "sequential"):
        audits = [row["audit"] for row in labels[name] if row["audit"]]
        assert 0.25 * failed < len(audits) < 0.75 * failed
        assert {drawn for audit in audits for _, drawn, _ in audit} == {10}
        audit = found[name]["audit"]
        assert (audit["responses"], audit["prefixes"]) == (len(audits), 8 * len(audits))  # head, six lines, tail
        assert audit["violations"] == sum(map(violations, audits))
        line = next(line for line in printed[name].splitlines() if line.startswith("audited"))
        assert f"{len(audits):>8}   {8 * len(audits)} prefixes, {audit['violations']} not completable" in line
        assert f"{audit['agreement']:.2%} of labels as by halving with all K" in line
        assert found[name]["paid"]["completions"] > found[name]["completions"]  # audits are in no row's cost
    assert found["audited"]["completions"] == found["exact"]["completions"]
    assert found["sequential"]["completions"] < 0.9 * found["exact"]["completions"]
    assert 0.9 < found["sequential"]["audit"]["agreement"] <= 1


def test_responses_are_labelled_with_several_models_in_turn(label: WarmScript, tmp_path: Path) -> None:
    weak, strong = (policy_of([chain(f"t{i}", 6, error_rate=rate) for i in range(12)]) for rate in (0.5, 0.05))

    def policy(request: Request) -> Answer:
        return (weak if request["model"] == "runs/step10.nemo" else strong)(request)

    store, job = tmp_path / "labels.jsonl", ["checkpoints=[runs/step10.nemo,step20]", "limit=5"]
    with Endpoint(policy=policy) as endpoint:
        endpoint.delay_s = 0.01
        ended = run(label, endpoint, store, *job)
        while not endpoint.requests or endpoint.requests[-1]["model"] != "step20":
            assert ended.running()
        ended.send(signal.SIGTERM)
        assert ended.wait() == 143, ended.text()
        assert summary(store)["missing"] == 40 - len(rows(store))
        endpoint.requests.clear()
        ended = run(label, endpoint, store, *job)
        assert ended.wait() == 0, ended.text()
    assert {request["model"] for request in endpoint.requests} == {"step20"}
    assert run(label, endpoint, store, *job).wait() == 0  # nothing to do, nobody there to ask
    names = [(row["checkpoint"], row["generator"]) for row in rows(store)]
    assert {name: names.count(name) for name in names} == {
        ("step10", "openai/runs/step10.nemo"): 20,
        ("step20", "openai/step20"): 20,
    }
    assert all(row["response_id"].startswith(f"{row['checkpoint']}-") for row in rows(store))
    correct = [row["checkpoint"] for row in rows(store) if row["response_class"] == "correct"]
    assert correct.count("step20") > 2 * correct.count("step10")
