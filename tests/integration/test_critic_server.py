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
"""A critic that shares a server with the PRM it starts from; its outputs are known: see `hand_rollout.py`.

The PRM scores 0.8 at a newline, -2 at EOS and 0.3 elsewhere.
"""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
import sentencepiece
from servers import Server
from warm_stack import stack

from nemo_prm.config import RewardClientConfig
from nemo_prm.errors import RequestError, ServerError
from nemo_prm.processes import free_ports
from nemo_prm.serving.client import RewardClient
from nemo_prm.serving.model_client import ModelClient
from nemo_prm.serving.wire import (
    CRITIC_INFER,
    CRITIC_LOAD,
    CRITIC_SAVE,
    CRITIC_TRAIN,
    PPO_STEP,
    REQUEST_ID,
    SESSION,
    ModelSpec,
)

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

DRIVER = Path(__file__).with_name("hand_rollout.py")
TEXT = "#c\nx=1\nprint(2)\n"
SCORES = [0.3, 0.8, 0.3, 0.8, 0.3, 0.8, -2.0]


def start(folder: Path, output: str, value_init: str, port: int = 0) -> Server:
    return Server(
        folder / f"{output}.log",
        "scripts/serve_critic.py",
        f"checkpoint={folder / 'prm.nemo'}",
        f"output={folder / output}",
        f"value_init={value_init}",
        "combined=true",
        "model.optim.sched.warmup_steps=0",
        "model.micro_batch_size=1",
        "model.global_batch_size=2",
        f"server.port={port}",
    )


@pytest.fixture(scope="module")
def server(hand_rollout_models: Path) -> Iterator[Server]:
    with start(hand_rollout_models, "combined", "affine") as server:
        yield server


@pytest.fixture(scope="module")
def tokens(hand_rollout_models: Path) -> np.ndarray:
    model = sentencepiece.SentencePieceProcessor(model_file=str(hand_rollout_models / "tokenizer.model"))
    return np.array([model.encode(TEXT) + [model.eos_id()]] * 2)


