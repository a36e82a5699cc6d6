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
"""NeMo-Aligner's PPOTrainer over dense rewards.

What is overridden, and why:
    compute_rollout_metrics: the host logs one scalar reward per response (`.item()`); here it is the row's sum, and
        the numbers of `nemo_prm.rewards.monitors` are logged beside it.
    generate_ppo_data: a response whose verdict is unknown leaves the mask, so that neither the actor's loss, nor the
        critic's, nor the advantages' statistics see it.
        The step's explained variance is logged too.
    generate_rollouts: the step's metrics go past the rules, and some of its responses are written down.
    save, load_state_dict: what the rules have counted and the random states belong to a checkpoint; counters are
        integers.
The reward tensor itself enters through `compat.dense_ppo_rewards`: [B, S-1] rewards are used as they are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Sequence

import torch
from nemo.utils import logging
from nemo_aligner.algorithms.ppo import PPOTrainer
from nemo_aligner.utils import parallel_state
from nemo_aligner.utils.distributed import masked_global_mean_var, normalize_tensor

from nemo_prm.data.jsonl import read_json, write_json
from nemo_prm.megatron.host import ProcessTimer
from nemo_prm.ppo.probe import Probe
from nemo_prm.ppo.resume import ResumesExactly
from nemo_prm.ppo.samples import write_samples
from nemo_prm.rewards.monitors import GENERAL_METRICS, PRM_METRICS, SUMS, Rollout, rollout_metrics, rollout_sums
from nemo_prm.rewards.rules import Watch


class StoppableTimer(ProcessTimer):
    """A run's clock, whose time is also up when a rule says so: the host then saves and returns."""

    stopped = False

    def get_time_remaining(self) -> float:
        return -math.inf if self.stopped else super().get_time_remaining()


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """How well the critic fits the returns: 1 - Var(R - V) / Var(R) over all data-parallel ranks; collective.

    Args:
        values: float [B, S-1], V.
        returns: float [B, S-1], R.
        mask: [B, S-1], 1 = counted.

    Returns:
        1 for a perfect fit, 0 for that of a constant, less for a worse one; NaN where the returns do not vary.
    """
    group = parallel_state.get_data_parallel_group()
    _, unexplained = masked_global_mean_var(returns - values, mask, group)
    _, variance = masked_global_mean_var(returns, mask, group)
    return 1 - (unexplained / variance).item() if variance > 1e-12 else math.nan


def outcome_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """The monitors' numbers of a step's rollouts of all data-parallel ranks; NaN where unknown. Collective."""
    sums = rollout_sums(rollouts)
    summed = torch.tensor([sums[name] for name in SUMS], dtype=torch.float64, device=torch.cuda.current_device())
    torch.distributed.all_reduce(summed, group=parallel_state.get_data_parallel_group())
    return rollout_metrics(dict(zip(SUMS, summed.tolist())))


