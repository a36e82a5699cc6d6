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
"""GAE against hand-computed numbers and against the sum that defines it; `hand_rollout.py` has the host's loop."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from nemo_prm.rewards.advantages import advantages_and_returns  # noqa: E402


def test_two_rows_by_hand() -> None:
    # gamma 0.5, lambda 0.5. Row 0, backwards: delta 1 - 2 = -1; 0 + 1 - 1 = 0; A = -1, 0 - 0.25 = -0.25
    values = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    rewards = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])  # of row 1 the second token does not count: delta 0 and -4
    advantages, returns = advantages_and_returns(values, rewards, 0.5, 0.5, mask)
    assert advantages.tolist() == [[-0.25, -1.0], [-4.0, 0.0]]
    assert returns.tolist() == [[0.75, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("length", [0, 1, 2, 65])
def test_is_the_discounted_sum_of_the_errors(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    values, rewards = (torch.randn(3, length, generator=generator) for _ in range(2))
    advantages, returns = advantages_and_returns(values, rewards, 0.99, 0.95)
    v, r = (x.double().numpy() for x in (values, rewards))
    deltas = r + 0.99 * np.pad(v[:, 1:], ((0, 0), (0, 1 if length else 0)))[:, :length] - v
    expected = [
        [sum((0.99 * 0.95) ** (k - t) * row[k] for k in range(t, length)) for t in range(length)] for row in deltas
    ]
    np.testing.assert_allclose(advantages.numpy(), np.array(expected).reshape(3, length), atol=1e-5)
    assert torch.equal(returns, advantages + values)
    assert advantages.dtype == torch.float32
