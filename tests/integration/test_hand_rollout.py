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
"""One hand-computed rollout, from tokens to advantages, through the real servers and the real PPO trainer.

The PRM scores 0.8 at a newline and -2 at EOS; the critic says 0.1 everywhere; the policy is its own reference, so the
KL term is zero; discount 1, GAE lambda 0.95. Two responses:

    failed   "x=1" "\n" "print(2)" "\n" "#c" EOS     3 lines, scores 0.8, 0.8, -2 (clamped to -1)
        rewards   0, 0.25 * 0.8 / 3, 0, 0.25 * 0.8 / 3, 0, 0.25 * -1 / 3 + 0
    passed   "print(1)" "\n" EOS                     1 line, score 0.8
        rewards   0, 0.025 * 0.8 / 1, 1

and, before the critic has learned anything, one rollout of every other kind (`MODES`).

PSGPO, arXiv 2410.17621, Eq. 3; GAE, arXiv 1506.02438, Eq. 16.
"""

from __future__ import annotations

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from conftest import HAND_PROBLEM
from servers import Server
from warm_stack import run_script

from nemo_prm.config import RewardClientConfig
from nemo_prm.processes import Children, free_ports
from nemo_prm.serving.client import RewardClient
from nemo_prm.serving.model_client import ModelClient
from nemo_prm.serving.wire import PRM

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

DRIVER = Path(__file__).with_name("hand_rollout.py")
STOCK_SERVER = DRIVER.parents[2] / "scripts/bench/reward_server.py"
# the first response token is at position 2 (two prompt tokens), so its action is column 1
FAILED_ADVANTAGES = [-0.0213682, -0.0224928, -0.0938521, -0.0987917, -0.1741667, -0.1833333]
PASSED_ADVANTAGES = [0.83125, 0.875, 0.9]
# a token of two newlines is scored 0.3, as every token but "\n" and EOS; a line that EOS ends is scored -2, cut to -1
MODES = {
    "failed": FAILED_ADVANTAGES,
    "passed": PASSED_ADVANTAGES,
    "empty": [-0.1],  # no line, no reward
    "no newline": [0.83125, 0.875],  # passed; its line ends at EOS: rewards 0, 1 - 0.025
    "comment only": [0.09975, 0.105, -0.1],  # failed; rewards 0, 0.25 * 0.8, 0
    "truncated": [0.095, 0.1],  # failed; rewards 0, 0.25 * 0.8
    # passed; rewards 0, 0.025 * 0.3 / 2, 0, 0.025 * 0.8 / 2, 1
    "several lines in one token": [0.7451919, 0.7844125, 0.82175, 0.865, 0.9],
    "not coding": [-1.995, -2.1],  # the reward model says -2; no line rewards
    "infra_error": [],
}


@pytest.fixture(scope="module")
def ports(hand_rollout_models: Path) -> Iterator[tuple[int, int, int]]:
    """The reward server, the critic server and the host's own reward server, started side by side."""
    commands = {
        "serve_reward": [f"checkpoint={hand_rollout_models / 'prm.nemo'}"],
        "serve_critic": [
            f"checkpoint={hand_rollout_models / 'critic.nemo'}",
            f"output={hand_rollout_models / 'critic'}",
            "model.micro_batch_size=1",
            "model.global_batch_size=2",
        ],
    }
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        starting = [
            pool.submit(Server, hand_rollout_models / f"{name}.log", f"scripts/{name}.py", "server.port=0", *arguments)
            for name, arguments in commands.items()
        ]
        [general] = free_ports(1)
        children = stack.enter_context(Children(hand_rollout_models, {"PYTHONPATH": str(DRIVER.parents[2])}))
        arguments = ["--child", "stock", str(hand_rollout_models / "prm.nemo"), str(general)]
        stock = children.start("stock", [sys.executable, str(STOCK_SERVER), *arguments])
        servers = [stack.enter_context(future.result()) for future in starting]
        children.wait_ready(stock, general, ["/v2/models/reward_model/ready"], timeout_s=120)
        yield servers[0].port, servers[1].port, general


def test_the_reward_server_says_what_its_rules_are(ports: tuple[int, int, int]) -> None:
    client = ModelClient(PRM, RewardClientConfig(url=f"http://127.0.0.1:{ports[0]}"))
    assert client.parameters().items() >= {"clamp": "1.0", "normalise": "true", "code_only": "true"}.items()


