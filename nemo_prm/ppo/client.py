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
"""What PPO asks of the world for a rollout: values, line scores and unit-test verdicts, as one future.

What is overridden of NeMo-Aligner's RemoteGPTRMCriticClient, and why:
    __post_init__: the host waits 600,000 s for a dead server, retries nothing and sends no access token.
    train, save: a critic that fails to train must be noticed, not only its next answer; what it saves knows its step.
    infer_rm_critic: rewards are per token, and come from two sources: the PRM server and the unit tests.

Shapes: B responses padded to S tokens; column t-1 of [B, S-1] belongs to the action "token t".
"""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import Future
from typing import Any, Callable, Sequence

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

from nemo_prm.data.steps import make_program
from nemo_prm.megatron.vocabulary import decode_tokens, vocabulary_bytes
from nemo_prm.ppo.servers import server_clients
from nemo_prm.protocols import Verifier
from nemo_prm.rewards.compose import compose_rewards
from nemo_prm.rewards.monitors import Rollout
from nemo_prm.serving.wire import CRITIC_SAVE, CRITIC_TRAIN, PPO_STEP, PRM, REQUEST_ID
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


class Communicator(HTTPCommunicator):
    """The host's interface over our clients: token, time-outs, retries, and errors that name the server."""

    def __init__(self, cfg: DictConfig) -> None:
        """`cfg` is `remote_critic_rm` of `conf/train_ppo.yaml`."""
        super().__init__()
        for name, client in server_clients(cfg).items():
            server = cfg.reward_model if name == PRM.name else cfg.critic
            self.connections[name] = (server.ip, server.port, client)

    def send_data_to_server(self, server_name: str, data: dict[str, np.ndarray], batching: bool = True) -> Future[Any]:
        """Send at once; the future's error is a `ServerError`."""
        *_, client = self.connections[server_name]
        if client.spec.name in (CRITIC_TRAIN.name, CRITIC_SAVE.name):  # sent again after a fault, not acted upon again
            data = data | {REQUEST_ID: np.array([secrets.randbits(62)], dtype=np.int64)}
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
        """
        self.problems, self.tokenizer, self.verifier = problems, tokenizer, verifier
        self.pieces = vocabulary_bytes(tokenizer, tokenizer.vocab_size)
        self.training: Future[Any] | None = None
        self.rollouts: list[Rollout] = []
        self.lambda_scale = 1.0  # of both lambdas; rules may lower it
        self.ppo_step = 0  # steps done, of what is to be saved
        super().__init__(cfg)

    def __post_init__(self) -> None:
        self.communicator = Communicator(self.cfg)
        self.combine_rm_and_critic_server = False
        self.pad_to_length = self.cfg.pad_to_length

    def train(self, ppo_rollout_data: dict[str, torch.Tensor]) -> Future[Any] | None:
        """Send a step's returns to the critic; `fit` drops the future, so the next call looks at it."""
        self.check_training()
        self.training = super().train(ppo_rollout_data)
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
            rollout_batch: response_tokens int64 [B, S], response_lengths int64 [B] (prompt included, as the host has
                it), prompt_lengths int64 [B], problem_index int64 [B].
        """
        tokens = rollout_batch["response_tokens"].cpu()
        total_lengths = rollout_batch["response_lengths"].cpu()
        prompt_lengths = rollout_batch["prompt_lengths"].cpu()
        padding = 0 if self.pad_to_length is None else self.pad_to_length - tokens.size(1)
        assert padding >= 0, f"sequences of {tokens.size(1)} tokens, but pad_to_length is {self.pad_to_length}"
        send = self.communicator.send_data_to_server
        critic_data = {
            "tokens": torch.nn.functional.pad(tokens, (0, padding)).numpy(),
            "sequence_lengths": total_lengths.unsqueeze(1).numpy(),
        }
        prm_future = None
        if self.cfg.dense_reward:
            prm_data = critic_data | {"prompt_lengths": prompt_lengths.unsqueeze(1).numpy()}
            prm_future = run_if_model_parallel_src(send, server_name=PRM.name, data=prm_data)
        critic_future = run_if_model_parallel_src(send, server_name=self.cfg.critic.name.infer, data=critic_data)
        verdicts = run_if_model_parallel_src(
            in_background,
            self.verify,
            tokens.tolist(),
            prompt_lengths.tolist(),
            total_lengths.tolist(),
            rollout_batch["problem_index"].tolist(),
        )
        return DenseRewardFuture(self, prm_future, critic_future, verdicts, rollout_batch)

    def verify(
        self, tokens: list[list[int]], prompt_lengths: list[int], total_lengths: list[int], problem_index: list[int]
    ) -> list[float]:
        """R_UT of each response: 1 passed, 0 not, NaN unknown."""
        jobs = []
        for row, prompt, total, index in zip(tokens, prompt_lengths, total_lengths, problem_index):
            problem = self.problems[index]
            jobs.append((problem, make_program(problem, self.response(row[prompt:total]))))
        verdicts = self.verifier.verify_many(jobs)
        return [float("nan") if verdict.status == "infra_error" else float(verdict.passed) for verdict in verdicts]

    def response(self, tokens: Sequence[int]) -> str:
        """The text of response tokens."""
        return decode_tokens(self.pieces, tokens)

    def take_rollouts(self) -> list[Rollout]:
        """The responses since the last call, of this data-parallel rank."""
        rollouts, self.rollouts = self.rollouts, []
        return rollouts

    def close(self) -> None:
        """Stop waiting for the servers."""
        self.communicator.close()


class DenseRewardFuture(FutureResult):
    """Rewards and values of one rollout micro batch."""

    def __init__(
        self,
        client: DenseRewardClient,
        prm_future: Future[Any] | None,
        critic_future: Future[Any] | None,
        verdicts: Future[list[float]] | None,
        rollout_batch: dict[str, torch.Tensor],
    ) -> None:
        self.client = client
        self.prm_future, self.critic_future, self.verdicts = prm_future, critic_future, verdicts
        self.rollout_batch = rollout_batch

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Wait; collective over the model-parallel group.

        Returns:
            rewards float32 [B, S-1], rows of unknown outcome NaN; values float32 [B, S-1].
        """
        cfg, columns = self.client.cfg, self.rollout_batch["response_tokens"].size(1) - 1
        values = get_future_result(self.critic_future, "values")[:, :columns].contiguous()
        outcomes = None if self.verdicts is None else torch.tensor(self.verdicts.result()).unsqueeze(1).cuda()
        outcomes = broadcast_2d_tensor_within_mp(outcomes).flatten()
        line_rewards, line_scores = torch.zeros_like(values), None
        if cfg.dense_reward:
            line_rewards, line_scores = get_future_result(self.prm_future, "line_rewards", "line_scores")
            line_rewards = line_rewards[:, :columns].contiguous()
        scale = self.client.lambda_scale
        rewards = compose_rewards(
            outcomes,
            line_rewards,
            self.rollout_batch["response_lengths"].to(values.device),
            cfg.lambda_failed * scale,
            cfg.lambda_passed * scale,
        )
        self._keep(outcomes.tolist(), line_rewards, line_scores)
        return rewards, values

    def _keep(self, outcomes: list[float], line_rewards: torch.Tensor, line_scores: torch.Tensor | None) -> None:
        """Leave the responses with the client, for the step's metrics."""
        names = ("response_tokens", "prompt_lengths", "response_lengths", "problem_index")
        rows = zip(*(self.rollout_batch[name].tolist() for name in names))
        for row, (tokens, prompt, total, index) in enumerate(rows):
            scored: dict[str, Any] = {}
            if line_scores is not None:
                scores = line_scores[row]
                scored["line_scores"] = tuple(scores[~scores.isnan()].tolist())
                scored["line_rewards"] = float(line_rewards[row].sum())
            problem = self.client.problems[index]
            text = self.client.response(tokens[prompt:total])
            self.client.rollouts.append(
                Rollout(problem.problem_id, problem.language, text, total - prompt, outcomes[row], **scored)
            )
