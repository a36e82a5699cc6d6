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
"""Several stages at a time: order, at most so many, and what a failure costs."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Sequence

import pytest

from nemo_prm.errors import StageError
from nemo_prm.pipeline.console import Console
from nemo_prm.pipeline.stage import Stage
from nemo_prm.processes import Children
from nemo_prm.study.schedule import run_stages

WORKER = """
import json, sys, time
log, name, seconds, code = sys.argv[1:]
print("worker of", name, flush=True)
with open(log, "a") as file: print(json.dumps([name, "start", time.time()]), file=file, flush=True)
time.sleep(float(seconds))
with open(log, "a") as file: print(json.dumps([name, "end", time.time()]), file=file, flush=True)
sys.exit(int(code))
"""


def stage(name: str, *after: str) -> Stage:
    return Stage(name, name, "label", {}, (), after=after)


def run(
    tmp_path: Path, stages: Sequence[Stage], jobs: int, failing: Sequence[str] = ()
) -> tuple[list[list[object]], list[str], str]:
    done: list[str] = []
    log, stream, message = tmp_path / "log", io.StringIO(), ""
    with Children(tmp_path / "logs") as children:
        try:
            run_stages(
                stages,
                lambda s: [sys.executable, "-c", WORKER, str(log), s.name, "2", str(int(s.name in failing))],
                children,
                Console(stream),
                jobs,
                lambda s: done.append(s.name),
            )
        except StageError as error:
            message = str(error)
    return [json.loads(line) for line in log.read_text().splitlines()], done, message


def test_a_stage_waits_for_those_that_it_needs_and_others_run_beside_it(tmp_path: Path) -> None:
    stages = [stage("a"), stage("b"), stage("c", "a", "b"), stage("d")]
    events, done, message = run(tmp_path, stages, jobs=2)
    assert message == "" and sorted(done) == ["a", "b", "c", "d"]
    at = {(name, what): when for name, what, when in events}
    assert at["c", "start"] > max(at["a", "end"], at["b", "end"])  # type: ignore[type-var]
    running = most = 0
    for _, what, _ in events:
        running += 1 if what == "start" else -1
        most = max(most, running)
    assert most == 2


def test_a_failure_costs_those_that_need_it_alone(tmp_path: Path) -> None:
    stages = [stage("a"), stage("b", "a"), stage("c", "b"), stage("d"), stage("e", "d")]
    events, done, message = run(tmp_path, stages, jobs=1, failing=["a"])
    assert done == ["d", "e"]
    assert {name for name, *_ in events} == {"a", "d", "e"}
    assert "study.a ended with exit code 1" in message
    assert "worker of a" in message
    assert str(tmp_path / "logs/study.a.log") in message
    assert message.endswith("2 stages that need them were not run")


def test_nothing_to_run_is_no_error(tmp_path: Path) -> None:
    with Children(tmp_path / "logs") as children:
        run_stages([], lambda s: pytest.fail("nothing is to be started"), children, Console(io.StringIO()), 1)
