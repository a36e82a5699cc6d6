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

import random

from nemo_prm.megatron.batching import LENGTH_SPREAD, Unit, plan_batches


def test_prompts_of_near_equal_length_fill_a_batch() -> None:
    prompts = [(0, 30), (1, 10), (2, 31), (3, 12)]
    assert plan_batches(prompts, n=4, max_batch=8) == [[Unit(1, 0, 4), Unit(3, 0, 4)], [Unit(0, 0, 4), Unit(2, 0, 4)]]


def test_prompts_of_other_lengths_do_not() -> None:
    prompts = [(0, 10), (1, 10 + LENGTH_SPREAD), (2, 11 + LENGTH_SPREAD)]
    assert plan_batches(prompts, n=1, max_batch=8) == [[Unit(0, 0, 1), Unit(1, 0, 1)], [Unit(2, 0, 1)]]


def test_more_completions_than_rows_are_spread() -> None:
    assert plan_batches([(0, 5)], n=7, max_batch=3) == [[Unit(0, 0, 3)], [Unit(0, 3, 3)], [Unit(0, 6, 1)]]


def test_no_prompt_no_batch() -> None:
    assert plan_batches([], n=3, max_batch=4) == []


def test_every_completion_is_planned_once_within_the_limits() -> None:
    rng = random.Random(0)
    for _ in range(200):
        n, max_batch = rng.randint(1, 20), rng.randint(1, 16)
        lengths = {i: rng.randint(1, 80) for i in range(rng.randint(0, 12))}
        batches = plan_batches(list(lengths.items()), n, max_batch)
        planned = [(u.prompt, u.first + k) for batch in batches for u in batch for k in range(u.rows)]
        assert sorted(planned) == [(i, j) for i in lengths for j in range(n)]
        for batch in batches:
            assert 0 < sum(unit.rows for unit in batch) <= max_batch
            spread = [lengths[unit.prompt] for unit in batch]
            assert max(spread) - min(spread) <= LENGTH_SPREAD
