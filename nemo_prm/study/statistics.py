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
"""Means over seeds and their 95 % intervals: Student's t, since seeds are few."""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import NamedTuple, Sequence


class Mean(NamedTuple):
    """A mean and its interval, which is NaN to NaN with fewer than two values."""

    value: float
    low: float
    high: float
    num_values: int

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def mean(values: Sequence[float], level: float = 0.95) -> Mean:
    """The mean of independent values, and Student's interval for it; NaN is a value that is not known."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return Mean(math.nan, math.nan, math.nan, 0)
    value = fmean(values)
    if len(values) == 1:
        return Mean(value, math.nan, math.nan, 1)
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Mean(value, value - half, value + half, len(values))
