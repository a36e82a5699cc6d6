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
"""Write a policy for Transformers and vLLM: `python scripts/export_hf.py checkpoint=policy.nemo output=FOLDER`."""

from pathlib import Path

from omegaconf import DictConfig

from nemo_prm.entry import script
from nemo_prm.megatron.checkpoint import resolve_nemo


@script()
def main(cfg: DictConfig) -> None:
    checkpoint = resolve_nemo(cfg.checkpoint)
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_prm.megatron.huggingface import export_model

    print(f"model: {export_model(checkpoint, Path(cfg.output), cfg.max_shard_size)}")


if __name__ == "__main__":
    main()
