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
    __post_init__: the host waits 600,000 s for a dead server and sends no access token.
    infer_rm_critic: rewards are per token, and come from two sources: the PRM server and the unit tests.

Shapes: B responses padded to S tokens; column t-1 of [B, S-1] belongs to the action "token t".
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Sequence

import numpy as np
import torch
from nemo_aligner.models.nlp.gpt.reward_critic_clients import RemoteGPTRMCriticClient, get_future_result
from nemo_aligner.servers.http_communicator import HTTPCommunicator
from nemo_aligner.utils.distributed import broadcast_2d_tensor_within_mp, run_if_model_parallel_src
from nemo_aligner.utils.server_utils import FutureResult
from omegaconf import DictConfig
from pytriton.client import FuturesModelClient
from pytriton.client.exceptions import PyTritonClientError

from nemo_prm.data.steps import make_program
from nemo_prm.errors import ServerError
from nemo_prm.protocols import Verifier
from nemo_prm.rewards.compose import compose_rewards
from nemo_prm.serving.wire import resolve_token
from nemo_prm.types import Problem

PRM_MODEL = "prm"
TOTALS = ("responses", "known", "passed", "lines", "line_rewards")


class Communicator(HTTPCommunicator):
    """The host's communicator with an access token and a time-out a person can wait for."""

    def __init__(self, connect_timeout_s: float, request_timeout_s: float) -> None:
        super().__init__(init_timeout_s=connect_timeout_s)
        self.request_timeout_s = request_timeout_s

    def add_server_by_name(self, server_name: str, ip: str = "localhost", port: int = 5555) -> None:
        client = FuturesModelClient(
            f"http://{ip}:{port}",
            server_name,
            init_timeout_s=self.init_timeout_s,
            inference_timeout_s=self.request_timeout_s,
            access_token=resolve_token(None),
        )
        self.connections[server_name] = (ip, port, client)

    def send_data_to_server(self, server_name: str, data: dict[str, np.ndarray], batching: bool = True) -> "Answer":
        return Answer(self.connections[server_name], super().send_data_to_server(server_name, data, batching))


class Answer:
    """The future of a request that names its server when it fails."""

    def __init__(self, connection: tuple[str, int, FuturesModelClient], future: Any) -> None:
        self.ip, self.port, self.client = connection
        self.future = future

    def result(self) -> dict[str, np.ndarray]:
        """Wait for the answer.

        Raises:
            ServerError: there is none; says which server and what went wrong last.
        """
        try:
            return self.future.result()
        except PyTritonClientError as error:
            raise ServerError(
                f"the server of {self.client.model_name} at http://{self.ip}:{self.port} gave no answer: {error}. Is "
                "it running, with the same NEMO_PRM_TOKEN? Its log says more; training resumes from its last checkpoint"
            ) from error


