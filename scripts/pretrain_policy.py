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
"""Make the embedded policy: `python scripts/pretrain_policy.py [output=policy.nemo]`; minutes on two cores."""

from omegaconf import DictConfig

from nemo_prm.data.embedded import policy_path, thinking_policy_path
from nemo_prm.entry import script


@script()
def main(cfg: DictConfig) -> None:
    cfg.output = cfg.output or str(thinking_policy_path() if cfg.texts.thoughts else policy_path())
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_prm.megatron.pretrain_policy import pretrain_policy

    print(f"policy: {pretrain_policy(cfg)}")


if __name__ == "__main__":
    main()