def ask(server: Server, spec: ModelSpec, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    client = ModelClient(spec, RewardClientConfig(url=server.url), ServerError, "scripts/serve_critic.py")
    return client.infer(inputs)


def values(server: Server, tokens: np.ndarray) -> np.ndarray:
    lengths = np.full((len(tokens), 1), tokens.shape[1])
    return ask(server, CRITIC_INFER, tokens=tokens, sequence_lengths=lengths)["values"]


def line_scores(server: Server) -> list[list[float]]:
    with RewardClient(RewardClientConfig(url=server.url)) as client:
        return client.score_steps(["#c\n"], ["x=1\nprint(2)\n#c"])


def train(server: Server, tokens: np.ndarray, request_id: int) -> dict[str, np.ndarray]:
    before = values(server, tokens)[:, :-1]
    data = {"returns": np.ones_like(before), "prev_values": before, "mask": np.ones_like(before)}
    arrays = {name: array.astype(np.float32) for name, array in data.items()}
    return ask(server, CRITIC_TRAIN, tokens=tokens, **arrays, **{REQUEST_ID: np.array([request_id])})


def test_the_value_begins_as_a_chance_and_stays_apart_from_the_score(server: Server, tokens: np.ndarray) -> None:
    assert tokens.shape[1] == len(SCORES)
    chances = (np.array(SCORES) + 1) / 2
    np.testing.assert_allclose(values(server, tokens), [chances] * 2, atol=1e-5)
    for _ in range(2):  # the weights take turns
        np.testing.assert_allclose(line_scores(server), [[0.8, 0.8, -2.0]], atol=1e-5)
        np.testing.assert_allclose(values(server, tokens), [chances] * 2, atol=1e-5)


def test_a_training_request_that_comes_twice_trains_once(server: Server, tokens: np.ndarray) -> None:
    before = values(server, tokens)
    loss = train(server, tokens, 7)["loss_mean"]
    once = values(server, tokens)
    assert np.abs(once - before).max() > 1e-4
    assert train(server, tokens, 7)["loss_mean"] == loss
    np.testing.assert_array_equal(values(server, tokens), once)
    np.testing.assert_allclose(line_scores(server), [[0.8, 0.8, -2.0]], atol=1e-5)  # the PRM has learned nothing
    assert train(server, tokens, 8)["loss_mean"] != loss


def test_bad_requests_are_refused_before_any_rank_hears_of_them(server: Server, tokens: np.ndarray) -> None:
    before = values(server, tokens)
    lengths = np.full((len(tokens), 1), tokens.shape[1])
    beyond, data = tokens + 10**6, np.zeros((2, tokens.shape[1] - 1), dtype=np.float32)
    training = {"returns": data, "prev_values": data, "mask": data}
    for spec, inputs, message in (
        (CRITIC_INFER, {"sequence_lengths": lengths}, "inputs must be"),
        (CRITIC_INFER, {"tokens": beyond, "sequence_lengths": lengths}, "tokens of row 0 must lie in"),
        (CRITIC_INFER, {"tokens": tokens, "sequence_lengths": lengths + 1}, "sequence_lengths of row 0 must lie in"),
        (CRITIC_INFER, {"sentences": np.array([[b"\xff"]], dtype=object)}, "sentence of row 0"),
        (CRITIC_INFER, {"sentences": np.array([[b"a", b"b"]], dtype=object)}, r"sentences must be \[B, 1\]"),
        (CRITIC_TRAIN, {"tokens": beyond, **training}, "tokens of row 0 must lie in"),
        (CRITIC_TRAIN, {"tokens": tokens, **training, "mask": data[:1]}, r"mask must be \[B, S-1\]"),
        (CRITIC_TRAIN, {"tokens": tokens, **training, "returns": data + np.nan}, "returns of row 0 are not finite"),
    ):
        with pytest.raises(RequestError, match=message):
            ask(server, spec, **inputs)
    np.testing.assert_array_equal(values(server, tokens), before)


def test_a_killed_critic_goes_on_from_what_it_saved(
    server: Server, tokens: np.ndarray, hand_rollout_models: Path
) -> None:
    line_scores(server)  # the PRM's weights are on the device when the critic is to be saved
    ask(server, CRITIC_SAVE, dummy_var=np.array([0]))
    saved = values(server, tokens)
    train(server, tokens, 9)
    server.stop(signal.SIGKILL)
    with start(hand_rollout_models, "combined", "affine") as again:
        np.testing.assert_allclose(values(again, tokens), saved, atol=1e-6)
        np.testing.assert_allclose(line_scores(again), [[0.8, 0.8, -2.0]], atol=1e-5)


def test_the_critic_goes_back_to_the_step_of_the_actors_checkpoint(
    hand_rollout_models: Path, tokens: np.ndarray
) -> None:
    def save(server: Server, step: int) -> np.ndarray:
        ask(server, CRITIC_SAVE, dummy_var=np.array([0]), **{PPO_STEP: np.array([step])})
        return values(server, tokens)

    def load(server: Server, step: int) -> np.ndarray:
        ask(server, CRITIC_LOAD, **{PPO_STEP: np.array([step])})
        return values(server, tokens)

    output = hand_rollout_models / "rolled_back"
    with start(hand_rollout_models, "rolled_back", "affine") as server:
        begin = load(server, 0)  # it is that of a run that begins
        train(server, tokens, 1)
        with pytest.raises(RequestError, match="goes on from step 0, but this critic has been trained further"):
            load(server, 0)
        first = save(server, 1)
        train(server, tokens, 2)
        second = save(server, 2)
        train(server, tokens, 3)
        assert [path.name for path in output.glob("*/*-last")] != []
        assert len({values_.tobytes() for values_ in (begin, first, second, values(server, tokens))}) == 4
        with pytest.raises(
            RequestError, match=r"step 3, .*checkpoints of steps \[1, 2\]: start the critic server anew"
        ):
            load(server, 3)
        np.testing.assert_array_equal(load(server, 2), second)
        np.testing.assert_array_equal(load(server, 1), first)
        np.testing.assert_allclose(line_scores(server), [[0.8, 0.8, -2.0]], atol=1e-5)
        for session in (5, 6):
            ask(server, CRITIC_LOAD, **{PPO_STEP: np.array([1]), SESSION: np.array([session])})
        with pytest.raises(RequestError, match="another run has gone on with this critic"):
            ask(server, CRITIC_SAVE, dummy_var=np.array([0]), **{PPO_STEP: np.array([3]), SESSION: np.array([5])})
        lengths, column = np.full((len(tokens), 1), tokens.shape[1]), np.ones((len(tokens), 1), dtype=np.int64)
        with ThreadPoolExecutor() as pool:  # it overtakes the request to train on, and waits for it
            early = pool.submit(
                ask, server, CRITIC_INFER, tokens=tokens, sequence_lengths=lengths, session=6 * column, trained=column
            )
            time.sleep(0.5)
            assert not early.done()
            data = np.ones((len(tokens), tokens.shape[1] - 1), dtype=np.float32)
            ask(
                server,
                CRITIC_TRAIN,
                tokens=tokens,
                returns=data,
                prev_values=0 * data,
                mask=data,
                session=np.array([6]),
            )
            after = values(server, tokens)
            assert np.abs(after - first).max() > 1e-4
            np.testing.assert_array_equal(early.result()["values"], after)
        np.testing.assert_array_equal(load(server, 1), first)
        train(server, tokens, 4)  # weights, optimizer and schedule go on from there
        np.testing.assert_array_equal(save(server, 2), second)
    # killed between the save and the removal of the checkpoint before
    for path in output.glob("previous_checkpoint/*-last"):
        path.rename(output / "checkpoints" / path.name)
    unfinished = output / "checkpoints" / "critic-step=3-ppo_step=3-last"
    unfinished.mkdir()
    unfinished.with_name(unfinished.name + "-unfinished").touch()
    with start(hand_rollout_models, "rolled_back", "affine") as again:
        np.testing.assert_allclose(load(again, 2), second, atol=1e-6)
        np.testing.assert_allclose(load(again, 1), first, atol=1e-6)


def test_ppo_outlives_a_server_that_is_killed_and_restarted(hand_rollout_models: Path) -> None:
    [port] = free_ports(1)
    arguments = [str(DRIVER), "train", str(hand_rollout_models), str(port), str(port), "rl_killed"]
    log, (printed, output) = hand_rollout_models / "rl_killed.log", os.pipe()
    steps: list[dict[str, Any]] = []
    with start(hand_rollout_models, "critic_killed", "full", port) as server, log.open("wb") as errors:
        ppo = stack().start(*arguments, stdout=output, stderr=errors)
        os.close(output)
        with open(printed) as lines:
            for line in lines:
                if not line.startswith("RECORDED "):
                    continue
                steps.append(json.loads(line.removeprefix("RECORDED ")))
                if len(steps) == 1:
                    server.stop(signal.SIGKILL)
                    assert server.all_gone()
                    again = start(hand_rollout_models, "critic_killed", "full", port)
        again.end()
        assert ppo.wait(60) == 0, log.read_text()[-3000:]
    assert len(steps) == 3
    # the values are the PRM's scores, and of the first returns they explain what they do
    first = steps[0]
    counted = np.array(first["mask"]) == 1
    values, returns = (np.array(first[name])[counted] for name in ("values", "returns"))
    assert sorted(set(values.round(3))) == [0.3, 0.8]
    explained = 1 - np.var(returns - values) / np.var(returns)
    assert first["metrics"]["explained_variance"] == pytest.approx(explained, abs=1e-4)
