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
"""The servers that PPO asks, as clients by name; light, so that a script can look for them before it loads a model."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import replace
from typing import Any, Sequence, cast

from nemo_prm.config import RewardClientConfig, SandboxConfig
from nemo_prm.errors import ConfigError, ServerError
from nemo_prm.serving.model_client import ModelClient
from nemo_prm.serving.wire import (
    CRITIC_INFER,
    CRITIC_LOAD,
    CRITIC_SAVE,
    CRITIC_TRAIN,
    GENERAL_REWARD,
    PRM,
    ModelSpec,
)
from nemo_prm.types import Problem


def server_clients(cfg: Any, problems: Sequence[Problem]) -> dict[str, ModelClient]:
    """One client per served model, by the name that the host's code calls it.

    Args:
        cfg: `remote_critic_rm` of `conf/train_ppo.yaml`.
        problems: to train on; they decide whether a general reward model is asked.
    """

    seen: dict[str, threading.Event] = defaultdict(threading.Event)  # by address

    def client(spec: ModelSpec, server: Any, script: str) -> ModelClient:
        config = RewardClientConfig(
            url=f"http://{server.ip}:{server.port}",
            token=cfg.token,
            timeout_s=cfg.request_timeout_s,
            connect_timeout_s=cfg.connect_timeout_s,
            reconnect_timeout_s=cfg.reconnect_timeout_s,
        )
        return ModelClient(spec, config, ServerError, script, seen=seen[config.url])

    names = cfg.critic.name
    models = {names.train: CRITIC_TRAIN, names.infer: CRITIC_INFER, names.save: CRITIC_SAVE, names.load: CRITIC_LOAD}
    clients = {name: client(spec, cfg.critic, "scripts/serve_critic.py") for name, spec in models.items()}
    if cfg.dense_reward:
        clients[PRM.name] = client(PRM, cfg.reward_model, "scripts/serve_reward.py")
    if any(problem.outcome == "reward_model" for problem in problems):
        spec = replace(GENERAL_REWARD, name=cfg.general_reward.name)
        clients[GENERAL_REWARD.name] = client(spec, cfg.general_reward, "NeMo-Aligner's serve_reward_model.py")
    return clients


def sandbox_config(cfg: Any) -> SandboxConfig:
    """Check and convert `sandbox` of `conf/train_ppo.yaml`; what it leaves out has the default of the dataclass.

    Raises:
        ConfigError: an unknown key, or a value of another type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return cast(SandboxConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SandboxConfig), cfg)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"sandbox: {str(error).splitlines()[0]}") from error


def pass_rates(cfg: Any) -> dict[str, bool]:
    """What `open_verifier` has to be told beside `sandbox` of `conf/train_ppo.yaml`."""
    return {"pass_rates": True} if cfg.outcome == "pass_rate" else {}