class DenseRewardClient(RemoteGPTRMCriticClient):
    """Critic, PRM and verifier behind the interface that `PPOTrainer` expects of its `rm_critic`."""

    def __init__(
        self, cfg: DictConfig, problems: Sequence[Problem], tokenizer: Any, verifier: Verifier
    ) -> None:
        """
        Args:
            cfg: `remote_critic_rm` of `conf/train_ppo.yaml`.
            problems: what `problem_index` of a rollout refers to.
            tokenizer: the policy's NeMo tokenizer, which turns response tokens back into a program.
            verifier: decides the outcome by the problem's hidden tests.
        """
        self.problems, self.tokenizer, self.verifier = problems, tokenizer, verifier
        self.threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verify")
        self.totals = dict.fromkeys(TOTALS, 0.0)
        super().__init__(cfg)

    def __post_init__(self) -> None:
        cfg = self.cfg
        self.communicator = Communicator(cfg.connect_timeout_s, cfg.request_timeout_s)
        for name in (cfg.critic.name.train, cfg.critic.name.infer, cfg.critic.name.save):
            self.communicator.add_server_by_name(name, cfg.critic.ip, cfg.critic.port)
        if cfg.dense_reward:
            self.communicator.add_server_by_name(PRM_MODEL, cfg.reward_model.ip, cfg.reward_model.port)
        self.combine_rm_and_critic_server = False
        self.pad_to_length = cfg.pad_to_length

    def infer_rm_critic(self, rollout_batch: dict[str, torch.Tensor]) -> "DenseRewardFuture":
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
            prm_future = run_if_model_parallel_src(send, server_name=PRM_MODEL, data=prm_data)
        critic_future = run_if_model_parallel_src(send, server_name=self.cfg.critic.name.infer, data=critic_data)
        verdicts = run_if_model_parallel_src(
            self.threads.submit,
            self.verify,
            tokens.tolist(),
            prompt_lengths.tolist(),
            total_lengths.tolist(),
            rollout_batch["problem_index"].tolist(),
        )
        return DenseRewardFuture(self, prm_future, critic_future, verdicts, total_lengths, tokens.size(1))

    def verify(
        self, tokens: list[list[int]], prompt_lengths: list[int], total_lengths: list[int], problem_index: list[int]
    ) -> list[float]:
        """R_UT of each response: 1 passed, 0 not, NaN unknown."""
        jobs = []
        for row, prompt, total, index in zip(tokens, prompt_lengths, total_lengths, problem_index):
            ids = [token for token in row[prompt:total] if token != self.tokenizer.eos_id]
            problem = self.problems[index]
            jobs.append((problem, make_program(problem, self.tokenizer.ids_to_text(ids))))
        verdicts = self.verifier.verify_many(jobs)
        return [float("nan") if verdict.status == "infra_error" else float(verdict.passed) for verdict in verdicts]

    def take_totals(self) -> dict[str, float]:
        """Sums since the last call: responses, known, passed, lines, line_rewards; of this data-parallel rank."""
        totals, self.totals = self.totals, dict.fromkeys(TOTALS, 0.0)
        return totals

    def close(self) -> None:
        """End the client threads; without it the interpreter does not exit."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.communicator.close()


class DenseRewardFuture(FutureResult):
    """Rewards and values of one rollout micro batch."""

    def __init__(
        self,
        client: DenseRewardClient,
        prm_future: Answer | None,
        critic_future: Answer | None,
        verdicts: Future[list[float]] | None,
        total_lengths: torch.Tensor,
        sequence_length: int,
    ) -> None:
        self.client = client
        self.prm_future, self.critic_future, self.verdicts = prm_future, critic_future, verdicts
        self.total_lengths, self.sequence_length = total_lengths, sequence_length

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Wait; collective over the model-parallel group.

        Returns:
            rewards float32 [B, S-1], rows of unknown outcome NaN; values float32 [B, S-1].
        """
        cfg, columns = self.client.cfg, self.sequence_length - 1
        values = get_future_result(self.critic_future, "values")[:, :columns].contiguous()
        outcomes = None if self.verdicts is None else torch.tensor(self.verdicts.result()).unsqueeze(1).cuda()
        outcomes = broadcast_2d_tensor_within_mp(outcomes).flatten()
        line_rewards, num_lines = torch.zeros_like(values), torch.zeros_like(outcomes)
        if cfg.dense_reward:
            line_rewards, num_lines = get_future_result(self.prm_future, "line_rewards", "num_lines")
            line_rewards = line_rewards[:, :columns].contiguous()
        rewards = compose_rewards(
            outcomes, line_rewards, self.total_lengths.to(values.device), cfg.lambda_failed, cfg.lambda_passed
        )
        totals = self.client.totals
        totals["responses"] += outcomes.numel()
        totals["known"] += int((~outcomes.isnan()).sum())
        totals["passed"] += int((outcomes == 1).sum())
        totals["lines"] += int(num_lines.sum())
        totals["line_rewards"] += float(line_rewards.sum())
        return rewards, values
