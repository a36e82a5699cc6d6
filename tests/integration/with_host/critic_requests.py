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
"""What the critic does with a request that comes twice; test_critic_server.py has the real one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nemo_prm.megatron import compat
from nemo_prm.serving.wire import REQUEST_ID

compat.apply()

from nemo_prm.serving.critic import CriticServer  # noqa: E402


def test_a_request_that_failed_halfway_fails_again_and_is_not_acted_upon_again() -> None:
    server: Any = SimpleNamespace(session=0, answered={})
    acted = []

    def act(requests: list[Any]) -> Any:
        acted.append(requests)
        raise MemoryError("in the second global batch")

    def ask(number: int) -> Any:
        return CriticServer._once(
            server, "critic_train", act, [SimpleNamespace(data={REQUEST_ID: np.array([number])})]
        )

    for _ in range(3):
        with pytest.raises(MemoryError, match="in the second global batch"):
            ask(7)
    assert len(acted) == 1
    with pytest.raises(MemoryError):
        ask(8)
    assert len(acted) == 2
