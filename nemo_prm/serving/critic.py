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
"""The critic server: NeMo-Aligner's CriticServerTrainer behind our serving loop.

Its three models (`critic_infer`, `critic_train`, `critic_save`) and what they do are the host's. What is overridden,
and why:
    run_server: the host's binds to all interfaces, knows no token, and its ranks never end.
    run_inference: the host's (0.7.0) expects rewards and values, although a critic apart from the reward model
        gives values alone: "too many values to unpack".
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from nemo_aligner.algorithms.critic_server_trainer import MAX_BATCH, CriticServerTrainer
from nemo_aligner.models.nlp.gpt.megatron_gpt_critic import MegatronGPTCriticModel
from nemo_aligner.utils.distributed import run_distributed_inference
from nemo_aligner.utils.text_generation_utils import tokenize_batch
from omegaconf import DictConfig

from nemo_prm.config import ServerConfig
from nemo_prm.megatron import host
from nemo_prm.serving.loop import Op, ServedModel, serve
from nemo_prm.serving.wire import CRITIC_INFER, CRITIC_SAVE, CRITIC_TRAIN


class CriticServer(CriticServerTrainer):
    """A critic that is served apart from the reward model."""

    @torch.no_grad()
    def run_inference(self, inputs: dict[str, torch.Tensor] | None = None) -> tuple[None, np.ndarray]:
        """Values float32 [B, S] of the host's `inputs`, which rank 0 has and the others lack; no rewards."""
        self.model.prepare_for_inference()
        values = run_distributed_inference(inputs, self.infer_fn)
        self.model.finish_inference()
        torch.distributed.barrier()
        return None, values

    def run_server(self, server: ServerConfig) -> None:
        """Serve until SIGTERM; collective.

        Args:
            server: where to listen.
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
        serve(served, server, {Op.FORWARD: self.run_inference, Op.TRAIN: self.run_training, Op.SAVE: self.save})


def serve_critic(cfg: DictConfig, server: ServerConfig) -> None:
    """Load the critic and serve it until SIGTERM; collective.

    Args:
        cfg: `conf/serve_critic.yaml`.
        server: where to listen.

    Raises:
        CheckpointError: `checkpoint` is no `.nemo` checkpoint.
        ServerError: the port is taken.
    """
    loaded = host.load(cfg, "ppo", MegatronGPTCriticModel, new_head=cfg.value_init == "none")
    state = host.resume_state(loaded)
    host.initialise(loaded, cfg)
    optimization = host.optimization(loaded, cfg)._asdict()
    optimization.pop("run_timer")
    trainer = CriticServer(
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
    trainer.run_server(server)
