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
"""The reward server's rules, queue and metrics, asked over HTTP; `hand_rollout.py` says what its PRM scores."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest
from servers import ROOT, Server

from nemo_prm.config import RewardClientConfig
from nemo_prm.processes import free_ports
from nemo_prm.serving.client import RewardClient
from nemo_prm.serving.model_client import HTTPFailure, ModelClient
from nemo_prm.serving.wire import PRM, encode_text

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

FENCED = "Look:\n```python\nx=1\nprint(2)\n```\n"
[METRICS_PORT] = free_ports(1)


@pytest.fixture(scope="module")
def server(hand_rollout_models: Path) -> Iterator[Server]:
    with Server(
        hand_rollout_models / "reward.log",
        "scripts/serve_reward.py",
        f"checkpoint={hand_rollout_models / 'prm.nemo'}",
        "server.port=0",
        f"server.metrics_port={METRICS_PORT}",
        "max_batch=4",
        "max_queue=2",
        "rules.clamp=0.5",
        "rules.normalise=false",
        "rules.code_only=false",
    ) as server:
        yield server


def test_rules_are_followed_and_shown(server: Server) -> None:
    with RewardClient(RewardClientConfig(url=server.url)) as client:
        [scores] = client.score_steps(["#c\n"], [FENCED])
        assert len(scores) == 5 and scores == pytest.approx([0.8] * 5, abs=1e-5)  # the fence's lines too
        answer = client._infer({"prompts": encode_text(["#c\n"]), "responses": encode_text([FENCED])})
    paid = answer["line_rewards"][0]
    np.testing.assert_allclose(paid[~np.isnan(answer["line_scores"][0])], [0.5] * 5, atol=1e-5)
    with urllib.request.urlopen(f"{server.url}/v2/models/prm/config", timeout=10) as config:
        parameters = json.load(config)["parameters"]
    shown = {name: json.loads(parameters[name]["string_value"]) for name in ("clamp", "normalise", "code_only")}
    assert shown == {"clamp": 0.5, "normalise": False, "code_only": False}
    with RewardClient(RewardClientConfig(url=server.url)) as client:
        assert re.fullmatch(r"nemo-prm-reward/[^/]+/prm\.nemo@[0-9a-f]{12}", client.name)


def test_a_response_with_nothing_to_score_has_no_scores(server: Server) -> None:
    with RewardClient(RewardClientConfig(url=server.url)) as client:
        assert client.score_steps(["#", "#c\n", "#"], ["", "x=1\n", ""], [False, True, True])[::2] == [[], []]
        assert client.score_steps(["#"], [""], [False]) == [[]]


def test_a_full_queue_refuses_and_clients_come_again(server: Server) -> None:
    inputs = {"prompts": encode_text(["#c\n"] * 4), "responses": encode_text([FENCED * 9] * 4)}
    client = ModelClient(PRM, RewardClientConfig(url=server.url))
    body, headers = client.encode(inputs)

    def once(_: int) -> str:
        try:
            client.attempt(body, headers, 60, 5)
        except HTTPFailure as error:
            assert error.status == 503, error
            return str(error)
        return ""

    with ThreadPoolExecutor(24) as pool:
        refusals = [message for message in pool.map(once, range(96)) if message]
        assert refusals and all("queue" in message for message in refusals)
        answers = list(pool.map(lambda _: client.infer(inputs), range(96)))
    assert len(answers) == 96 and all(answer["num_lines"].tolist() == [[45]] * 4 for answer in answers)


def test_metrics(server: Server) -> None:
    with RewardClient(RewardClientConfig(url=server.url)) as client:
        client.score_steps(["#c\n"], ["x=1\n"])
    bad = ModelClient(PRM, RewardClientConfig(url=server.url))
    with pytest.raises(HTTPFailure):
        bad.attempt(*bad.encode({"tokens": np.array([[1, 2]])}), 60, 5)
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(found['nemo_prm_requests_total{answer="ok",model="prm"}']) > 1
    assert float(found['nemo_prm_requests_total{answer="refused",model="prm"}']) >= 1
    tokens, padding = (float(found[f'nemo_prm_{name}_total{{model="prm"}}']) for name in ("tokens", "padding_tokens"))
    assert tokens > 100 and 0 <= padding < tokens
    assert float(found['nemo_prm_batch_seconds_count{model="prm"}']) > 1
    assert any(name.startswith("nv_inference_pending_request_count") for name in found)  # Triton's own


def test_a_soak(tmp_path: Path) -> None:
    """The benchmark's checks, with fewer requests; so few say little of the memory, but that nothing explodes."""
    command = [sys.executable, str(ROOT / "scripts" / "bench" / "reward_soak.py"), "--requests", "400", "--rests", "2"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 or "memory has grown" in result.stderr, result.stdout + result.stderr[-3000:]
    assert result.stdout.startswith("400 requests")
