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
"""The critic server: NeMo-Aligner's CriticServerTrainer behind our serving loop, alone or together with the PRM.

Its three models (`critic_infer`, `critic_train`, `critic_save`) and what they do are the host's. What is overridden,
and why:
    run_server: the host's binds to all interfaces, knows no token, and its ranks never end.
    run_inference: the host's (0.7.0) expects rewards and values, although a critic apart from the reward model
        gives values alone: "too many values to unpack". Here a combined server answers for the PRM under its own name.
    server_train, server_save: a request that is sent again, since its answer was lost, is answered again, not acted
        upon again.
    check_infer: a request for values that has overtaken one to train on waits for it, else values would be those of
        one step or of the next, by chance. What an actor that was killed has left in the queue is refused.
    save: the checkpoint before the last one is kept too, and both know their PPO step: an actor that was killed
        while it saved resumes from its former checkpoint, and the critic must be that of the same step. A fourth
        model, `critic_load`, sees to it.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from nemo_aligner.algorithms.critic_server_trainer import MAX_BATCH, CriticServerTrainer
from nemo_aligner.utils.distributed import run_distributed_inference
from nemo_aligner.utils.text_generation_utils import tokenize_batch
from nemo_aligner.utils.utils import extract_value_from_ckpt
from numpy.typing import NDArray
from omegaconf import DictConfig

from nemo_prm.config import ServerConfig, typed
from nemo_prm.errors import ConfigError, RequestError
from nemo_prm.megatron import host
from nemo_prm.megatron.critic import MegatronGPTPRMCritic
from nemo_prm.serving.loop import Op, ServedModel, announce, serve
from nemo_prm.serving.messages import check_critic_infer, check_critic_train
from nemo_prm.serving.reward import LineScorer, RewardRules, served_prm
from nemo_prm.serving.wire import (
    CRITIC_INFER,
    CRITIC_LOAD,
    CRITIC_SAVE,
    CRITIC_TRAIN,
    PPO_STEP,
    REQUEST_ID,
    SESSION,
    TRAINED,
)

LOGGER = logging.getLogger(__name__)
PATIENCE_S = 120.0  # with a training request that is on its way


class CriticServer(CriticServerTrainer):
    """A critic; `combined` also serves the PRM, whose weights take turns with the critic's on the device."""

    def __init__(self, *, combined: bool, checkpoints: Path, cfg: DictConfig, **arguments: Any) -> None:
        """
        Args:
            combined: serve the PRM too; its weights were kept with `MegatronGPTPRMCritic.keep_prm`.
            checkpoints: where they are.
            cfg: `trainer.ppo` of `conf/serve_critic.yaml`.
            arguments: the host's.
        """
        super().__init__(cfg=cfg, **arguments)
        self.combined = combined
        self.checkpoints = checkpoints
        self.ppo_step: int | None = 0  # what the weights belong to; None once they have been trained further
        self.infer_fn = self.model.infer_values
        self.session = 0  # of the actor that goes on with this critic; 0 is unknown
        self.trained = 0  # training requests of this session that have come
        self.has_come = threading.Condition()
        self.answered: dict[str, tuple[int, Any]] = {}  # by model: id and answer of the last request that acted

    @torch.no_grad()
    def run_inference(self, inputs: dict[str, torch.Tensor] | None = None) -> tuple[None, np.ndarray]:
        """Values float32 [B, S] of the host's `inputs`, which rank 0 has and the others lack; no rewards."""
        return None, self._infer(self.infer_fn, inputs)

    def infer_scores(self, inputs: dict[str, torch.Tensor] | None = None) -> np.ndarray:
        """The PRM's scores float32 [B, S]; as `run_inference`."""
        return self._infer(self.model.infer_scores, inputs)

    @torch.no_grad()
    def _infer(self, infer_fn: Callable[..., torch.Tensor], inputs: dict[str, torch.Tensor] | None) -> np.ndarray:
        self.model.prepare_for_inference()
        outputs = run_distributed_inference(inputs, infer_fn)
        self.model.finish_inference()
        torch.distributed.barrier()
        return outputs

    def server_train(self, requests: list[Any]) -> list[dict[str, NDArray[Any]]]:
        """Train on the host's inputs."""
        train = super().server_train

        def act(requests: list[Any]) -> Any:
            with self.has_come:  # from here on the loop's lock makes others wait until it is done
                self.trained += 1
                self.has_come.notify_all()
            self.ppo_step = None
            if empty := -len(requests[0].data["tokens"]) % self.gbs:
                LOGGER.warning(
                    "%d rows are no multiple of model.global_batch_size=%d: the host adds %d empty ones, which make "
                    "the step smaller and its loss no number",
                    len(requests[0].data["tokens"]),
                    self.gbs,
                    empty,
                )
            return train(requests)

        return self._once(CRITIC_TRAIN.name, act, requests)

    def check_infer(self, inputs: dict[str, NDArray[Any]], **limits: int) -> None:
        """Check a request for values, and let what its actor has sent to train on go before.

        Raises:
            RequestError: a bad value, or that request does not come.
        """
        session = int(inputs.pop(SESSION, np.zeros((1, 1)))[0, 0])
        wanted = int(inputs.pop(TRAINED, np.zeros((1, 1)))[0, 0])
        check_critic_infer(inputs, **limits)
        with self.has_come:
            come = self.has_come.wait_for(lambda: session != self.session or self.trained >= wanted, PATIENCE_S)
        if not come:
            raise RequestError(
                f"{wanted} requests to train on should have come before this one, and {self.trained} have"
            )

    def server_save(self, requests: list[Any]) -> list[dict[str, NDArray[Any]]]:
        """Save as the host does."""
        save = super().server_save

        def act(requests: list[Any]) -> Any:
            self.ppo_step = int(requests[0].data.get(PPO_STEP, np.zeros(1))[0])
            return save(requests)

        return self._once(CRITIC_SAVE.name, act, requests)

    def server_load(self, requests: list[Any]) -> list[dict[str, NDArray[Any]]]:
        """Go on from the checkpoint of a PPO step, where the weights are not of that step already.

        Raises:
            RequestError: there is no such checkpoint.
        """
        wanted = int(requests[0].data[PPO_STEP][0])
        with self.has_come:
            self.session, self.trained = int(requests[0].data.get(SESSION, np.zeros(1))[0]), 0
            self.has_come.notify_all()
        if wanted != self.ppo_step:
            kept = host.kept_checkpoints(self.checkpoints)
            steps = sorted(ppo_step_of(path) for path in kept)
            if wanted == 0 or wanted not in steps:
                raise RequestError(
                    f"PPO goes on from step {wanted}, but this critic "
                    + ("has been trained further" if self.ppo_step is None else f"is that of step {self.ppo_step}")
                    + f" and {self.checkpoints} has {f'checkpoints of steps {steps}' if steps else 'no checkpoint'}: "
                    "start the critic server anew, "
                    + ("without checkpoints in its output" if wanted == 0 else "with the output of that run")
                )
            try:
                self.ppo_step = wanted
                announce(Op.LOAD)
                self.load()
            except BaseException:
                self.ppo_step = None  # unknown: the client asks again, and must not be told that all is well
                raise
        return [{"status": np.array([0])}]

    def load(self) -> None:
        """Load the checkpoint of rank 0's `ppo_step`; collective."""
        self.ppo_step = self._of_rank_0(self.ppo_step)
        [path] = [path for path in host.kept_checkpoints(self.checkpoints) if ppo_step_of(path) == self.ppo_step]
        self.model.prepare_for_training()  # brings weights and optimizer to the device
        path = host.return_to(self.model.trainer, self.ckpt_callback, path)
        self.load_state_dict({"step": extract_value_from_ckpt("step", path.name)})
        self.model.finish_training()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """The host's; collective."""
        self.ppo_step = self._of_rank_0(self.ppo_step)
        with host.keeping_the_previous(self.ckpt_callback):
            super().save({PPO_STEP: torch.tensor(self.ppo_step)})

    def _of_rank_0(self, number: int | None) -> int:
        tensor = torch.tensor(number or 0, device=torch.cuda.current_device())
        torch.distributed.broadcast(tensor, 0)
        return int(tensor)

    def _once(self, name: str, act: Callable[[list[Any]], Any], requests: list[Any]) -> list[dict[str, NDArray[Any]]]:
        """Act upon a request, or answer it as before where its id says that it was acted upon."""
        [request] = requests
        session = int(request.data.pop(SESSION, np.zeros(1))[0])
        if session and self.session and session != self.session:
            raise RequestError("another run has gone on with this critic since: what an earlier one has sent is late")
        request_id = int(request.data.pop(REQUEST_ID, np.zeros(1))[0])
        last_id, answer = self.answered.get(name, (0, None))
        if not request_id or request_id != last_id:
            try:
                answer = act(requests)
            except Exception as error:  # half of it may be done: it fails again, and is not done again
                answer = error
            self.answered[name] = request_id, answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run_server(self, server: ServerConfig, max_queue: int, rules: RewardRules, prm: str) -> None:
        """Serve until SIGTERM; collective.

        Args:
            server: where to listen.
            max_queue: requests to the PRM that may wait.
            rules: how the PRM's scores become rewards.
            prm: path of the PRM's checkpoint.
        """
        limits = {"vocab_size": self.model.padded_vocab_size, "max_length": self.model.cfg.encoder_seq_length}
        served = [
            ServedModel(
                CRITIC_INFER,
                self.server_infer,
                max_batch=MAX_BATCH,
                batch_delay_us=self.max_queue_delay_microseconds,
                check=partial(self.check_infer, **limits),
            ),
            ServedModel(CRITIC_TRAIN, self.server_train, batching=False, check=partial(check_critic_train, **limits)),
            ServedModel(CRITIC_SAVE, self.server_save, batching=False),
            ServedModel(CRITIC_LOAD, self.server_load, batching=False),
        ]
        commands = {
            Op.FORWARD: self.run_inference,
            Op.TRAIN: self.run_training,
            Op.SAVE: self.save,
            Op.LOAD: self.load,
        }
        if self.combined:
            scorer = LineScorer(self.model, self.infer_scores, rules, Op.SCORE)
            served.append(served_prm(scorer, prm, MAX_BATCH, self.max_queue_delay_microseconds, max_queue))
            commands[Op.SCORE] = scorer.follow
        serve(served, server, commands)


