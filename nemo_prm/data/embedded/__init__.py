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
"""The problems and the tiny policy that serve as defaults: generated data, and the code that generates it.

`scripts/make_embedded_problems.py` makes the three splits, `scripts/pretrain_policy.py` the policy with its tokenizer.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def split_path(split: str) -> Path:
    """The problem file of a split: "train", "validation" or "test"."""
    return _HERE / f"{split}.jsonl"


def policy_path() -> Path:
    """The embedded policy, a `.nemo` checkpoint."""
    return _HERE / "policy.nemo"


def thinking_policy_path() -> Path:
    """The embedded policy that writes thoughts before its program, a `.nemo` checkpoint."""
    return _HERE / "thinking_policy.nemo"


def resolve_policy(policy: str) -> Path:
    """What a config means by `policy`: "embedded", "embedded:thinking", or the path of a `.nemo` checkpoint."""
    named = {"embedded": policy_path(), "embedded:thinking": thinking_policy_path()}
    return named.get(policy, Path(policy))
