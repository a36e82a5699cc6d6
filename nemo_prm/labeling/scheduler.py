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
"""Hundreds of searches at once on one event loop: what may run, what must wait, and how it all ends."""

from __future__ import annotations

import asyncio
import bisect
from typing import Callable, Mapping, Sequence

from nemo_prm.config import GeneratorConfig, LabelConfig
from nemo_prm.errors import GeneratorError
from nemo_prm.labeling.batcher import Batcher, Stopped
from nemo_prm.labeling.cache import Cache
from nemo_prm.labeling.labeler import GIVEN, QUARANTINED, Key, Labeler, Outcome, Skipped, Work, check_config, resolve
from nemo_prm.labeling.oracle import Oracle, Spent
from nemo_prm.labeling.priors import Prior, Waves, learn
from nemo_prm.protocols import Generator, StepScorer, Verifier
from nemo_prm.types import LabelRow

FIRST_EPOCH, EPOCH = 32, 256  # responses: 32, 32, 64, 128, 256, and 256 from there on
REMEMBERED = 8  # epochs that a prior is learned from
MAX_QUARANTINED_IN_A_ROW = 20
SCORED_AT_ONCE = 64  # responses
CALLS_IN_FLIGHT = 2  # one is answered while the next one waits at the server


class Scheduler:
    """Labels lists of responses.

    `searches_in_flight` responses are worked on at a time, each a coroutine that waits for completions, verdicts and
    answers; that bounds what can wait at the policy and at the sandbox. Responses are begun in order. What is learned
    from rows counts by epochs of up to 256: a response is searched with what all epochs before the last one told, and
    waits for those to be complete. So questions and costs are the same however the work was scheduled, or resumed.
    """

    def __init__(
        self,
        generator: Generator,
        verifier: Verifier,
        config: LabelConfig,
        cache: Cache | None = None,
        scorer: StepScorer | None = None,
    ) -> None:
        """
        Args:
            generator: the policy.
            verifier: runs the programs.
            config: of the job.
            cache: of what was paid for; None keeps it in memory.
            scorer: a process reward model that sharpens the choice of questions.

        Raises:
            ConfigError: a value that cannot be.
        """
        config = resolve(config)
        check_config(config)
        self._generator, self._verifier, self._config, self._scorer = generator, verifier, config, scorer
        self._cache = Cache(None) if cache is None else cache
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin_stop: Callable[[], None] = lambda: None
        self.stopped = False
        self.paid = Spent()  # by this process; what the cache held costs nothing

    def run(
        self, work: Sequence[Work], completed: Mapping[Key, LabelRow], on_outcome: Callable[[Outcome], None]
    ) -> None:
        """Label what is not completed yet; returns when all is done or, after `stop`, saved.

        Args:
            work: responses, in an order that is the same each time.
            completed: rows that are there already.
            on_outcome: is given each outcome as soon as it is known, in this thread.

        Raises:
            GeneratorError: the policy is lost; what was in flight elsewhere has been saved.
        """
        if not self.stopped:
            asyncio.run(self._run(work, completed, on_outcome))

    def stop(self) -> None:
        """Begin nothing new: what is in flight at the policy and the sandbox is finished and kept. From any thread."""
        self.stopped = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_stop)

    async def _run(
        self, work: Sequence[Work], completed: Mapping[Key, LabelRow], on_outcome: Callable[[Outcome], None]
    ) -> None:
        config, sandbox = self._config, self._config.sandbox
        there = [completed[item.key] for item in work if item.key in completed]
        oracle = Oracle(
            self._generator,
            self._verifier,
            self._cache,
            config.checkpoint,
            config.sampling.as_params(),
            [*sandbox.limits().values(), sandbox.stop_at_first_failure],
            *calls_of(config.generator),
            policy=next((row.generator for row in there if row.generator != GIVEN), None),
            of_code=config.steps != "thoughts",
        )
        scorer = None if self._scorer is None else Batcher(_as_batch(self._scorer), SCORED_AT_ONCE, 1)
        job = _Job(Labeler(oracle, config, scorer), work, completed, on_outcome, config)

        def stop() -> None:
            oracle.stop()
            job.stop()
            if scorer is not None:
                scorer.stop()

        job.on_failure = stop
        self._loop, self._begin_stop, self.paid = asyncio.get_running_loop(), stop, oracle.paid
        try:
            if self.stopped:
                stop()
            await job.run()
        finally:
            self._loop = None
            oracle.close()
            if scorer is not None:
                scorer.close()


