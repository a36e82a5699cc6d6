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
"""Runs stages that depend on each other, several at a time, each by a worker process of its own."""

from __future__ import annotations

import time
from typing import Callable, Sequence

from nemo_prm.errors import StageError
from nemo_prm.pipeline.console import Console
from nemo_prm.pipeline.stage import Stage
from nemo_prm.processes import POLL_S, Child, Children, failure


def run_stages(
    stages: Sequence[Stage],
    command: Callable[[Stage], Sequence[str]],
    children: Children,
    console: Console,
    jobs: int,
    on_done: Callable[[Stage], None] = lambda stage: None,
) -> None:
    """Run all stages; a failed one costs those that need it, and the others go on.

    Args:
        stages: each after those that it needs; of those that can run, the first does.
        command: of the worker that runs a stage, or reuses it.
        children: starts the workers.
        console: where progress is shown.
        jobs: workers at a time.
        on_done: called with each stage that has ended well.

    Raises:
        StageError: what failed, when nothing more can be done.
    """
    waiting, done, failures = list(stages), set[str](), list[str]()
    running: list[tuple[Stage, Child, float]] = []
    while True:
        for stage, child, started in list(running):
            children.on_tick(child)
            if (code := child.exit_code()) is None:
                continue
            running.remove((stage, child, started))
            children.retire(child)
            position = f"{len(done) + 1}/{len(stages)} "
            if code:
                failures.append(failure(child))
                console.say(f"{stage.name} failed; the log of its worker is {child.log}")
                continue
            done.add(stage.name)
            console.say(f"{position}{stage.name}: done in {time.monotonic() - started:.0f} s")
            on_done(stage)
        while len(running) < jobs and (ready := [stage for stage in waiting if set(stage.after) <= done]):
            waiting.remove(ready[0])
            console.say(f"{ready[0].name}: {ready[0].title}")
            worker = children.start(f"study.{ready[0].name}", command(ready[0]))
            running.append((ready[0], worker, time.monotonic()))
        if not running:
            break
        time.sleep(POLL_S)
    if failures:
        left = f"\n{len(waiting)} stages that need them were not run" if waiting else ""
        raise StageError("\n".join(failures) + left)
