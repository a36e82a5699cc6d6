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
"""Settings of PEFT that cannot work are refused by name, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nemo_prm.errors import ConfigError
from nemo_prm.megatron.lora_options import check_peft

CONFIG = Path(__file__).resolve().parents[3] / "conf" / "train_prm.yaml"


def peft(scheme: str, **lora: Any) -> Any:
    config = OmegaConf.load(CONFIG).model.peft
    return OmegaConf.merge(config, {"peft_scheme": scheme, "lora_tuning": lora})


def test_what_the_config_says_can_be_trained() -> None:
    check_peft(peft("none"))
    check_peft(peft("lora"))
    check_peft(peft("lora", target_modules=["mlp_fc1", "mlp_fc2"]))
    check_peft(peft("none", target_modules=["all"]))  # not asked for


@pytest.mark.parametrize(
    ("refused", "names"),
    [
        (peft("ptuning"), "ptuning"),
        (peft("lora", target_modules=["attention_qkv", "attention_dense"]), "attention_dense"),
        (peft("lora", weight_tying=True), "weight_tying"),
        (peft("lora", variant="canonical"), "variant"),
    ],
)
def test_other_settings_are_refused(refused: Any, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        check_peft(refused)
