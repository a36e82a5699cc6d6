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
"""The critic, alone or together with the PRM whose weights it takes turns with on the device."""

from __future__ import annotations

from typing import Any

import torch
from nemo_aligner.models.nlp.gpt.megatron_gpt_critic import MegatronGPTCriticModel
from nemo_aligner.utils.utils import copy_model_states_to_cpu

from nemo_prm.megatron.head import map_head, reset_head
from nemo_prm.megatron.losses import to_scores


class MegatronGPTPRMCritic(MegatronGPTCriticModel):
    """Overrides `set_output_sequence_flag` alone: the host's reward model scores a sequence, a PRM every token."""

    def set_output_sequence_flag(self, value_to_set: bool) -> None:
        """The head gives [B, S], whosever weights are loaded."""

    def keep_prm(self) -> None:
        """Keep the weights there are as those of the PRM, in the CPU's memory; for the combined mode."""
        self.rm_state_dict_cpu = copy_model_states_to_cpu(
            self, cpu_dict=None, megatron_amp_O2=self.cfg.megatron_amp_O2, sync=True
        )

    def start_critic(self, value_init: str, seed: int) -> None:
        """Change the head of a critic that begins, before its optimizer is made.

        Args:
            value_init: full: as it is; affine: the value is v = (s + 1) / 2 of the PRM's score s; none: a new head.
            seed: of a new head.
        """
        if value_init == "affine":
            map_head(self, 0.5, 0.5)
        elif value_init == "none":
            reset_head(self, seed)
        self.finish_training()  # renews the CPU's copy of the critic

    def infer_values(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The critic's values, float [B, S]; loads its weights where the PRM's are loaded."""
        return self._infer_critic(*args, **kwargs)

    def infer_scores(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The PRM's scores, float [B, S]; loads its weights where the critic's are loaded."""
        return to_scores(self._infer_rm(*args, **kwargs), self.cfg.get("prm_loss", "mse"))
