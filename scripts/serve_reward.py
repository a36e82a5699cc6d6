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
"""Serve the PRM's line rewards: `python scripts/serve_reward.py checkpoint=runs/prm/prm.nemo`."""

from omegaconf import DictConfig

from nemo_prm.config import ServerConfig, typed
from nemo_prm.entry import script
from nemo_prm.errors import ConfigError
from nemo_prm.megatron.checkpoint import has_reward_head, resolve_nemo


@script()
def main(cfg: DictConfig) -> None:
    path = resolve_nemo(cfg.checkpoint)
    cfg.checkpoint = str(path)
    server = typed(ServerConfig, cfg, "server")
    from nemo_prm.serving.triton import check_address

    check_address(server)
    if not has_reward_head(path):
        raise ConfigError(f"{path} has no scalar head: it is a policy, and no PRM; train one (scripts/train_prm.py)")
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_prm.serving.reward import serve_reward

    serve_reward(cfg, server)


if __name__ == "__main__":
    main()
