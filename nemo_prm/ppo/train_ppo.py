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
"""Train a policy by PPO: NeMo-Aligner's actor and trainer, rewards from the PRM server and the unit tests."""

from __future__ import annotations

import contextlib
import gc
from functools import partial
from pathlib import Path
from typing import Any, Sequence

import torch
from megatron.core.utils import divide
from nemo_aligner.utils import parallel_state
from nemo_aligner.utils.batch_iterators import get_batch_iterator_cls
from nemo_aligner.utils.train_script_utils import init_peft
from nemo_aligner.utils.utils import retrieve_model_state_dict_in_cpu
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_prm.data.problems import load_problems
from nemo_prm.errors import ConfigError, RuleError
from nemo_prm.megatron import host
from nemo_prm.ppo.actor import ProblemActor
from nemo_prm.ppo.client import DenseRewardClient
from nemo_prm.ppo.outcomes import Judge
from nemo_prm.ppo.prompts import ProblemPrompts, collate_prompts, prompt_loader
from nemo_prm.ppo.reinforce import OutcomeClient, OutcomeReinforceTrainer, ReinforceActor
from nemo_prm.ppo.servers import pass_rates, sandbox_config
from nemo_prm.ppo.trainer import DensePPOTrainer, StoppableTimer
from nemo_prm.protocols import Verifier
from nemo_prm.rewards.rules import Watch, read_rules
from nemo_prm.serving.verifier_client import open_verifier
from nemo_prm.types import Problem

STOPPED = "stopped_by_rule"  # a file in `output`, so that a job is not queued again: scripts/slurm/ppo.sbatch


