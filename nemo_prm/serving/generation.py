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
"""The generation server: a Megatron policy behind the `generation` model of `nemo_prm.serving.wire`.

Requests are answered one after the other and never share a forward pass: what a request gets does not depend on who
else asks, to the last bit. A request fills its batches by itself (prompts times completions).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Sequence

import torch
from nemo.utils import logging as nemo_logging
from numpy.typing import NDArray

from nemo_prm.config import ServeGenerationConfig
from nemo_prm.megatron.generation import MegatronGenerator, load_policy
from nemo_prm.serving.loop import Op, ServedModel, announce, serve
from nemo_prm.serving.messages import (
    GenerationRequest,
    decode_generation_request,
    encode_completions,
    encode_generation_request,
)
from nemo_prm.serving.wire import GENERATION, TOO_LONG
from nemo_prm.types import SamplingParams


class GenerationService:
    """Samples with all tensor parallel ranks: `answer` runs on rank 0, `follow` on the others."""

    def __init__(self, generator: MegatronGenerator) -> None:
        self.generator = generator

    def answer(self, requests: Sequence[GenerationRequest]) -> list[dict[str, NDArray[Any]]]:
        """Answer each request with a refusal or `n` completions per prompt."""
        answers = []
        for request in requests:
            announce(Op.FORWARD)
            self._share([request])
            rows = self.generator.sample(request.prompts, request.n, request.params, request.seeds)
            rows = [f"{TOO_LONG}: {row}" if isinstance(row, str) else row for row in rows]
            answers.append(encode_completions(rows, request.n))
        return answers

    def follow(self) -> None:
        """Sample the same tokens as rank 0, whose logits every rank gathers."""
        shared: list[Any] = [None]
        self._share(shared)
        request = shared[0]
        self.generator.sample(request.prompts, request.n, request.params, request.seeds)

    @staticmethod
    def _share(request: list[Any]) -> None:
        if torch.distributed.get_world_size() > 1:
            torch.distributed.broadcast_object_list(request, src=0)


def serve_generation(config: ServeGenerationConfig, checkpoint: Path) -> None:
    """Load the policy and serve it until SIGTERM or SIGINT; collective.

    Raises:
        CheckpointError: `checkpoint` holds no policy.
        ServerError: see `nemo_prm.serving.loop.serve`.
    """
    if not config.server.verbose:
        nemo_logging.setLevel(logging.ERROR)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    model = load_policy(checkpoint, config.tensor_parallel, config.precision)
    service = GenerationService(MegatronGenerator(model, checkpoint.name, config.max_batch))
    warm_up = encode_generation_request(GenerationRequest(["\n"], 2, SamplingParams(max_new_tokens=4), [0]))
    served = ServedModel(GENERATION, service.answer, decode_generation_request, warm_up, max_batch=config.max_prompts)
    serve([served], config.server, {Op.FORWARD: service.follow})
