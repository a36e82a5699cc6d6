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
"""A fixed set of worker threads, fed fairly: callers take turns, however many programs each has queued."""

from __future__ import annotations

import collections
import contextlib
import os
import threading
from concurrent.futures import CancelledError, Future
from typing import Callable, Generic, Hashable, Iterator, Protocol, Sequence, TypeVar, cast

Result = TypeVar("Result")


class Resource(Protocol):
    """What a worker thread owns."""

    def cancel(self) -> None:
        """End what runs now; called from other threads."""
        ...

    def close(self) -> None: ...


Owned = TypeVar("Owned", bound=Resource)


class Job(Future[Result], Generic[Owned, Result]):
    """A future whose `cancel` also ends work that has begun."""

    def __init__(self, work: Callable[[Owned, Callable[[], bool]], Result]) -> None:
        super().__init__()
        self._work = work
        self._lock = threading.Lock()
        self._resource: Owned | None = None
        self._unwanted = self._finished = False

    def unwanted(self) -> bool:
        """Whether it was cancelled after it had begun; long work asks from time to time."""
        return self._unwanted

    def cancel(self) -> bool:
        """Drop the work, or end it if it has begun; False when it is done already."""
        if super().cancel():
            return True
        with self._lock:
            if not self._finished:
                self._unwanted = True
                if self._resource is not None:
                    self._resource.cancel()
            return self._unwanted

    def perform(self, resource: Owned) -> None:
        """Do the work on a worker's thread; nothing but a result or an exception comes of it."""
        if not self.set_running_or_notify_cancel():
            return
        with self._lock:
            self._resource = resource
        result: Result | None = None
        failure: BaseException | None = None
        try:
            result = self._work(resource, self.unwanted)
        except BaseException as error:
            failure = error
        with self._lock:
            self._resource, self._finished = None, True
        if self._unwanted or failure is not None:
            self.set_exception(CancelledError() if self._unwanted else failure)
        else:
            self.set_result(cast(Result, result))


class FairPool(Generic[Owned, Result]):
    """Worker threads, each with a resource of its own; jobs of one caller in order, callers round robin."""

    def __init__(self, resources: Sequence[Owned]) -> None:
        self._queues: collections.OrderedDict[Hashable, collections.deque[Job[Owned, Result]]] = (
            collections.OrderedDict()
        )
        self._changed = threading.Condition()
        self._running: set[Job[Owned, Result]] = set()
        self._busy = 0  # of the running ones, those that do not wait to be alone
        self._alone = False
        self._want_alone = 0
        self._pid = os.getpid()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, args=(resource,), name=f"sandbox-{i}", daemon=True)
            for i, resource in enumerate(resources)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, caller: Hashable, work: Callable[[Owned, Callable[[], bool]], Result]) -> Job[Owned, Result]:
        """Queue work behind what `caller` has queued; raises RuntimeError when the pool is closed."""
        job: Job[Owned, Result] = Job(work)
        with self._changed:
            if self._closed:
                raise RuntimeError("the sandbox is closed")
            self._queues.setdefault(caller, collections.deque()).append(job)
            self._changed.notify()
        return job

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Inside a job: wait until no other job runs, and let none start meanwhile."""
        with self._changed:
            self._busy -= 1
            self._want_alone += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._alone and self._busy == 0)
            self._want_alone -= 1
            self._alone, self._busy = True, 1
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    def close(self) -> None:
        """Drop what is queued, end what runs, and close the resources; nothing in a process forked from ours."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            self._closed = True
            waiting = [job for queue in self._queues.values() for job in queue]
            self._queues.clear()
            running = list(self._running)
            self._changed.notify_all()
        for job in waiting + running:
            job.cancel()
        for thread in self._threads:
            thread.join()

    def _serve(self, resource: Owned) -> None:
        while (job := self._take()) is not None:
            try:
                job.perform(resource)
            finally:
                self._done(job)
        resource.close()

    def _take(self) -> Job[Owned, Result] | None:
        """Wait for the next job whose turn it is; None when the pool is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._may_start())
            if self._closed:
                return None
            caller, queue = next(iter(self._queues.items()))
            job = queue.popleft()
            if queue:
                self._queues.move_to_end(caller)
            else:
                del self._queues[caller]
            self._running.add(job)
            self._busy += 1
            return job

    def _may_start(self) -> bool:
        return bool(self._queues) and not self._alone and not self._want_alone

    def _done(self, job: Job[Owned, Result]) -> None:
        with self._changed:
            self._running.discard(job)
            self._busy -= 1
            if self._busy == 0:
                self._changed.notify_all()