class _Job:
    """The coroutines of one run."""

    def __init__(
        self,
        labeler: Labeler,
        work: Sequence[Work],
        completed: Mapping[Key, LabelRow],
        on_outcome: Callable[[Outcome], None],
        config: LabelConfig,
    ) -> None:
        self.on_failure: Callable[[], None] = lambda: None
        self._labeler, self._work, self._on_outcome = labeler, work, on_outcome
        self._slots = asyncio.Semaphore(config.searches_in_flight)
        self._waves = Waves(config.first_wave, config.completions)
        self._draws_all = config.soft_labels
        self._learns = config.search == "cost_aware" or config.sequential_epsilon > 0
        self._starts = epoch_starts(len(work))
        self._rows: list[dict[int, LabelRow]] = [{} for _ in self._starts]  # by epoch, by number of the response
        self._open = [after - start for start, after in zip(self._starts, [*self._starts[1:], len(work)])]
        self._todo: list[int] = []
        self._changed = asyncio.Event()  # an epoch is complete, or the job is ending
        self._ending = False
        self._failure: Exception | None = None
        self._quarantined, self._last_detail = 0, ""  # in a row
        for index, item in enumerate(work):
            row = completed.get(item.key)
            if row is None:
                self._todo.append(index)
            else:
                self._close(index, row)

    def stop(self) -> None:
        self._ending = True
        self._changed.set()

    async def run(self) -> None:
        """Begin responses in order, and wait for all that were begun; raises the first failure."""
        tasks: set[asyncio.Task[None]] = set()
        epoch, prior = -1, learn((), self._waves)
        for index in self._todo:
            if self._epoch(index) != epoch:
                epoch = self._epoch(index)
                prior = await self._learn(epoch)
            await self._slots.acquire()
            if self._ending:
                break
            task = asyncio.get_running_loop().create_task(self._label(index, prior))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.wait(tasks)
        if self._failure is not None:
            raise self._failure
        if self._quarantined == len(self._work) > 0:
            raise GeneratorError(f"the policy failed on every response, the last time: {self._last_detail}")

    def _epoch(self, index: int) -> int:
        return bisect.bisect_right(self._starts, index) - 1

    async def _learn(self, epoch: int) -> Prior:
        """What all epochs before the last one tell, once they are complete; nothing where nothing depends on it."""
        known = max(epoch - 1, 0) if self._learns else 0
        while any(self._open[:known]) and not self._ending:
            self._changed.clear()
            await self._changed.wait()
        rows = {i: row for rows in self._rows[max(known - REMEMBERED, 0) : known] for i, row in rows.items()}
        in_order = [rows[i] for i in sorted(rows)]  # sums of floats depend on it
        return learn(in_order, self._waves, self._draws_all)

    async def _label(self, index: int, prior: Prior) -> None:
        try:
            outcome = await self._labeler.label(self._work[index], prior)
            self._on_outcome(outcome)
            self._close(index, outcome)
            self._count_quarantined(outcome)
        except Stopped:
            pass
        except Exception as error:  # raised by `run` when the others have ended
            if self._failure is None:
                self._failure = error
                self.on_failure()
        finally:
            self._slots.release()

    def _close(self, index: int, outcome: Outcome) -> None:
        epoch = self._epoch(index)
        if isinstance(outcome, LabelRow):
            self._rows[epoch][index] = outcome
        self._open[epoch] -= 1
        if self._open[epoch] == 0:
            self._changed.set()

    def _count_quarantined(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Skipped) or outcome.reason != QUARANTINED:
            self._quarantined = 0
            return
        self._quarantined, self._last_detail = self._quarantined + 1, outcome.detail
        if self._quarantined == MAX_QUARANTINED_IN_A_ROW:
            raise GeneratorError(
                f"the policy failed on {self._quarantined} responses in a row, the last time: {self._last_detail}"
            )


def calls_of(config: GeneratorConfig) -> tuple[int, int]:
    """Prompts in one call of the generator, and calls in flight.

    An endpoint that batches by itself is asked about one prompt at a time, so that no answer waits for another.
    """
    return (1, config.requests_in_flight) if config.kind == "openai" else (config.batch_size, CALLS_IN_FLIGHT)


def epoch_starts(num_responses: int) -> list[int]:
    """Where epochs begin: they grow, so that a small job learns, too, and a large one need not wait."""
    starts = [0]
    while (after := starts[-1] + min(max(starts[-1], FIRST_EPOCH), EPOCH)) < num_responses:
        starts.append(after)
    return starts


def _as_batch(scorer: StepScorer) -> Callable[[list[tuple[str, str]]], Sequence[list[float]]]:
    def score(pairs: list[tuple[str, str]]) -> list[list[float]]:
        return scorer.score_steps([prompt for prompt, _ in pairs], [response for _, response in pairs])

    return score
