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
"""Many ask, few calls are made, everybody is answered."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Callable, Sequence

import pytest

from nemo_prm.errors import RequestFailedError
from nemo_prm.labeling.batcher import ATTEMPTS, Batcher, Stopped


class Service:
    """Doubles numbers, `seconds` a call, and remembers its calls."""

    def __init__(self, seconds: float = 0.0, fails: Callable[[int], bool] = lambda item: False) -> None:
        self.seconds, self.fails = seconds, fails
        self.calls: list[list[int]] = []
        self.most_at_a_time = self._at_a_time = 0
        self._lock = threading.Lock()

    def __call__(self, items: list[int]) -> Sequence[int]:
        with self._lock:
            self.calls.append(items)
            self._at_a_time += 1
            self.most_at_a_time = max(self.most_at_a_time, self._at_a_time)
        time.sleep(self.seconds)
        with self._lock:
            self._at_a_time -= 1
        if any(map(self.fails, items)):
            raise RequestFailedError("HTTP 500")
        return [2 * item for item in items]


def ask_all(service: Service, items: Sequence[int], max_batch: int = 8, in_flight: int = 2, **keys: Any) -> list[Any]:
    async def main() -> list[Any]:
        batcher = Batcher(service, max_batch, in_flight, **keys)
        try:
            return await asyncio.gather(*map(batcher.ask, items), return_exceptions=True)
        finally:
            batcher.close()

    return asyncio.run(asyncio.wait_for(main(), 30))


def test_equal_items_are_sent_once() -> None:
    """As waves of one prompt can be when an audit and a search ask about it at the same time."""
    service = Service()
    assert ask_all(service, [3, 3, 5]) == [6, 6, 10]
    assert service.calls == [[3, 5]]


def test_what_is_asked_together_is_sent_together() -> None:
    service = Service()
    assert ask_all(service, range(20)) == [2 * i for i in range(20)]
    assert sorted(map(len, service.calls)) == [4, 8, 8]


def test_groups_do_not_mix() -> None:
    service = Service()
    assert ask_all(service, range(9), group=lambda item: item % 3) == [2 * i for i in range(9)]
    assert sorted(service.calls) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize("in_flight", [1, 3])
def test_no_more_calls_than_allowed(in_flight: int) -> None:
    service = Service(0.02)
    ask_all(service, range(40), max_batch=4, in_flight=in_flight)
    assert service.most_at_a_time == in_flight


def test_a_stream_of_questions_fills_its_batches() -> None:
    """64 coroutines that ask again a few milliseconds after each answer: not 1, 63, 1, 63 at a time."""
    service = Service(0.25)

    async def main() -> None:
        batcher = Batcher(service, 64, 2)

        async def asker(number: int) -> None:
            for _ in range(5):
                await batcher.ask(number)
                await asyncio.sleep(0.0001 * number)

        await asyncio.gather(*map(asker, range(64)))
        batcher.close()

    asyncio.run(main())
    assert len(service.calls) <= 8


def test_the_item_that_fails_is_found_and_the_rest_answered() -> None:
    service = Service(fails=lambda item: item == 5)
    answers = ask_all(service, range(8))
    assert [answer for answer in answers if not isinstance(answer, Exception)] == [0, 2, 4, 6, 8, 12, 14]
    assert isinstance(answers[5], RequestFailedError)
    assert service.calls.count([5]) == ATTEMPTS


def test_a_failure_that_passes_is_no_failure() -> None:
    service = Service(fails=lambda item: len(service.calls) < 4)
    assert ask_all(service, range(3)) == [0, 2, 4]


def test_other_errors_reach_all_who_wait() -> None:
    def broken(items: list[int]) -> list[int]:
        raise OSError("gone")

    answers = ask_all(broken, range(3))  # type: ignore[arg-type]
    assert [str(answer) for answer in answers] == ["gone"] * 3
    assert [type(a) for a in ask_all(lambda items: items[1:], range(3))] == [RequestFailedError] * 3  # type: ignore[arg-type]


def test_after_stop_what_is_in_flight_is_answered_and_nothing_else_begun() -> None:
    service = Service(0.1)

    async def main() -> list[Any]:
        batcher = Batcher(service, 4, 1)
        asked = [asyncio.create_task(batcher.ask(i)) for i in range(10)]
        await asyncio.sleep(0.05)
        batcher.stop()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(Stopped):
            await batcher.ask(11)
        batcher.close()
        return answers

    answers = asyncio.run(main())
    assert answers[:4] == [0, 2, 4, 6] and all(isinstance(answer, Stopped) for answer in answers[4:])
    assert service.calls == [[0, 1, 2, 3]]


def test_what_fails_after_stop_is_left_for_a_rerun() -> None:
    service = Service(0.1, fails=lambda item: True)

    async def main() -> list[Any]:
        batcher = Batcher(service, 4, 1)
        asked = [asyncio.create_task(batcher.ask(i)) for i in range(4)]
        await asyncio.sleep(0.05)
        batcher.stop()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        batcher.close()
        return answers

    assert [type(answer) for answer in asyncio.run(main())] == [Stopped] * 4
    assert service.calls == [[0, 1, 2, 3]]