def train_ppo(cfg: DictConfig) -> Path:
    """Run the host's trainer and publish `<output>/policy.nemo`.

    Args:
        cfg: `conf/train_ppo.yaml`.

    Returns:
        The path of the trained policy.

    Raises:
        ConfigError: no such algorithm or outcome, batch sizes that do not divide, a validation that the host would run
            on the training problems, or a bad rule file.
        CheckpointError: `policy` is no `.nemo` checkpoint.
        DataError: the problem file is missing or malformed, or no prompt fits the context.
        ServerError: a server does not answer.
        RuleError: a rule has stopped the run; its checkpoint is saved.
    """
    check_algorithm(cfg)
    check_batch_sizes(cfg)
    Path(cfg.output, STOPPED).unlink(missing_ok=True)
    watch = Watch(read_rules(cfg.rules) if cfg.rules else [])
    problems = load_problems(cfg.problems, cfg.split, cfg.limit, general=cfg.algorithm == "ppo")
    loaded = host.load(cfg, cfg.algorithm, ProblemActor if cfg.algorithm == "ppo" else ReinforceActor)
    model = loaded.model
    init_peft(model, cfg.model)
    settings = cfg.trainer[cfg.algorithm]
    if settings.initial_policy_kl_penalty > 0 and cfg.model.peft.peft_scheme == "none":
        model.init_policy_state_dict = retrieve_model_state_dict_in_cpu(model, cfg.model.megatron_amp_O2)
    state = host.resume_state(loaded)
    host.initialise(loaded, cfg)
    if rank := parallel_state.get_data_parallel_rank():  # the host seeds all ranks alike: they would sample alike
        torch.manual_seed(torch.initial_seed() + 1000 * rank)

    max_response_length = cfg.model.ppo.length_params.max_length
    max_prompt_length = cfg.model.encoder_seq_length - max_response_length
    prompts_per_step = cfg.model.ppo.num_rollout_samples // rollouts_per_prompt(cfg)
    prompts = ProblemPrompts(problems, model.tokenizer, max_prompt_length, prompts_per_step)
    collate = partial(collate_prompts, max_response_length=max_response_length, eos_id=model.tokenizer.eos_id)
    # Lightning counts optimization steps from a loader of global batches; the real one is of prompts
    counting_dataloader = torch.utils.data.DataLoader(
        prompts, batch_size=divide(cfg.model.global_batch_size, parallel_state.get_data_parallel_world_size())
    )
    optimization = host.optimization(loaded, cfg, counting_dataloader, prompts)
    optimization = optimization._replace(run_timer=StoppableTimer(cfg.exp_manager.get("max_time_per_run")))
    del model._train_dl

    ranks = parallel_state.get_data_parallel_world_size()
    common = {
        "cfg": settings,
        "model": model,
        "train_dataloader_builder": partial(
            prompt_loader,
            prompts,
            cfg.model.seed,
            mbs=min(cfg.model.ppo.rollout_micro_batch_size, prompts_per_step // ranks),
            gbs=prompts_per_step,
            collate_fn=collate,
        ),
        "val_dataloader_builder": None,  # `check_batch_sizes` lets nobody validate
        "collate_fn": collate,
        "batch_iterator_cls": get_batch_iterator_cls(settings.batch_iterator),
        "logger": loaded.logger,
        **optimization._asdict(),
    }
    with contextlib.closing(open_verifier(sandbox_config(cfg.sandbox), **pass_rates(cfg))) as verifier:
        if cfg.algorithm == "ppo":
            trainer = _fit_ppo(cfg, common, watch, problems, verifier, state)
        else:
            client = OutcomeClient(Judge(problems, model.tokenizer, verifier, cfg.outcome))
            trainer = OutcomeReinforceTrainer(output=Path(cfg.output), rm=client, **common)
            if state is not None:
                trainer.load_state_dict(state)
            trainer.fit()

    target = Path(cfg.output) / "policy.nemo"
    host.publish_nemo(loaded, cfg, target, finished=trainer.step >= trainer.max_steps)
    return target


def _fit_ppo(
    cfg: DictConfig,
    common: dict[str, Any],
    watch: Watch,
    problems: Sequence[Problem],
    verifier: Verifier,
    state: dict[str, Any] | None,
) -> DensePPOTrainer:
    client = DenseRewardClient(cfg.remote_critic_rm, problems, common["model"].tokenizer, verifier)
    with contextlib.closing(client):
        trainer = DensePPOTrainer(
            output=Path(cfg.output),
            watch=watch,
            num_samples=cfg.rollout_samples,
            num_probes=cfg.probe_responses,
            rm_critic=client,
            **common,
        )
        if state is not None:
            trainer.load_state_dict(state)
        client.start(trainer.step)
        gc.freeze()  # `fit` collects garbage thrice a step: not over all that the imports have left
        trainer.fit()
    if trainer.stopped_by:
        message = (
            f"stopped after step {trainer.step} by the rule {trainer.stopped_by}; the checkpoint is saved in "
            f"{cfg.output}/checkpoints: look at {cfg.output}/rollouts, change {cfg.rules} or the settings, and start "
            "again to resume"
        )
        if torch.distributed.get_rank() == 0:
            Path(cfg.output, STOPPED).write_text(message + "\n")
        raise RuleError(message)
    return trainer


def rollouts_per_prompt(cfg: DictConfig) -> int:
    return int(cfg.rollouts_per_prompt) if cfg.algorithm == "reinforce" else 1


def check_algorithm(cfg: DictConfig) -> None:
    """Give the host's REINFORCE its settings, which are those of PPO.

    Raises:
        ConfigError: no such algorithm, or settings that are PPO's alone.
    """
    if cfg.algorithm not in ("ppo", "reinforce"):
        raise ConfigError(f"algorithm must be one of ppo, reinforce, found {cfg.algorithm!r}")
    if cfg.algorithm == "ppo":
        return
    samples = cfg.model.ppo.num_rollout_samples
    if cfg.dense_reward:
        raise ConfigError("algorithm=reinforce has one reward a response: set dense_reward=false")
    if cfg.rules:
        raise ConfigError("algorithm=reinforce knows no rules: set rules=null")
    if cfg.rollouts_per_prompt < 2 or samples % cfg.rollouts_per_prompt:
        raise ConfigError(
            f"rollouts_per_prompt={cfg.rollouts_per_prompt} must be at least 2 (the others are a response's baseline) "
            f"and divide model.ppo.num_rollout_samples={samples}"
        )
    OmegaConf.resolve(cfg)  # much refers to trainer.ppo, which the host's REINFORCE does not expect
    with open_dict(cfg):
        cfg.trainer.reinforce = {**cfg.trainer.pop("ppo"), "num_rollouts_per_prompt": cfg.rollouts_per_prompt}
        cfg.model.reinforce = cfg.model.ppo
        callback = cfg.exp_manager.checkpoint_callback_params
        callback.filename = callback.filename.replace("ppo_optimization_step", "reinforce_optimization_step")


def check_batch_sizes(cfg: DictConfig) -> None:
    """Refuse what the host would end with a bare assertion, after everything is loaded.

    Raises:
        ConfigError: names the sizes.
    """
    if cfg.trainer[cfg.algorithm].val_check_interval > 0:
        raise ConfigError(
            "trainer.ppo.val_check_interval must be 0: the host would validate on the training problems; "
            "measure Pass@1 with scripts/evaluate.py"
        )
    model, rollouts = cfg.model, cfg.model.ppo.num_rollout_samples
    ranks = host.data_parallel_size(cfg)
    for name, size in (
        (
            "model.ppo.rollout_micro_batch_size",
            min(model.ppo.rollout_micro_batch_size * ranks, rollouts // rollouts_per_prompt(cfg)),
        ),
        ("model.ppo.forward_micro_batch_size", model.ppo.forward_micro_batch_size * ranks),
        ("model.global_batch_size", model.global_batch_size),
    ):
        if rollouts % size:
            raise ConfigError(
                f"model.ppo.num_rollout_samples={rollouts} must be a multiple of {size} ({name} on {ranks} "
                "data-parallel ranks)"
            )
    host.check_batch_size(cfg)
