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
"""A baseline for PPO: NeMo-Aligner's REINFORCE with the leave-one-out baseline (RLOO), on the unit tests' outcome.

There is no critic and no PRM. What is overridden of the host, and why:
    infer: `nemo_prm.ppo.actor`.
    generate_reinforce_data: a response whose verdict is unknown, or that was cut off, leaves loss and baselines; the
        host's loss subtracts rewards [B] from log-probabilities [B, S-1], which is right for one response a micro
        batch alone; each data-parallel rank would train on all rows, in as many times more steps.
    generate_rollouts: the host moves on in the prompts by the number of responses, and so leaves prompts out.
    compute_rollout_metrics: unknown rewards are left out, and the monitors' numbers are logged beside the host's.
    save, load_state_dict: `nemo_prm.ppo.resume`.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import torch
from megatron.core import parallel_state
from nemo_aligner.algorithms.reinforce import ReinforceTrainer
from nemo_aligner.models.nlp.gpt.megatron_gpt_reinforce_actor import MegatronGPTReinforceActorModel
from nemo_aligner.utils.distributed import broadcast_2d_tensor_within_mp, run_if_model_parallel_src
from nemo_aligner.utils.server_utils import FutureResult

from nemo_prm.ppo.actor import RemembersProblem
from nemo_prm.ppo.batch import rollout_rows
from nemo_prm.ppo.client import in_background
from nemo_prm.ppo.outcomes import Judge
from nemo_prm.ppo.resume import ResumesExactly
from nemo_prm.ppo.trainer import outcome_metrics
from nemo_prm.rewards.monitors import PRM_METRICS, Rollout


class ReinforceActor(RemembersProblem, MegatronGPTReinforceActorModel):
    """The host's actor, whose rollouts remember the problem that they answer."""


class OutcomeClient:
    """The unit tests behind the interface that `ReinforceTrainer` expects of its `rm`."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.rollouts: list[Rollout] = []

    def infer_rm(self, rollout_batch: dict[str, torch.Tensor]) -> OutcomeFuture:
        """Ask for the outcomes of a rollout micro batch; returns at once.

        Args:
            rollout_batch: as `rollout_rows` reads it.
        """
        rows = rollout_rows(rollout_batch)
        problems = [self.judge.problems[row.problem_index] for row in rows]
        responses = [row.response for row in rows]
        future = run_if_model_parallel_src(in_background, self.judge.outcomes, problems, responses)
        return OutcomeFuture(self, future, list(zip(problems, responses)))


class OutcomeFuture(FutureResult):
    """The outcomes of one rollout micro batch."""

    def __init__(self, client: OutcomeClient, future: Future[list[float]] | None, answers: list[Any]) -> None:
        self.client, self.future, self.answers = client, future, answers

    def result(self) -> torch.Tensor:
        """Wait; float32 [B, 1], NaN unknown; collective over the model-parallel group."""
        found = None if self.future is None else torch.tensor(self.future.result()).unsqueeze(1).cuda()
        outcomes: torch.Tensor = broadcast_2d_tensor_within_mp(found)
        for (problem, tokens), outcome in zip(self.answers, outcomes.flatten().tolist()):
            text = self.client.judge.response(tokens)
            rollout = Rollout(problem.problem_id, problem.language, text, len(tokens), outcome, prompt=problem.prompt)
            self.client.rollouts.append(rollout)
        return outcomes


class OutcomeReinforceTrainer(ResumesExactly, ReinforceTrainer):
    """Its `rm` is an `OutcomeClient`. B responses padded to S tokens."""

    counters = ("step", "consumed_samples", "reinforce_optimization_step")

    def generate_rollouts(self) -> tuple[Any, dict[str, Any], dict[str, float]]:
        """The host's; `consumed_samples` counts prompts."""
        before = self.consumed_samples
        data, metrics, timers = super().generate_rollouts()
        self.consumed_samples = before + metrics["rollout_size"] // self.cfg.num_rollouts_per_prompt
        return data, metrics | {"consumed_samples": self.consumed_samples}, timers

    def compute_rollout_metrics(self, rollout_batch: Any) -> dict[str, Any]:
        """rewards float [B], NaN unknown."""
        known_B = ~rollout_batch["rewards"].isnan()
        metrics: dict[str, Any] = super().compute_rollout_metrics(
            {**rollout_batch, "rewards": rollout_batch["rewards"].nan_to_num()}
        )
        metrics["rewards"] = rollout_batch["rewards"][known_B].mean().item()
        rollouts, self.rm.rollouts = self.rm.rollouts, []
        found = outcome_metrics(rollouts)
        return metrics | {name: value for name, value in found.items() if name not in PRM_METRICS}

    def generate_reinforce_data(self, rollout_batch: Any) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The host's, of this rank's rows, with rewards and baselines [B, 1].

        The mask is empty where the reward is unknown or the response was cut off. Every rank has all rows, which the
        baselines need.
        """
        known_B = rollout_batch["is_end"] & ~rollout_batch["rewards"].isnan()
        with_kl, self.compute_init_policy_kl = self.compute_init_policy_kl, True  # the host's code fails without it
        try:
            data, metrics = super().generate_reinforce_data(
                {
                    "init_logprobs": rollout_batch["logprobs"],
                    **rollout_batch,
                    "rewards": rollout_batch["rewards"].nan_to_num(),
                    "is_end": known_B,  # what counts for the baselines
                }
            )
        finally:
            self.compute_init_policy_kl = with_kl
        data["mask"][~known_B] = 0
        for name in ("rewards_with_kl", "baseline"):
            data[name] = data[name].unsqueeze(1)
        rank, size = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        return {name: tensor[rank::size] for name, tensor in data.items()}, metrics
