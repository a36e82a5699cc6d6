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
"""Many coroutines ask one thing each; a blocking function answers them in batches, in threads of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Generic, Hashable, NamedTuple, Sequence, TypeVar

from nemo_prm.errors import RequestFailedError

ATTEMPTS = 3  # of a request that fails by itself
LINGER = 0.2  # of a call's duration


class Stopped(Exception):
    """The job is ending: nothing new is begun."""


Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")


class _Asked(NamedTuple):
    item: Hashable
    answer: asyncio.Future[object]
    since: float  # when it was asked, by the loop's clock
    attempt: int = 1


class Batcher(Generic[Item, Result]):
    """Batches what is asked at the same time; belongs to one event loop.

    A batch that is full goes as soon as one of the calls in flight is free. One that is not full waits until none is
    in flight, and a little longer (`LINGER` of a call's duration), as what is asked meanwhile can join it: otherwise
    the first of many answers would go off alone with the next question, and all others wait for it. Equal items are in
    a call once: a prompt that occurs twice in one would be given another stream of completions. A batch that fails as
    such (`RequestFailedError`) is halved until the item is found that it fails on; that one is tried `ATTEMPTS` times.
    """

    def __init__(
        self,
        call: Callable[[list[Item]], Sequence[Result]],
        max_batch: int,
        in_flight: int,
        group: Callable[[Item], Hashable] = lambda item: None,
    ) -> None:
        """
        Args:
            call: answers a batch, one result per item; runs in a thread.
            max_batch: items in one call.
            in_flight: calls at a time.
            group: only items of the same group share a call.
        """
        self._call, self._max_batch, self._in_flight, self._group = call, max_batch, in_flight, group
        self._waiting: dict[Hashable, deque[_Asked]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(in_flight, thread_name_prefix="batcher")
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._call_s = 0.0  # of the last call

    async def ask(self, item: Item) -> Result:
        """Return the answer to one item.

        Raises:
            Stopped: `stop` was called before it was sent.
            RequestFailedError: it failed by itself, `ATTEMPTS` times.
            Exception: whatever else the call raised.
        """
        if self._stopped:
            raise Stopped
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._put(_Asked(item, answer, asyncio.get_running_loop().time()))  # type: ignore[arg-type]
        return await answer

    def stop(self) -> None:
        """Send nothing more; calls in flight are answered."""
        self._stopped = True
        for queue in self._waiting.values():
            for asked in queue:
                if not asked.answer.done():
                    asked.answer.set_exception(Stopped())
        self._waiting.clear()

    def close(self) -> None:
        """Give the threads up, without waiting for a call that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _put(self, asked: _Asked) -> None:
        self._waiting.setdefault(self._group(asked.item), deque()).append(asked)  # type: ignore[arg-type]
        self._schedule()

    def _schedule(self, delay_s: float = 0.0) -> None:
        """Look for a batch then, and not before all that is ready to ask now has asked."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._dispatch)

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._running) < self._in_flight and (batch := self._next_batch(loop.time())):
            task = loop.create_task(self._answer(batch))
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._schedule()

    def _next_batch(self, now: float) -> list[_Asked]:
        """The first full group, else, when nothing is in flight, the group that waits longest."""
        full = [key for key, queue in self._waiting.items() if len(queue) >= self._max_batch]
        if not full and (self._running or not self._waiting):
            return []
        key = (full or list(self._waiting))[0]
        if not full and (early_s := self._waiting[key][0].since + LINGER * self._call_s - now) > 0:
            self._schedule(early_s)
            return []
        queue = self._waiting.pop(key)
        batch = [queue.popleft() for _ in range(min(len(queue), self._max_batch))]
        if queue:
            self._waiting[key] = queue  # behind the others
        return batch

    async def _answer(self, batch: list[_Asked]) -> None:
        items = list(dict.fromkeys(asked.item for asked in batch))
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            results = await loop.run_in_executor(self._threads, self._call, items)  # type: ignore[arg-type]
            self._call_s = loop.time() - started
            if len(results) != len(items):
                raise RequestFailedError(f"{len(items)} requests were given {len(results)} answers")
        except RequestFailedError as error:
            if self._stopped:
                self._fail(batch, Stopped())  # not tried often enough to be given up
            elif len(batch) > 1:
                middle = len(batch) // 2
                await self._answer(batch[:middle])
                await self._answer(batch[middle:])
            elif batch[0].attempt < ATTEMPTS:
                self._put(batch[0]._replace(attempt=batch[0].attempt + 1))
            else:
                self._fail(batch, error)
        except Exception as error:  # whatever it is, those who wait must hear of it
            self._fail(batch, error)
        else:
            answers = dict(zip(items, results))
            for asked in batch:
                if not asked.answer.done():
                    asked.answer.set_result(answers[asked.item])

    @staticmethod
    def _fail(batch: list[_Asked], error: Exception) -> None:
        for asked in batch:
            if not asked.answer.done():
                asked.answer.set_exception(error)
