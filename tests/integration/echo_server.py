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
"""A server of the `generation` model without a language model, for the tests of the serving loop: it echoes prompts.

`python echo_server.py PORT [TOKEN]`. The prompt "sleep S" answers after S seconds, "crash" raises, "wrong" is refused.
"""

from __future__ import annotations

import sys
import time

from nemo_prm.config import ServerConfig
from nemo_prm.entry import fail
from nemo_prm.errors import NemoPrmError, RequestError
from nemo_prm.serving.loop import ServedModel, serve
from nemo_prm.serving.messages import (
    GenerationRequest,
    decode_generation_request,
    encode_completions,
    encode_generation_request,
)
from nemo_prm.serving.wire import GENERATION, TOO_LONG
from nemo_prm.types import Completion, SamplingParams


def echo(requests: list[GenerationRequest]) -> list[object]:
    print(f"batch of {len(requests)}", flush=True)
    return [_answer(request) for request in requests]


def _answer(request: GenerationRequest) -> object:
    answers: list[list[Completion] | str] = []
    for prompt, seed in zip(request.prompts, request.seeds):
        if prompt.startswith("sleep "):
            time.sleep(float(prompt.split()[1]))
        if prompt == "crash":
            raise ZeroDivisionError("the model broke")
        if prompt == "wrong":
            return RequestError("I do not like this prompt")
        if prompt == "long":
            answers.append(f"{TOO_LONG}: no room")
            continue
        numbers = range(request.first, request.first + request.n)
        answers.append([Completion(f"{prompt}|{seed}|{j}", len(prompt), "stop") for j in numbers])
    return encode_completions(answers, request.n, "echo")


if __name__ == "__main__":
    warm_up = encode_generation_request(GenerationRequest(["warm-up"], 1, SamplingParams(), [0]))
    model = ServedModel(GENERATION, echo, decode_generation_request, warm_up, max_batch=64, batch_delay_us=50_000)
    try:
        serve(
            [model], ServerConfig(port=int(sys.argv[1]), token=sys.argv[2] if len(sys.argv) > 2 else None, drain_s=5)
        )
    except NemoPrmError as error:
        fail(str(error))
