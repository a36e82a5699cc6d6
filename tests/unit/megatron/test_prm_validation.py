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
"""Which model of a run is the best."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")
pytest.importorskip("nemo", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

from nemo_prm.megatron.prm_validation import _rank


def found(f1: float | None, auc: float | None = math.nan, mse: float | None = math.nan) -> dict[str, float | None]:
    return {"first_error_f1": f1, "auc": auc, "mse": mse}


def test_first_error_f1_decides_and_then_auc_and_then_the_error() -> None:
    worst_first = [
        found(None, None, None),
        found(math.nan, 0.6, 0.9),  # validation rows of one class, which have no F1
        found(math.nan, 0.7, 0.95),
        found(0.0, 0.5, 1.0),
        found(0.0, 0.8, 0.9),
        found(0.0, 0.8, 0.7),
        found(0.2, 0.1, 2.0),
    ]
    ranks = [_rank(each) for each in worst_first]
    assert ranks == sorted(ranks) and len(set(ranks)) == len(ranks)
    assert _rank({"first_error_f1": 0.2}) < _rank(found(0.2, 0.1, 2.0))  # of an earlier version
