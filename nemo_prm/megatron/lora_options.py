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
"""Which settings of the host's PEFT a PRM can be trained with; imports nothing heavy."""

from __future__ import annotations

from typing import Any, Mapping

from nemo_prm.errors import ConfigError

SCHEMES = ("none", "lora")
TARGETS = ("attention_qkv", "mlp_fc1", "mlp_fc2")  # not attention_dense: compat.adapter_attention_forward


def check_peft(peft: Mapping[str, Any]) -> None:
    """Look at `model.peft` before anything is loaded.

    Raises:
        ConfigError: another scheme or target, or a variant that cannot be merged.
    """
    if peft["peft_scheme"] not in SCHEMES:
        raise ConfigError(f"model.peft.peft_scheme must be one of {', '.join(SCHEMES)}, got {peft['peft_scheme']!r}")
    if peft["peft_scheme"] == "none":
        return
    lora = peft["lora_tuning"]
    if lora.get("variant", "nemo") != "nemo" or lora["weight_tying"]:
        raise ConfigError("model.peft.lora_tuning: only variant nemo without weight_tying can be merged into a PRM")
    if not set(lora["target_modules"]) <= set(TARGETS):
        raise ConfigError(
            f"target_modules of LoRA must be of {', '.join(TARGETS)}, got {list(lora['target_modules'])}"
        )
