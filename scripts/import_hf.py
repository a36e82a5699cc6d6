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
"""Make a policy of a Llama or Qwen2 model: `python scripts/import_hf.py model_folder=FOLDER output=policy.nemo`."""

from pathlib import Path

from omegaconf import DictConfig

from nemo_prm.entry import script
from nemo_prm.megatron import hf_folder


@script()
def main(cfg: DictConfig) -> None:
    folder = Path(cfg.model_folder)
    config = hf_folder.read_config(folder)
    hf_folder.find_tokenizer(folder)
    source = hf_folder.Source(folder, config, hf_folder.find_tensors(folder))
    hf_folder.check_names(source)  # before the stack is imported
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_prm.megatron.huggingface import import_model

    print(f"policy: {import_model(cfg, source)}")


if __name__ == "__main__":
    main()
