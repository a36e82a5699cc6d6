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
"""What PPO asks of the world for a rollout: values, line scores and verdicts, as one future.

What is overridden of NeMo-Aligner's RemoteGPTRMCriticClient, and why:
    __post_init__: the host waits 600,000 s for a dead server, retries nothing and sends no access token.
    train, save: a critic that fails to train must be noticed, not only its next answer; what it saves knows its step.
    infer_rm_critic: rewards are per token, and come from several sources: the PRM server and the unit tests for coding
        prompts, a general reward model for the others.

Shapes: B responses padded to S tokens; column t-1 of [B, S-1] belongs to the action "token t".
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import torch
from nemo_aligner.models.nlp.gpt.reward_critic_clients import (
    RemoteGPTRMCriticClient,
    SaveFuture,
    get_future_result,
)
from nemo_aligner.servers.http_communicator import HTTPCommunicator
from nemo_aligner.utils.distributed import broadcast_2d_tensor_within_mp, run_if_model_parallel_src
from nemo_aligner.utils.server_utils import FutureResult
from omegaconf import DictConfig

from nemo_prm.data.splitters import splitter
from nemo_prm.ppo.batch import rollout_rows
from nemo_prm.ppo.outcomes import Judge
from nemo_prm.ppo.servers import server_clients
from nemo_prm.protocols import Verifier
from nemo_prm.rewards.compose import compose_rewards
from nemo_prm.rewards.monitors import Rollout
from nemo_prm.rewards.placement import step_rewards
from nemo_prm.serving.wire import (
    CRITIC_LOAD,
    CRITIC_SAVE,
    CRITIC_TRAIN,
    GENERAL_REWARD,
    PPO_STEP,
    PRM,
    REQUEST_ID,
    SESSION,
    TRAINED,
)
from nemo_prm.types import Problem


def in_background(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Run in a daemon thread: a failing actor does not wait at its exit for a request that is still under way."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


class Clock:
    """Seconds by name, added up from any thread until they are taken."""

    def __init__(self, names: Sequence[str]) -> None:
        self._lock, self._seconds = threading.Lock(), Counter(dict.fromkeys(names, 0.0))

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[name] += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """What has been added since the last call."""
        with self._lock:
            taken = dict(self._seconds)
            self._seconds = Counter(dict.fromkeys(taken, 0.0))
        return taken


class Communicator(HTTPCommunicator):
    """The host's interface over our clients: token, time-outs, retries, and errors that name the server."""

    def __init__(self, cfg: DictConfig, problems: Sequence[Problem]) -> None:
        """
        Args:
            cfg: `remote_critic_rm` of `conf/train_ppo.yaml`.
            problems: to train on.
        """
        super().__init__()
        self.session = secrets.randbits(62)
        others = {PRM.name: cfg.reward_model, GENERAL_REWARD.name: cfg.get("general_reward")}
        for name, client in server_clients(cfg, problems).items():
            server = others.get(name) or cfg.critic
            self.connections[name] = (server.ip, server.port, client)

    def send_data_to_server(self, server_name: str, data: dict[str, np.ndarray], batching: bool = True) -> Future[Any]:
        """Send at once; the future's error is a `ServerError`."""
        *_, client = self.connections[server_name]
        if client.spec.name in (CRITIC_TRAIN.name, CRITIC_SAVE.name):  # sent again after a fault, not acted upon again
            data = data | {REQUEST_ID: np.array([secrets.randbits(62)], dtype=np.int64)}
        if client.spec.name in (CRITIC_TRAIN.name, CRITIC_SAVE.name, CRITIC_LOAD.name):
            data = data | {SESSION: np.array([self.session], dtype=np.int64)}
        return in_background(client.infer, data)


