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
"""Train the PRM on selected labels: `python scripts/train_prm.py data=runs/data output=runs/prm`."""

from pathlib import Path

from omegaconf import DictConfig

from nemo_prm.data.jsonl import read_jsonl
from nemo_prm.entry import script
from nemo_prm.megatron.checkpoint import resolve_nemo


@script()
def main(cfg: DictConfig) -> None:
    cfg.policy = str(resolve_nemo(cfg.policy))
    next(read_jsonl(Path(cfg.data) / "train.jsonl"), None)  # a wrong folder is found now, not after the imports
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_prm.megatron.train_prm import train_prm

    print(f"PRM: {train_prm(cfg)}")


if __name__ == "__main__":
    main()
