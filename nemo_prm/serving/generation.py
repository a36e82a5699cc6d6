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
"""The generation server: a policy behind the `generation` and `generation_load` models of `nemo_prm.serving.wire`.

Requests are answered one after the other and never share a forward pass: what a request gets does not depend on who
else asks. A request fills its batches by itself (prompts times completions). `generation_load` waits its turn like any
request; every answer names the checkpoint it came from.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Sequence

import torch
from nemo.utils import logging as nemo_logging
from numpy.typing import NDArray

from nemo_prm.config import ServeGenerationConfig
from nemo_prm.data.embedded import resolve_policy
from nemo_prm.errors import CheckpointError, RequestError
from nemo_prm.megatron.generation import MegatronGenerator
from nemo_prm.megatron.identity import Identity, difference, identify
from nemo_prm.megatron.local import LocalGenerator
from nemo_prm.megatron.policy import load_policy
from nemo_prm.megatron.tensorrt import Backend, TensorRTGenerator
from nemo_prm.serving.loop import Op, ServedModel, announce, serve
from nemo_prm.serving.messages import (
    GenerationRequest,
    decode_generation_request,
    decode_load_request,
    encode_completions,
    encode_generation_request,
)
from nemo_prm.serving.wire import GENERATION, GENERATION_LOAD, TOO_LONG, encode_text
from nemo_prm.types import SamplingParams


class GenerationService:
    """Generates with all tensor parallel ranks: `answer` and `load` run on rank 0, the `follow`s on the others."""

    def __init__(self, generator: LocalGenerator, identity: Identity) -> None:
        self.generator, self.identity = generator, identity

    def answer(self, requests: Sequence[GenerationRequest]) -> list[dict[str, NDArray[Any]]]:
        """Answer each request with a refusal or `n` completions per prompt."""
        answers = []
        for request in requests:
            announce(Op.FORWARD)
            self._share(request)
            rows = self.generator.sample(request.prompts, request.n, request.params, request.seeds, request.first)
            rows = [f"{TOO_LONG}: {row}" if isinstance(row, str) else row for row in rows]
            answers.append(encode_completions(rows, request.n, self.identity.name))
        return answers

    def follow(self) -> None:
        """Sample the same tokens as rank 0, whose logits every rank gathers."""
        request = self._share(None)
        self.generator.sample(request.prompts, request.n, request.params, request.seeds, request.first)

    def load(self, requests: Sequence[str]) -> list[dict[str, NDArray[Any]] | RequestError]:
        """Go on with another checkpoint, or refuse it and keep the one there is."""
        answers: list[dict[str, NDArray[Any]] | RequestError] = []
        for checkpoint in requests:
            try:
                self._load(resolve_policy(checkpoint))
            except CheckpointError as error:
                answers.append(RequestError(str(error)))
            else:
                answers.append({"name": encode_text([self.identity.name])})
        return answers

    def _load(self, path: Path) -> None:
        found = identify(path)
        if reason := difference(self.identity, found):
            raise CheckpointError(f"{path} holds {reason}; start a server of its own for it")
        if found.name != self.identity.name:
            announce(Op.LOAD)
            self._share((path, found))
            self.generator.load(path, found.name)
            self.identity = found

    def follow_load(self) -> None:
        """Load what rank 0 loads; where that fails, rank 0 tells the client."""
        path, found = self._share(None)
        try:
            self.generator.load(path, found.name)
        except CheckpointError:
            return
        self.identity = found

    @staticmethod
    def _share(item: Any) -> Any:
        items = [item]
        if torch.distributed.get_world_size() > 1:
            torch.distributed.broadcast_object_list(items, src=0)
        return items[0]


def serve_generation(config: ServeGenerationConfig, checkpoint: Path, backend: Backend) -> None:
    """Load the policy and serve it until SIGTERM or SIGINT; collective.

    Raises:
        CheckpointError: `checkpoint` holds no policy.
        ServerError: see `nemo_prm.serving.loop.serve`.
    """
    if not config.server.verbose:
        nemo_logging.setLevel(logging.ERROR)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    identity = identify(checkpoint)
    model = load_policy(checkpoint, config.tensor_parallel, config.precision)
    generator: LocalGenerator
    if backend == "tensorrt_llm":
        generator = TensorRTGenerator(model, identity.name, config.max_batch, config.trt_llm_model_type)
    else:
        generator = MegatronGenerator(model, identity.name, config.max_batch)
    service = GenerationService(generator, identity)
    warm_up = encode_generation_request(GenerationRequest(["\n"], 2, SamplingParams(max_new_tokens=4), [0]))
    served = [
        ServedModel(GENERATION, service.answer, decode_generation_request, warm_up, max_batch=config.max_prompts),
        ServedModel(GENERATION_LOAD, service.load, decode_load_request, max_batch=1),
    ]
    serve(served, config.server, {Op.FORWARD: service.follow, Op.LOAD: service.follow_load})
