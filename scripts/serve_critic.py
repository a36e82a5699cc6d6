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
"""Serve and train the critic: `python scripts/serve_critic.py checkpoint=prm.nemo output=runs/critic`."""

from omegaconf import DictConfig

from nemo_prm.config import ServerConfig, typed
from nemo_prm.entry import script
from nemo_prm.errors import ConfigError
from nemo_prm.megatron.checkpoint import has_reward_head, resolve_nemo


@script()
def main(cfg: DictConfig) -> None:
    path = resolve_nemo(cfg.checkpoint)
    cfg.checkpoint = str(path)
    if cfg.value_init not in ("full", "affine", "none"):
        raise ConfigError(f"value_init must be full, affine or none, got {cfg.value_init}")
    wants = "combined=true" if cfg.combined else f"value_init={cfg.value_init}"
    if wants != "value_init=none" and not has_reward_head(path):
        raise ConfigError(f"{wants} needs a PRM, but {path} has no scalar head; train one, or value_init=none")
    server = typed(ServerConfig, cfg, "server")
    from nemo_prm.serving.triton import check_address

    check_address(server)
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_prm.serving.critic import serve_critic

    serve_critic(cfg, server)


if __name__ == "__main__":
    main()