def test_the_reward_server_pays_every_line_once(ports: tuple[int, int, int]) -> None:
    with RewardClient(RewardClientConfig(url=f"http://127.0.0.1:{ports[0]}")) as client:
        scores = client.score_steps(["#c\n", "#c\n"], ["x=1\nprint(2)\n#c", "print(1)\n"])
    assert [len(row) for row in scores] == [3, 1]
    np.testing.assert_allclose(scores[0], [0.8, 0.8, -2.0], atol=1e-5)
    np.testing.assert_allclose(scores[1], [0.8], atol=1e-5)


@pytest.fixture(scope="module")
def modes(hand_rollout_models: Path, ports: tuple[int, int, int]) -> dict[str, Any]:
    """The data of one step with a rollout of every kind; nothing learns from it."""
    output = run_script(str(DRIVER), "modes", str(hand_rollout_models), *map(str, ports), "modes")
    [line] = [line for line in output.splitlines() if line.startswith("RECORDED ")]
    found: dict[str, Any] = json.loads(line.removeprefix("RECORDED "))
    return found


def test_rollouts_of_every_kind(modes: dict[str, Any]) -> None:
    found = []
    for advantages, returns, mask in zip(modes["advantages"], modes["returns"], modes["mask"]):
        counted = [column for column, value in enumerate(mask) if value]
        assert counted == list(range(1, 1 + len(counted)))
        np.testing.assert_allclose([returns[c] - advantages[c] for c in counted], [0.1] * len(counted), atol=1e-5)
        found.append([round(advantages[column], 5) for column in counted])
    expected = sorted([round(value, 5) for value in values] for values in MODES.values())
    assert len(found) == len(expected)
    for one, other in zip(sorted(found), expected):
        np.testing.assert_allclose(one, other, atol=5e-5)


def test_rewards_of_functions_are_paid_where_they_end(modes: dict[str, Any]) -> None:
    # none of the responses defines a function: each is one step, which ends where its last line does
    expected = {
        0: [0, 0, 0, 0, 0, 0, -0.25],  # failed, at EOS: -2, cut to -1
        1: [0, 0, 0.02, 1, 0, 0, 0],  # passed: 0.025 * 0.8
        2: [0] * 7,
        6: [0, 0, 0, 0, 0.02, 1, 0],  # the token of two newlines ends no step
        7: [0, 0, -2, 0, 0, 0, 0],  # not coding
        8: [-9] * 7,  # unknown
    }
    for row, rewards in expected.items():
        np.testing.assert_allclose(modes["moved"][row], rewards, atol=1e-5, err_msg=str(row))


def test_what_is_logged_of_rollouts_of_every_kind(modes: dict[str, Any]) -> None:
    metrics = modes["metrics"]
    # of nine one is unknown, one a reward model's; of the other seven three pass
    assert (metrics["unknown_outcomes"], metrics["general_reward"]) == (1, pytest.approx(-2, abs=1e-5))
    assert metrics["pass_rate"] == pytest.approx(3 / 7)
    assert modes["metrics"]["probe_drift"] != modes["metrics"]["probe_drift"]  # nothing to compare with yet: NaN
    assert modes["probe_drift"] == pytest.approx(0, abs=1e-6)
    durations = modes["durations"]
    asked = {"value", "verify", "score"}
    assert durations.keys() >= asked | {f"wait_{name}" for name in asked}
    assert all(durations[name] > 0 for name in asked)


@pytest.fixture(scope="module")
def steps(hand_rollout_models: Path, ports: tuple[int, int, int], modes: dict[str, Any]) -> list[dict[str, Any]]:
    """The data of three PPO steps; in the second one verdict is unknown, in the third both are."""
    output = run_script(str(DRIVER), "train", str(hand_rollout_models), *map(str, ports[:2]), "rl")
    assert "FINITE True" in output
    assert f"RESUMED AT {2**24 + 1} SAMPLES" in output and "GAE AS THE HOST'S True" in output
    return [json.loads(line.removeprefix("RECORDED ")) for line in output.splitlines() if line.startswith("RECORDED ")]


