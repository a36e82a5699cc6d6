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
"""Which completions share a forward pass."""

from __future__ import annotations

from typing import NamedTuple, Sequence

LENGTH_SPREAD = 16  # prompts of one batch differ by at most this many tokens: longer ones are fed token by token


class Unit(NamedTuple):
    """Completions `first` to `first + rows - 1` of the prompt number `prompt`."""

    prompt: int
    first: int
    rows: int


def plan_batches(prompts: Sequence[tuple[int, int]], n: int, max_batch: int) -> list[list[Unit]]:
    """Put completions into batches of at most `max_batch` rows whose prompts have nearly equal lengths.

    Args:
        prompts: number and length in tokens of each prompt.
        n: completions per prompt; more than `max_batch` are spread over batches.
        max_batch: rows.
    """
    batches: list[list[Unit]] = []
    rows, shortest = max_batch, 0
    for prompt, length in sorted(prompts, key=lambda item: (item[1], item[0])):
        first = 0
        while first < n:
            count = min(n - first, max_batch)
            # a prompt is split over batches only where it fills them: its prefill would be repeated
            if rows + count > max_batch or length - shortest > LENGTH_SPREAD:
                batches.append([])
                rows, shortest = 0, length
            batches[-1].append(Unit(prompt, first, count))
            rows, first = rows + count, first + count
    return batches