class DenseRewardClient(RemoteGPTRMCriticClient):
    """Critic, PRM and verifier behind the interface that `PPOTrainer` expects of its `rm_critic`."""

    def __init__(self, cfg: DictConfig, problems: Sequence[Problem], tokenizer: Any, verifier: Verifier) -> None:
        """
        Args:
            cfg: `remote_critic_rm` of `conf/train_ppo.yaml`.
            problems: what `problem_index` of a rollout refers to.
            tokenizer: the policy's NeMo tokenizer, which turns response tokens back into a program.
            verifier: decides the outcome by the problem's hidden tests.

        Raises:
            ConfigError: no such outcome, or no such steps.
            ServerError: rewards are to be moved from lines, and the reward server does not say what its rules are.
        """
        self.problems, self.judge = problems, Judge(problems, tokenizer, verifier, cfg.outcome)
        self.training: Future[Any] | None = None
        self.trained = 0  # training requests of this run so far; all ranks count them
        self.rollouts: list[Rollout] = []
        self.lambda_scale = 1.0  # of both lambdas; rules may lower it
        self.ppo_step = 0  # steps done, of what is to be saved
        self.split = splitter(cfg.reward_steps)
        asked = ["value", "verify", *(["score"] if cfg.dense_reward else [])]
        self.clock = Clock([*asked, *(f"wait_{name}" for name in asked)])
        super().__init__(cfg)
        self.rules = {"clamp": None, "normalise": False}  # of the reward server, where rewards are moved from lines
        if cfg.dense_reward and cfg.reward_steps != "lines":
            *_, prm = self.communicator.connections[PRM.name]
            found = prm.parameters()
            self.rules = {name: json.loads(found[name]) for name in self.rules}

    def __post_init__(self) -> None:
        self.communicator = Communicator(self.cfg, self.problems)
        self.combine_rm_and_critic_server = False
        self.pad_to_length = self.cfg.pad_to_length

    def train(self, ppo_rollout_data: dict[str, torch.Tensor]) -> Future[Any] | None:
        """Send a step's returns to the critic; `fit` drops the future, so the next call looks at it."""
        self.check_training()
        self.training = super().train(ppo_rollout_data)
        self.trained += 1
        return self.training

    def save(self) -> FutureResult:
        """Let the critic save itself, once it has trained."""
        self.check_training()
        future = None
        if torch.distributed.get_rank() == 0:
            data = {"dummy_var": np.array([0]), PPO_STEP: np.array([self.ppo_step])}
            future = self.communicator.send_data_to_server(self.cfg.critic.name.save, data, batching=False)
        return SaveFuture(future)

    def start(self, ppo_step: int) -> None:
        """Make the critic that of the actor's checkpoint; collective.

        Raises:
            RequestError: the critic has been trained further and has no checkpoint of this step.
            ServerError: it does not answer.
        """
        session = torch.tensor(self.communicator.session, device=torch.cuda.current_device())
        torch.distributed.broadcast(session, 0)
        self.communicator.session = int(session)
        if torch.distributed.get_rank() == 0:
            data = {PPO_STEP: np.array([ppo_step])}
            self.communicator.send_data_to_server(self.cfg.critic.name.load, data, batching=False).result()
        torch.distributed.barrier()

    def check_training(self) -> None:
        """Wait for the last training request.

        Raises:
            ServerError: the critic failed to train.
        """
        if self.training is not None:
            self.training.result()
            self.training = None

    def infer_rm_critic(self, rollout_batch: dict[str, torch.Tensor]) -> DenseRewardFuture:
        """Ask for everything about one rollout micro batch; returns at once.

        Args:
            rollout_batch: as `rollout_rows` reads it.
        """
        tokens = rollout_batch["response_tokens"].cpu()
        total_lengths = rollout_batch["response_lengths"].cpu()
        prompt_lengths = rollout_batch["prompt_lengths"].cpu()
        padding = 0 if self.pad_to_length is None else self.pad_to_length - tokens.size(1)
        assert padding >= 0, f"sequences of {tokens.size(1)} tokens, but pad_to_length is {self.pad_to_length}"
        problem_index = rollout_batch["problem_index"].tolist()
        coding = [row for row, index in enumerate(problem_index) if self.problems[index].outcome == "unit_tests"]
        general = [row for row in range(len(problem_index)) if row not in coding]
        data = {
            "tokens": torch.nn.functional.pad(tokens, (0, padding)).numpy(),
            "sequence_lengths": total_lengths.unsqueeze(1).numpy(),
        }
        order = {SESSION: self.communicator.session, TRAINED: self.trained}
        order_B = {name: np.full((len(tokens), 1), number, dtype=np.int64) for name, number in order.items()}
        asked = Asked(coding, general, value=self._send(self.cfg.critic.name.infer, "value", data | order_B))
        if coding:
            part = {name: array[coding] for name, array in data.items()}
            if self.cfg.dense_reward:
                prompts = {"prompt_lengths": prompt_lengths.unsqueeze(1).numpy()[coding]}
                asked.score = self._send(PRM.name, "score", part | prompts)
            rows = [tokens[row, prompt_lengths[row] : total_lengths[row]].tolist() for row in coding]
            problems = [self.problems[problem_index[row]] for row in coding]
            asked.verify = run_if_model_parallel_src(in_background, self.verify, problems, rows)
        if general:
            part = {name: array[general] for name, array in data.items()}
            asked.general_reward = self._send(GENERAL_REWARD.name, "value", part)
        return DenseRewardFuture(self, asked, rollout_batch)

    def _send(self, server_name: str, timer: str, data: dict[str, np.ndarray]) -> Future[Any] | None:
        """Ask a server, from the rank that does so; None on the others."""
        *_, client = self.communicator.connections[server_name]

        def ask() -> Any:
            with self.clock(timer):
                return client.infer(data)

        future: Future[Any] | None = run_if_model_parallel_src(in_background, ask)
        return future

    def verify(self, problems: Sequence[Problem], responses: Sequence[Sequence[int]]) -> list[float]:
        with self.clock("verify"):
            return self.judge.outcomes(problems, responses)

    def take_rollouts(self) -> list[Rollout]:
        """The responses since the last call, of this data-parallel rank."""
        rollouts, self.rollouts = self.rollouts, []
        return rollouts

    def close(self) -> None:
        """Stop waiting for the servers."""
        self.communicator.close()


