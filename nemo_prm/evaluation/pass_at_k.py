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
"""The unbiased estimator of pass@k, its mean over problems, and a bootstrap interval over problems.

pass@k = 1 - C(n-c, k) / C(n, k), Chen et al., "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374).
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple, Sequence


class Counts(NamedTuple):
    """Samples of one problem whose verdict is known, and how many of them passed."""

    num_samples: int
    num_passed: int


class Estimate(NamedTuple):
    """A mean over problems with its 95 % bootstrap interval; NaN where no problem has enough samples."""

    mean: float
    low: float
    high: float
    num_problems: int  # that entered the mean


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """Probability that at least one of `k` samples, drawn without replacement, passes.

    Args:
        num_samples: n, samples with a known verdict (an `infra_error` is unknown, so it is not in n).
        num_passed: c, those that passed.
        k: at least 1.

    Returns:
        1 - C(n-c, k) / C(n, k), correctly rounded; NaN where n < k.
    """
    if not 0 <= num_passed <= num_samples or k < 1:
        raise ValueError(f"pass@k of num_samples={num_samples}, num_passed={num_passed}, k={k}")
    if num_samples < k:
        return math.nan
    total = math.comb(num_samples, k)
    return (total - math.comb(num_samples - num_passed, k)) / total  # integers of any size: one rounding


def estimate(counts: Sequence[Counts], k: int, seed: int, resamples: int = 1000) -> Estimate:
    """Mean pass@k over problems, each weighing the same, and its interval.

    Args:
        counts: one entry a problem.
        k: at least 1.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        The estimate; problems with fewer than `k` known samples are left out of it.
    """
    values = [value for value in (pass_at_k(*entry, k) for entry in counts) if not math.isnan(value)]
    if not values:
        return Estimate(math.nan, math.nan, math.nan, 0)
    low, high = bootstrap_interval(values, seed, resamples)
    return Estimate(math.fsum(values) / len(values), low, high, len(values))


def bootstrap_interval(
    values: Sequence[float], seed: int, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (nearest rank)."""
    rng = random.Random(seed)
    size = len(values)
    means = sorted(math.fsum(rng.choices(values, k=size)) / size for _ in range(resamples))
    tail = (1.0 - level) / 2.0
    return means[math.floor(tail * resamples)], means[math.ceil((1.0 - tail) * resamples) - 1]
