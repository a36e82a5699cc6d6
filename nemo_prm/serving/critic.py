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
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable

import numpy as np
import torch
from nemo_aligner.algorithms.critic_server_trainer import MAX_BATCH, CriticServerTrainer
from nemo_aligner.utils.distributed import run_distributed_inference
from nemo_aligner.utils.text_generation_utils import tokenize_batch
from numpy.typing import NDArray
from omegaconf import DictConfig

from nemo_prm.config import ServerConfig
from nemo_prm.errors import ConfigError
from nemo_prm.megatron import host
from nemo_prm.megatron.critic import MegatronGPTPRMCritic
from nemo_prm.serving.loop import Op, ServedModel, serve
from nemo_prm.serving.reward import LineScorer, RewardRules, served_prm
from nemo_prm.serving.wire import CRITIC_INFER, CRITIC_SAVE, CRITIC_TRAIN, REQUEST_ID


class CriticServer(CriticServerTrainer):
    """A critic; `combined` also serves the PRM, whose weights take turns with the critic's on the device."""

    def __init__(self, *, combined: bool, cfg: DictConfig, **arguments: Any) -> None:
        """
        Args:
            combined: serve the PRM too; its weights were kept with `MegatronGPTPRMCritic.keep_prm`.
            cfg: `trainer.ppo` of `conf/serve_critic.yaml`.
            arguments: the host's.
        """
        super().__init__(cfg=cfg, **arguments)
        self.combined = combined
        self.infer_fn = self.model.infer_values
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
        return self._once(CRITIC_TRAIN.name, super().server_train, requests)

    def server_save(self, requests: list[Any]) -> list[dict[str, NDArray[Any]]]:
        """Save as the host does."""
        return self._once(CRITIC_SAVE.name, super().server_save, requests)

    def _once(self, name: str, act: Callable[[list[Any]], Any], requests: list[Any]) -> list[dict[str, NDArray[Any]]]:
        """Act upon a request, or answer it as before where its id says that it was acted upon."""
        [request] = requests
        request_id = int(request.data.pop(REQUEST_ID, np.zeros(1))[0])
        last_id, answer = self.answered.get(name, (0, None))
        if not request_id or request_id != last_id:
            answer = act(requests)
            self.answered[name] = request_id, answer
        return answer

    def run_server(self, server: ServerConfig, max_queue: int, rules: RewardRules) -> None:
        """Serve until SIGTERM; collective.

        Args:
            server: where to listen.
            max_queue: requests to the PRM that may wait.
            rules: how the PRM's scores become rewards.
        """
        served = [
            ServedModel(
                CRITIC_INFER,
                self.server_infer,
                max_batch=MAX_BATCH,
                batch_delay_us=self.max_queue_delay_microseconds,
            ),
            ServedModel(CRITIC_TRAIN, self.server_train, batching=False),
            ServedModel(CRITIC_SAVE, self.server_save, batching=False),
        ]
        commands = {Op.FORWARD: self.run_inference, Op.TRAIN: self.run_training, Op.SAVE: self.save}
        if self.combined:
            scorer = LineScorer(self.model, self.infer_scores, rules, Op.SCORE)
            served.append(served_prm(scorer, MAX_BATCH, self.max_queue_delay_microseconds, max_queue))
            commands[Op.SCORE] = scorer.follow
        serve(served, server, commands)


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
    rules = RewardRules(**cfg.rules)
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
    trainer.run_server(server, cfg.max_queue, rules)
