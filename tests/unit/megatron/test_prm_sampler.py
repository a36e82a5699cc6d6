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

from __future__ import annotations

import random

import pytest

pytest.importorskip("nemo", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

from nemo_prm.megatron.prm_sampler import LengthBucketSampler

LENGTHS = [random.Random(1).randint(20, 250) for _ in range(330)]


def sampler(rank: int = 0, ranks: int = 1, micro: int = 4, consumed: int = 0, seed: int = 1) -> LengthBucketSampler:
    return LengthBucketSampler(
        LENGTHS,
        consumed_samples=consumed,
        micro_batch_size=micro,
        global_batch_size=16,
        data_parallel_rank=rank,
        data_parallel_size=ranks,
        drop_last=True,
        seed=seed,
    )


def test_an_epoch_has_each_row_at_most_once_and_the_next_one_another_order() -> None:
    epochs = sampler()
    first, second = list(epochs), list(epochs)
    assert len(first) == len(second) == 330 // 16 and epochs.consumed_samples == 2 * 320
    for epoch in (first, second):
        rows = [row for batch in epoch for row in batch]
        assert len(set(rows)) == 320
    assert first != second
    assert list(sampler()) == first
    assert list(sampler(seed=2)) != first


def test_ranks_and_micro_batches_share_the_global_batches() -> None:
    whole = [sorted(batch) for batch in sampler()]
    for ranks, micro in ((2, 4), (4, 2), (1, 16), (2, 8)):
        parts = zip(*(sampler(rank, ranks, micro) for rank in range(ranks)))
        assert [sorted(row for part in parts_ for row in part) for parts_ in parts] == whole


@pytest.mark.parametrize("done", [1, 7, 19, 20, 33])
def test_a_resumed_epoch_goes_on_where_it_was(done: int) -> None:
    whole = sampler()
    batches = [*whole, *whole]
    resumed = sampler(consumed=16 * done)
    assert list(resumed) == batches[done : 20 if done < 20 else 40]


def test_little_of_a_micro_batch_is_padding() -> None:
    used = computed = 0
    for batch in sampler():
        for start in range(0, 16, 4):
            lengths = [LENGTHS[row] for row in batch[start : start + 4]]
            used, computed = used + sum(lengths), computed + 4 * max(lengths)
    assert 1 - used / computed < 0.1