def test_from_tokens_to_advantages(steps: list[dict[str, Any]]) -> None:
    recorded = steps[0]
    # the host shuffles the rollouts of a step; the failed one has six counted actions
    failed, passed = sorted(range(2), key=lambda row: -sum(recorded["mask"][row]))
    assert recorded["mask"][failed] == [0, 1, 1, 1, 1, 1, 1]
    assert recorded["mask"][passed] == [0, 1, 1, 1, 0, 0, 0]
    np.testing.assert_allclose(recorded["values"][failed][1:], [0.1] * 6, atol=1e-5)
    np.testing.assert_allclose(recorded["advantages"][failed][1:], FAILED_ADVANTAGES, atol=2e-5)
    np.testing.assert_allclose(recorded["advantages"][passed][1:4], PASSED_ADVANTAGES, atol=2e-5)
    np.testing.assert_allclose(recorded["returns"][failed][1:], np.array(FAILED_ADVANTAGES) + 0.1, atol=2e-5)
    np.testing.assert_allclose(recorded["returns"][passed][1:4], np.array(PASSED_ADVANTAGES) + 0.1, atol=2e-5)
    metrics = recorded["metrics"]
    assert metrics["pass_rate"] == 0.5
    assert metrics["unknown_outcomes"] == 0
    assert metrics["lines_per_response"] == 2.0
    # sums of the two rows: 0.25 * (0.8 + 0.8 - 1) / 3 = 0.05 and 1 + 0.025 * 0.8 = 1.02
    assert metrics["rewards"] == pytest.approx((0.05 + 1.02) / 2, abs=1e-5)
    assert (metrics["comment_share"], metrics["newline_rate"], metrics["praised_failures"]) == (1 / 4, 3 / 9, 0)
    # line rewards 0.2 of the failed response and 0.8 of the passed one
    assert metrics["line_rewards"] == pytest.approx(0.5, abs=1e-5)
    assert metrics["score_outcome_correlation"] == pytest.approx(1, abs=1e-5)
    # the critic says 0.1 everywhere: a constant explains nothing
    assert metrics["explained_variance"] == pytest.approx(0, abs=1e-4)


def test_the_responses_of_a_step_can_be_read(hand_rollout_models: Path, steps: list[dict[str, Any]]) -> None:
    rows = [
        json.loads(line) for line in (hand_rollout_models / "rl/rollouts/step_000000.jsonl").read_text().splitlines()
    ]
    failed, passed = sorted(rows, key=lambda row: row["outcome"])
    assert [line["text"] for line in failed["lines"]] == ["x=1\n", "print(2)\n", "#c"]
    assert [line["kind"] for line in failed["lines"]] == ["code", "code", "comment"]
    for key, expected in (
        ("score", [0.8, 0.8, -2.0]),
        ("reward", [0.2 / 3, 0.2 / 3, -0.25 / 3]),
        ("advantage", FAILED_ADVANTAGES[1::2]),
    ):
        np.testing.assert_allclose([line[key] for line in failed["lines"]], expected, atol=2e-5)
    [line] = passed["lines"]
    assert (line["text"], passed["prompt"], passed["num_tokens"]) == ("print(1)\n", HAND_PROBLEM["prompt"], 3)
    second = [
        json.loads(line) for line in (hand_rollout_models / "rl/rollouts/step_000001.jsonl").read_text().splitlines()
    ]
    assert sorted((row["outcome"] is None, row["lines"][0]["reward"] is None) for row in second) == [
        (False, False),
        (True, True),
    ]


def test_what_the_rules_have_counted_is_saved_with_the_checkpoint(
    hand_rollout_models: Path, steps: list[dict[str, Any]]
) -> None:
    assert [step["metrics"]["lambda_scale"] for step in steps] == [1, 1, 1]
    [state] = json.loads((hand_rollout_models / "rl/checkpoints/rules.json").read_text()).values()
    assert state["lambda_scale"] == 0.5 and set(state["streaks"].values()) == {0}


def test_an_unknown_outcome_is_masked_out_of_everything(steps: list[dict[str, Any]]) -> None:
    second = steps[1]
    # the passed response alone is left: three actions
    assert sorted(sum(row) for row in second["mask"]) == [0, 3]
    assert second["metrics"]["unknown_outcomes"] == 1 and second["metrics"]["pass_rate"] == 1.0
    third = steps[2]
    assert sum(map(sum, third["mask"])) == 0 and not np.any(third["advantages"])
    assert third["metrics"]["unknown_outcomes"] == 2 and math.isnan(third["metrics"]["pass_rate"])
    assert np.isfinite(third["values"]).all()  # the critic has survived a step in which a micro batch had no action
