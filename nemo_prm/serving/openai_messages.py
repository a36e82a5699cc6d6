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
"""Requests to OpenAI-compatible endpoints, and what their answers and refusals say: pure functions."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import accumulate
from typing import Any, Sequence

from nemo_prm.data.stops import finished
from nemo_prm.errors import RequestFailedError
from nemo_prm.types import Completion, SamplingParams

BYTES_PER_TOKEN = 4
# How endpoints refuse a prompt that is too long, and what they tell of it.
TOO_LONG = re.compile(
    r"context[ _](length|window)|max\w*[ _](model|seq\w*|input|num)[ _](len|tokens)|longer than the max|prompt length",
    re.IGNORECASE,
)
CONTEXT = re.compile(r"(?:context|model) length (?:of|is) (\d+)", re.I)
PROMPT = re.compile(r"(\d+) (?:in (?:the|your) (?:messages|prompt)|input tokens)", re.I)


class Unusable(Exception):
    """An answer that is none."""


class Refused(Exception):
    """The endpoint refuses the request, and would again."""


def make_request(model: str, prompt: str, n: int, params: SamplingParams, seed: int, first: int) -> dict[str, Any]:
    """The body of a request for the completions number `first` to `first + n - 1` of a prompt.

    Raises:
        RequestFailedError: a text that has no UTF-8 form.
    """
    request = {
        "model": model,
        "prompt": prompt,
        "n": n if params.temperature > 0 else 1,  # greedy ones are all the same; vLLM refuses more
        "temperature": params.temperature,
        "top_p": params.top_p,
        "max_tokens": params.max_new_tokens,
        "seed": request_seed(seed, first),
    }
    request |= {"top_k": params.top_k} if params.top_k > 0 else {}  # no field of OpenAI's own
    request |= {"stop": list(params.stop)} if params.stop else {}
    try:
        json.dumps(request, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RequestFailedError(f"a prompt is not Unicode: {error.reason} ({prompt[:40]!r})") from error
    return request


def request_seed(seed: int, first: int) -> int:
    """Seed of the request for the completions from `first` on: below 2**32, which every endpoint takes."""
    return (int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=4).digest(), "big") >> 1) + first


def read_answer(content: bytes, request: dict[str, Any], stop: Sequence[str]) -> list[Completion]:
    """The completions in the body of an answer, in the order of their numbers.

    Raises:
        Unusable: it is no answer to `request`.
    """
    try:
        answer = json.loads(content)
        choices = sorted(answer["choices"], key=lambda choice: choice.get("index", 0))
        texts = [choice["text"] for choice in choices]
        reasons = [choice["finish_reason"] for choice in choices]
        total = (answer.get("usage") or {}).get("completion_tokens")
        sizes = [len(text.encode()) for text in texts]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unusable(f"{type(error).__name__}: {error}, in {content[:80]!r}") from error
    if len(choices) != request["n"]:
        raise Unusable(f"{len(choices)} choices, asked for {request['n']}")
    if not set(reasons) <= {"stop", "length"}:
        raise Unusable(f"finish reasons {reasons}")
    if not isinstance(total, int) or total < 0:
        counts = [min(-(-size // BYTES_PER_TOKEN) or 1, request["max_tokens"]) for size in sizes]
    else:
        counts = share_tokens(total, sizes)
    return [finished(*generated, stop) for generated in zip(texts, counts, reasons)]


def share_tokens(total: int, sizes: Sequence[int]) -> list[int]:
    """Share out the tokens of a request among its completions by size; the counts add up to `total`."""
    weights = [max(size, 1) for size in sizes]
    edges = [round(total * end / sum(weights)) for end in accumulate(weights, initial=0)]
    return [end - start for start, end in zip(edges, edges[1:])]


def room_left(message: str) -> int | None:
    """Tokens that the context leaves beside the prompt, where the refusal tells both."""
    context, prompt = CONTEXT.search(message), PROMPT.search(message)
    return int(context[1]) - int(prompt[1]) if context and prompt else None


def error_message(content: bytes) -> str:
    """What the endpoint says of an error: {"error": {"message"}}, vLLM's older {"message"}, or anything at all."""
    try:
        body = json.loads(content)
        found = body.get("error", body)
        return str(found["message"] if isinstance(found, dict) else found)
    except (ValueError, KeyError, AttributeError):
        return content[:200].decode(errors="replace")


def seconds(retry_after: str | None) -> float:
    """Seconds that the endpoint asks to wait; a date in place of seconds is not read."""
    try:
        return float(retry_after or 0)
    except ValueError:
        return 0.0