def ppo_step_of(checkpoint: Path) -> int:
    """The PPO step of a critic's checkpoint; 0 where its name has none."""
    return extract_value_from_ckpt(PPO_STEP, checkpoint.name)


def serve_critic(cfg: DictConfig, server: ServerConfig) -> None:
    """Load the critic and serve it until SIGTERM; collective.

    Args:
        cfg: `conf/serve_critic.yaml`.
        server: where to listen.

    Raises:
        CheckpointError: `checkpoint` is no `.nemo` checkpoint.
        ConfigError: a start that the checkpoint does not allow.
        ServerError: the port is taken.
    """
    rules = typed(RewardRules, cfg, "rules")
    host.check_batch_size(cfg)
    # combined, the PRM's own head is loaded and kept before the critic may get a new one
    loaded = host.load(cfg, "ppo", MegatronGPTPRMCritic, new_head=cfg.value_init == "none" and not cfg.combined)
    if cfg.value_init != "none" and cfg.model.get("prm_loss", "mse") != "mse":
        raise ConfigError(
            f"value_init={cfg.value_init} needs a PRM trained with loss=mse: the head of {cfg.checkpoint} gives the "
            "logit of its score; take value_init=none, or train another PRM"
        )
    state = host.resume_state(loaded)
    host.initialise(loaded, cfg)
    if cfg.combined:
        loaded.model.keep_prm()
    loaded.model.start_critic(cfg.value_init, cfg.model.seed)
    optimization = host.optimization(loaded, cfg)._asdict()  # where a run is resumed, its critic replaces that
    optimization.pop("run_timer")
    trainer = CriticServer(
        combined=cfg.combined,
        checkpoints=Path(cfg.output) / "checkpoints",
        cfg=cfg.trainer.ppo,
        model=loaded.model,
        logger=loaded.logger,
        tokenize_func=partial(tokenize_batch, tokenizer=loaded.model.tokenizer, max_len=cfg.model.encoder_seq_length),
        gbs=cfg.model.global_batch_size,
        model_forward_micro_batch_size=cfg.model.forward_micro_batch_size,
        **optimization,
    )
    if state is not None:
        trainer.load_state_dict(state)
        trainer.ppo_step = ppo_step_of(Path(loaded.trainer.ckpt_path))
    trainer.run_server(server, cfg.max_queue, rules, cfg.checkpoint)