class DensePPOTrainer(ResumesExactly, PPOTrainer):
    """Its `rm_critic` is a `nemo_prm.ppo.client.DenseRewardClient`. B responses padded to S tokens."""

    counters = ("step", "consumed_samples", "ppo_optimization_step")

    def __init__(self, *, output: Path, watch: Watch, num_samples: int, num_probes: int, **arguments: Any) -> None:
        """
        Args:
            output: folder of the run.
            watch: the rules.
            num_samples: responses of each step to write down.
            num_probes: responses of the first step that the PRM scores again at every step.
            arguments: the host's; `run_timer` is a `StoppableTimer`.
        """
        super().__init__(output=output, **arguments)
        self.output, self.watch, self.num_samples = output, watch, num_samples
        self.stopped_by: str | None = None  # the rule that ended the run, and why
        self.rollouts: list[Rollout] = []  # of this step and data-parallel rank
        self.probe: Probe | None = None
        if self.rm_critic.cfg.dense_reward and num_probes:
            self.probe = Probe(self.random_states.folder / "probe.json", self.rm_critic.communicator, num_probes)

    def compute_rollout_metrics(self, rollout_batch: Any) -> dict[str, Any]:
        """rewards float [B, S-1] of the global batch, NaN rows unknown."""
        rewards_B = rollout_batch["rewards"].sum(dim=-1)
        known_B = ~rewards_B.isnan()
        metrics = super().compute_rollout_metrics({**rollout_batch, "rewards": rewards_B.nan_to_num()})
        metrics["rewards"] = rewards_B[known_B].mean().item()
        return metrics | self._outcome_metrics()

    def generate_ppo_data(self, rollout_batch: Any) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The host's result, where rows of unknown reward have an empty mask and leave the normalisation alone.

        The logged means of the step still see such a row, with reward 0.
        """
        data, metrics = self._masked_ppo_data(rollout_batch)
        metrics["explained_variance"] = explained_variance(data["values"], data["returns"], data["mask"])
        if self.step == 0:
            logging.info(f"explained variance of the first returns by the critic: {metrics['explained_variance']:.3f}")
        if self.probe is not None:
            self.probe.keep(rollout_batch)
        if torch.distributed.get_rank() == 0 and self.num_samples:
            rows = {**rollout_batch, **data}
            write_samples(self.output, self.step, rows, self.rollouts, self.rm_critic, self.num_samples)
        return data, metrics

    def _masked_ppo_data(self, rollout_batch: Any) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        unknown_B = rollout_batch["rewards"].isnan().any(dim=-1)
        group = parallel_state.get_data_parallel_group()
        counts = torch.stack([unknown_B.sum(), (~unknown_B).sum()]).double().cuda()
        torch.distributed.all_reduce(counts, group=group)
        num_unknown, num_known = counts.tolist()
        if num_unknown == 0:
            return super().generate_ppo_data(rollout_batch)
        normalise, self.cfg.normalize_advantages = self.cfg.normalize_advantages, False
        try:
            data, metrics = super().generate_ppo_data(
                {**rollout_batch, "rewards": rollout_batch["rewards"].nan_to_num()}
            )
        finally:
            self.cfg.normalize_advantages = normalise
        data["mask"][unknown_B] = 0
        if num_known == 0:  # nothing to learn from; the mean over nothing would be NaN, and end in the weights
            data["advantages"].zero_()
        elif normalise:
            data["advantages"] = normalize_tensor(data["advantages"], data["mask"], group=group)
        return data, metrics

    def _outcome_metrics(self) -> dict[str, float]:
        self.rollouts = self.rm_critic.take_rollouts()
        metrics = outcome_metrics(self.rollouts)
        if not self.rm_critic.cfg.dense_reward:  # no PRM was asked
            for name in PRM_METRICS:
                del metrics[name]
        if any(problem.outcome == "reward_model" for problem in self.rm_critic.problems):
            return metrics
        return {name: value for name, value in metrics.items() if name not in GENERAL_METRICS}

    def generate_rollouts(self) -> tuple[Any, dict[str, Any], dict[str, float]]:
        """The host's; then the rules look at the metrics, which all ranks share."""
        if self.probe is not None:
            self.probe.start()
        data, metrics, durations = super().generate_rollouts()
        durations |= self.rm_critic.clock.take()
        if self.probe is not None:
            metrics["probe_drift"] = self.probe.drift()
        numbers = {key: value for key, value in metrics.items() if isinstance(value, (int, float))}
        for rule, value in self.watch.look(numbers):
            logging.warning(f"step {self.step}: {rule} (it is {value:.4g})")
            if rule.action == "stop" and self.stopped_by is None:
                self.stopped_by = f"{rule} (it is {value:.4g})"
                self.run_timer.stopped = True
        metrics["lambda_scale"] = self.rm_critic.lambda_scale
        self.rm_critic.lambda_scale = self.watch.lambda_scale
        return data, metrics, durations

    def save(self, extra_candidates: Any = None, is_train_end: bool = False) -> None:
        """The host's, and before it what a resumed run needs beside: what the rules have counted, random states."""
        self._rules_file().parent.mkdir(parents=True, exist_ok=True)
        if torch.distributed.get_rank() == 0:
            kept = self._rules_file().exists() and read_json(self._rules_file()) or {}
            write_json(self._rules_file(), {**kept, str(self.step): self.watch.state_dict()})
        self.rm_critic.ppo_step = self.step
        super().save(extra_candidates, is_train_end)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, and with what the rules had counted there. Collective; see `ResumesExactly`."""
        super().load_state_dict(state_dict)
        kept = read_json(self._rules_file()) if self._rules_file().exists() else {}
        if str(self.step) in kept:
            self.watch.load_state_dict(kept[str(self.step)])
        self.rm_critic.lambda_scale = self.watch.lambda_scale

    def _rules_file(self) -> Path:
        return self.random_states.folder / "rules.json"
