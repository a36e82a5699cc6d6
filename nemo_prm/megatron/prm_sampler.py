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
"""Batches of rows of similar length, the same whatever the parallelism."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

import torch
from nemo.collections.nlp.data.language_modeling.megatron.megatron_batch_samplers import (
    MegatronPretrainingRandomBatchSampler,
)

WINDOW = 32  # global batches whose rows are sorted by length together


class LengthBucketSampler(MegatronPretrainingRandomBatchSampler):
    """Overrides `__iter__` alone: the host draws rows of any length, and another batch for each data-parallel size.

    An epoch is a permutation by seed and epoch. Within windows of it rows are sorted by length and cut into global
    batches, whose order is again random: a row meets others of its length, a different set in each epoch. Micro
    batches come longest first. Rows that fill no batch are left out, others in each epoch.
    """

    def __init__(self, lengths: Sequence[int], **arguments: Any) -> None:
        """
        Args:
            lengths: of the rows, in tokens.
            arguments: the host's, less `total_samples`.
        """
        super().__init__(total_samples=len(lengths), **arguments)
        self.lengths = lengths

    def __iter__(self) -> Iterator[list[int]]:
        """The rows of this rank for each global batch, from `consumed_samples` to the end of the epoch."""
        size = self._global_batch_size
        per_epoch = self.total_samples // size
        epoch, done = divmod(self.consumed_samples // size, per_epoch)
        for batch in self._batches(epoch)[done:]:
            self.consumed_samples += size
            step = self.micro_batch_times_data_parallel_size
            yield [
                row
                for start in range(0, size, step)
                for row in batch[start : start + step][self.data_parallel_rank :: self.data_parallel_size]
            ]

    def _batches(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + epoch)
        size = self._global_batch_size
        rows = torch.randperm(self.total_samples, generator=generator).tolist()
        rows = rows[: self.total_samples // size * size]
        batches: list[list[int]] = []
        for start in range(0, len(rows), WINDOW * size):
            window = sorted(rows[start : start + WINDOW * size], key=lambda row: -self.lengths[row])
            cut = [window[i : i + size] for i in range(0, len(window), size)]
            batches += [cut[i] for i in torch.randperm(len(cut), generator=generator).tolist()]
        return batches
