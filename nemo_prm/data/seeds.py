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
"""Seeds of prompts: the same for the policy's client and for a policy in this process."""

from __future__ import annotations

import hashlib
from typing import Sequence


def occurrence_seeds(prompts: Sequence[str], seed: int) -> list[int]:
    """One seed per prompt: `seed`, and another for each repetition of the same prompt.

    A completion depends on its prompt, its seed and its number alone, so a call may be cut into requests at will;
    only a prompt that occurs twice would get the same completions twice.
    """
    seen: dict[str, int] = {}
    seeds = []
    for prompt in prompts:
        count = seen.get(prompt, 0)
        seen[prompt] = count + 1
        digest = hashlib.blake2b(f"{seed}/{count}".encode(), digest_size=8).digest()
        seeds.append(seed if count == 0 else int.from_bytes(digest, "little") >> 1)
    return seeds