@dataclass
class Asked:
    """What was asked about a micro batch; futures are None on ranks that do not ask, and where nobody is to be asked.

    Attributes:
        coding: rows that the unit tests judge.
        general: rows that a reward model judges.
        value: the critic's answer for all rows.
        score: the PRM's for `coding`.
        verify: the outcomes of `coding`.
        general_reward: the reward model's answer for `general`.
    """

    coding: list[int]
    general: list[int]
    value: Future[Any] | None = None
    score: Future[Any] | None = None
    verify: Future[list[float]] | None = None
    general_reward: Future[Any] | None = None


class DenseRewardFuture(FutureResult):
    """Rewards and values of one rollout micro batch."""

    def __init__(self, client: DenseRewardClient, asked: Asked, rollout_batch: dict[str, torch.Tensor]) -> None:
        self.client, self.asked, self.rollout_batch = client, asked, rollout_batch

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Wait; collective over the model-parallel group.

        Returns:
            rewards float32 [B, S-1], rows of unknown outcome NaN; values float32 [B, S-1].
        """
        client, cfg, asked = self.client, self.client.cfg, self.asked
        columns = self.rollout_batch["response_tokens"].size(1) - 1
        with client.clock("wait_value"):
            values = get_future_result(asked.value, "values")[:, :columns].contiguous()
            outcomes = torch.zeros(values.size(0), device=values.device)
            if asked.general:
                outcomes[asked.general] = get_future_result(asked.general_reward, "rewards").flatten().float()
        line_rewards, line_scores = torch.zeros_like(values), torch.full_like(values, float("nan"))
        if asked.coding:
            with client.clock("wait_verify"):
                found = None if asked.verify is None else torch.tensor(asked.verify.result()).unsqueeze(1).cuda()
                outcomes[asked.coding] = broadcast_2d_tensor_within_mp(found).flatten()
            if cfg.dense_reward:
                with client.clock("wait_score"):
                    rewards, scores = get_future_result(asked.score, "line_rewards", "line_scores")
                line_rewards[asked.coding], line_scores[asked.coding] = rewards[:, :columns], scores[:, :columns]
                if cfg.reward_steps != "lines":
                    self._move(line_rewards, line_scores)
        scale = client.lambda_scale
        rewards = compose_rewards(
            outcomes,
            line_rewards,
            self.rollout_batch["response_lengths"].to(values.device),
            cfg.lambda_failed * scale,
            cfg.lambda_passed * scale,
        )
        self._keep(outcomes.tolist(), line_rewards, line_scores)
        return rewards, values

    def _move(self, line_rewards: torch.Tensor, line_scores: torch.Tensor) -> None:
        """Pay other steps than lines, in place; both [B, S-1]."""
        rows = rollout_rows(self.rollout_batch)
        for row in self.asked.coding:
            problem = self.client.problems[rows[row].problem_index]
            line_rewards[row] = step_rewards(
                line_scores[row],
                rows[row].prompt_length,
                [self.client.judge.pieces[token] for token in rows[row].response],
                problem.language,
                self.client.split,
                **self.client.rules,
                prompt=problem.prompt,
            )

    def _keep(self, outcomes: list[float], line_rewards: torch.Tensor, line_scores: torch.Tensor) -> None:
        """Leave the responses with the client, for the step's metrics."""
        for row, found in enumerate(rollout_rows(self.rollout_batch)):
            scored: dict[str, Any] = {}
            if self.client.cfg.dense_reward and row in self.asked.coding:
                scores = line_scores[row]
                ends = (~scores.isnan()).nonzero().flatten()  # column t-1 is token t
                scored["line_scores"] = dict(zip((ends + 1 - found.prompt_length).tolist(), scores[ends].tolist()))
                scored["line_rewards"] = float(line_rewards[row].sum())
            problem = self.client.problems[found.problem_index]
            self.client.rollouts.append(
                Rollout(
                    problem.problem_id,
                    problem.language,
                    self.client.judge.response(found.response),
                    len(found.response),
                    outcomes[row],
                    judged_by=problem.outcome,
                    prompt=problem.prompt,
                    **scored,
                )
            )
