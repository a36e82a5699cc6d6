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
"""PPO with dense line rewards: `python scripts/train_ppo.py problems=problems.jsonl output=runs/rl`."""

from omegaconf import DictConfig

from nemo_prm.data.problems import load_problems
from nemo_prm.entry import script
from nemo_prm.megatron.checkpoint import resolve_nemo
from nemo_prm.ppo.servers import pass_rates, sandbox_config, server_clients
from nemo_prm.serving.verifier_client import open_verifier


@script()
def main(cfg: DictConfig) -> None:
    cfg.policy = str(resolve_nemo(cfg.policy))
    # a bad file or an absent server is found now, not when the stack is imported and the model loaded
    problems = load_problems(cfg.problems, cfg.split, cfg.limit, general=True)
    if cfg.algorithm == "ppo":
        for client in server_clients(cfg.remote_critic_rm, problems).values():
            client.wait_ready()
    open_verifier(sandbox_config(cfg.sandbox), **pass_rates(cfg)).close()
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_prm.ppo.train_ppo import train_ppo

    print(f"policy: {train_ppo(cfg)}")


if __name__ == "__main__":
    main()
