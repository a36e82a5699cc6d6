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
"""Fixtures of the integration tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from warm_stack import run_script

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two tests run at a time, each with servers of its own
HAND_PROBLEM = {
    "problem_id": "one",
    "prompt": "#c\n",
    "tests": [{"kind": "stdio", "stdin": "", "stdout": "1\n"}],
}
# a quarter of the lines are comments in each step
HAND_RULES = "- {metric: comment_share, above: 0.2, steps: 3, action: lower_lambda, factor: 0.5}\n"


@pytest.fixture(scope="session")
def tiny_policy_nemo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Megatron GPT policy with random weights, see `make_tiny_policy.py`; once per session.

    `other.nemo` beside it has other weights.
    """
    path = tmp_path_factory.mktemp("tiny_policy") / "policy.nemo"
    script = Path(__file__).with_name("make_tiny_policy.py")
    run_script(str(script), str(path), str(path.with_name("other.nemo")))
    return path


@pytest.fixture(scope="session")
def hand_rollout_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with policy.nemo, prm.nemo and critic.nemo of known outputs, a problem, a rule: `hand_rollout.py`."""
    folder = tmp_path_factory.mktemp("hand_rollout")
    driver = Path(__file__).with_name("hand_rollout.py")
    run_script(str(driver), "craft", str(folder))
    (folder / "problems.jsonl").write_text(json.dumps(HAND_PROBLEM) + "\n")
    chat = {"problem_id": "chat", "prompt": "#c\n#c\n", "outcome": "reward_model"}
    (folder / "mixed.jsonl").write_text(json.dumps(HAND_PROBLEM) + "\n" + json.dumps(chat) + "\n")
    (folder / "rules.yaml").write_text(HAND_RULES)
    return folder
