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
"""NeMo-Aligner's PPO actor, whose rollouts remember the problem that they answer."""

from __future__ import annotations

import torch
from nemo_aligner.models.nlp.gpt.megatron_gpt_ppo_actor import MegatronGPTActorModel


class RemembersProblem:
    """A mixin for the host's actors that overrides `infer` alone: the host drops everything but tokens and lengths."""

    @torch.no_grad()
    def infer(self, inference_batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The host's rollout batch with problem_index int64 [B]."""
        rollout_batch = super().infer(inference_batch)  # type: ignore[misc]
        return rollout_batch | {"problem_index": inference_batch["problem_index"].cuda()}


class ProblemActor(RemembersProblem, MegatronGPTActorModel):
    """Of PPO."""
