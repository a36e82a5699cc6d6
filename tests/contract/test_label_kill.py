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
"""scripts/label.py is killed, interrupted and resumed: nothing is lost, nothing is double, nothing is paid twice."""

from __future__ import annotations

import itertools
import random
import signal
import time
from pathlib import Path
from typing import Iterator

import pytest
from endpoint import Endpoint
from labeling_job import at, cached, policy_of, problems, rows, served, summary, wait_for_requests
from simulated_policy import chain
from warm_script import Run, WarmScript

TASKS = [chain(f"t{i}", 6) for i in range(10)]
RESPONSES = 4 * len(TASKS)
IN_FLIGHT = 4
SIZES = ["responses_per_prompt=4", "completions=8", "audit_share=0.25", f"generator.requests_in_flight={IN_FLIGHT}"]
KILLS = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kill")


@pytest.fixture(scope="module")
def label(folder: Path) -> Iterator[WarmScript]:
    with WarmScript("label", folder) as script:
        yield script


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(policy=policy_of(TASKS, slowest_s=0.02)) as running:
        yield running


class Job:
    """A job, and what it is to end at: the rows and the completions of an undisturbed one."""

    def __init__(self, label: WarmScript, folder: Path, seed: int) -> None:
        self._label, self._folder, self.seed = label, folder, seed
        with Endpoint(policy=policy_of(TASKS)) as endpoint:
            run = self.start(endpoint, folder / f"undisturbed-{seed}.jsonl")
            assert run.wait() == 0, run.text()
        self.rows = rows(folder / f"undisturbed-{seed}.jsonl")
        self.completions = served(endpoint.requests, seed)
        assert len(self.rows) == RESPONSES and set(self.completions.values()) == {1}

    def start(self, endpoint: Endpoint, store: Path) -> Run:
        settings = [problems(self._folder, TASKS), *SIZES, *at(endpoint), f"seed={self.seed}"]
        return self._label.start(*settings, f"output={store}")

    def check(self, store: Path) -> None:
        """All rows, none twice, and no completion in the cache that the undisturbed job has not."""
        assert rows(store) == self.rows
        assert cached(store) == set(self.completions)


@pytest.fixture(scope="module")
def job(label: WarmScript, folder: Path) -> Job:
    return Job(label, folder, 1)


def test_fifty_kills_lose_nothing_and_pay_for_nothing_twice(
    label: WarmScript, job: Job, endpoint: Endpoint, tmp_path: Path
) -> None:
    rng = random.Random(7)
    kills = 0
    for seed in itertools.count(1):  # one job after the other, until there were kills enough
        if seed > 1:
            job = Job(label, tmp_path, seed)
        store, killed_before = tmp_path / f"labels-{seed}.jsonl", kills
        endpoint.requests.clear()
        while True:
            paid, asked_before = cached(store), len(endpoint.requests)
            run = job.start(endpoint, store)
            if kills < KILLS:
                wait_for_requests(endpoint, asked_before + rng.randint(0, 12), run)
                time.sleep(rng.uniform(0, 0.05))
                run.send(signal.SIGKILL)
            code = run.wait()
            assert label.left_behind() == []
            assert not paid & set(served(endpoint.requests[asked_before:], seed)), "what was paid for is asked again"
            if code == 0:
                break
            assert code == -signal.SIGKILL, run.text()
            kills += 1
        job.check(store)
        again = served(endpoint.requests, seed) - job.completions
        most = max(request["n"] for request in endpoint.requests)
        assert again.total() <= (kills - killed_before) * IN_FLIGHT * most
        if kills == KILLS:
            break


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_what_is_in_flight_and_a_second_one_ends_at_once(
    label: WarmScript, job: Job, endpoint: Endpoint, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    store = tmp_path / "labels.jsonl"
    endpoint.delay_s = 0.2
    run = job.start(endpoint, store)
    wait_for_requests(endpoint, 30, run)
    run.send(number)
    assert run.wait(20) == code, run.text()
    assert "what is in flight is finished and saved; once more ends it at once" in run.text()
    assert endpoint.aborted == 0 and cached(store) == set(served(endpoint.requests, 1))
    found = summary(store)
    assert (found["interrupted"], found["asked"], found["skipped"]) == (True, RESPONSES, {})
    assert found["missing"] == RESPONSES - len(rows(store)) > 0
    assert found["paid"]["completions"] == len(cached(store))
    assert label.left_behind() == []

    paid, endpoint.delay_s = cached(store), 60.0
    run, asked_before = job.start(endpoint, store), len(endpoint.requests)
    wait_for_requests(endpoint, asked_before + 1, run)
    run.send(number)
    while "once more ends it at once" not in run.text():
        assert run.running(0.01)
    run.send(number)
    assert run.wait(5) == -number
    assert label.left_behind() == []

    endpoint.delay_s, asked_before = 0.0, len(endpoint.requests)
    assert job.start(endpoint, store).wait() == 0
    assert not paid & set(served(endpoint.requests[asked_before:], 1))
    job.check(store)
    assert summary(store)["interrupted"] is False
