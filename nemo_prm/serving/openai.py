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
"""Completions from any OpenAI-compatible endpoint (vLLM, trtllm-serve, NIM): POST /v1/completions.

Two promises of `nemo_prm.protocols.Generator` are the endpoint's to keep:

- A completion depends on what shares its request, unless the endpoint seeds the choices of a request one by one. The
  request for the completions from `first` on has the seed s + `first`; vLLM samples choice j with that + j
  (`v1/engine/parallel_sampling.py`), so there waves draw what one call would, as far as its kernels repeat themselves.
  Elsewhere waves draw other completions, never the same ones twice.
- Token counts. `usage` has one number per request: exact for one completion, and shared out by length of text (UTF-8
  bytes) among several. Without `usage` a token is taken to be four bytes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import random
import threading
import time
from typing import Any, Coroutine, NoReturn, Sequence
from urllib.parse import urlsplit

from nemo_prm.config import GeneratorConfig
from nemo_prm.data.seeds import occurrence_seeds
from nemo_prm.errors import ConfigError, GeneratorError, PromptTooLongError, RequestFailedError
from nemo_prm.serving.openai_messages import (
    TOO_LONG,
    Refused,
    Unusable,
    error_message,
    make_request,
    read_answer,
    room_left,
    seconds,
)
from nemo_prm.types import Completion, SamplingParams

KEY_VARIABLE = "OPENAI_API_KEY"
MAX_FAULTS = 3  # internal errors and unusable answers to one request before the client gives up
FIRST_DELAY_S, LAST_DELAY_S = 0.1, 2.0
AWAY = (502, 503, 504)  # the endpoint behind a proxy is not there, or starts


class OpenAIGenerator:
    """A `nemo_prm.protocols.Generator` over HTTP; prompts are asked at once, up to `requests_in_flight`."""

    def __init__(self, config: GeneratorConfig) -> None:
        """Prepare a client; connects to nothing yet.

        Raises:
            ConfigError: an address or a key that cannot be one, or no model.
        """
        parts = urlsplit(config.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"generator.url must look like http://127.0.0.1:8000, got {config.url!r}")
        if not config.model:
            raise ConfigError("generator.kind=openai needs generator.model, the endpoint's name of the policy")
        try:
            import httpx
        except ImportError as error:
            raise GeneratorError(f"generator.kind=openai needs httpx ({error}): pip install httpx") from error
        self.load(config.model)
        self._config, self._httpx = config, httpx
        self._url = config.url.rstrip("/").removesuffix("/v1") + "/v1/completions"
        self._key = _api_key(config.token)
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            limits=httpx.Limits(max_connections=config.requests_in_flight),
        )
        self._slots = asyncio.Semaphore(config.requests_in_flight)
        self._answered = False  # whether the endpoint was there before
        self._closed, self._lock = False, threading.Lock()
        self._loop = asyncio.new_event_loop()  # its own: requests in flight can be aborted, from any thread
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        """See `nemo_prm.protocols.Generator`, and the module for what depends on the endpoint.

        Raises:
            PromptTooLongError: prompts that fill the policy's context; the others were generated in vain.
            GeneratorError: anything else.
        """
        answers = self._run(self._ask_all(prompts, n, params, occurrence_seeds(prompts, seed), first))
        refused = {i: answer for i, answer in enumerate(answers) if isinstance(answer, str)}
        if refused:
            index, reason = next(iter(refused.items()))
            message = f"{len(refused)} of {len(prompts)} prompts were refused, the first is number {index}: {reason}"
            raise PromptTooLongError(message, list(refused))
        return [answer for answer in answers if not isinstance(answer, str)]

    def load(self, checkpoint: str) -> str:
        """Go on with another of the endpoint's models, such as another checkpoint of a run; returns its name."""
        self._model = checkpoint
        self.name = f"openai/{checkpoint}"
        return self.name

    def _run(self, work: Coroutine[Any, Any, list[list[Completion] | str]]) -> list[list[Completion] | str]:
        with self._lock:
            if self._closed:
                work.close()
                raise GeneratorError(f"the client of {self._config.url} was closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise GeneratorError(f"the client of {self._config.url} was closed") from None
        finally:
            future.cancel()  # a thread that is interrupted while it waits wants no answer any more

    async def _ask_all(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seeds: Sequence[int], first: int
    ) -> list[list[Completion] | str]:
        tasks = [
            asyncio.ensure_future(self._ask(prompt, n, params, seed, first)) for prompt, seed in zip(prompts, seeds)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:  # after the first failure, or when closed: the others are aborted
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, prompt: str, n: int, params: SamplingParams, seed: int, first: int) -> list[Completion] | str:
        """The completions of one prompt, or why it is too long."""
        request = make_request(self._model, prompt, n, params, seed, first)
        async with self._slots:
            for _ in range(2):  # a second time with fewer tokens, where the context leaves fewer
                try:
                    completions = await self._post(request, params.stop)
                    return completions * (n // len(completions))
                except Refused as error:
                    message = str(error)
                    room = room_left(message)
                    if not TOO_LONG.search(message):
                        raise RequestFailedError(f"{self._config.url} refused the request: {message}") from error
                    if room is None or not 1 <= room < request["max_tokens"]:
                        break
                    request["max_tokens"] = room
            return message

    async def _post(self, request: dict[str, Any], stop: Sequence[str]) -> list[Completion]:
        """Send a request until it is answered.

        Raises:
            Refused: it would be refused again.
            RequestFailedError: the endpoint failed on this request.
            GeneratorError: it is not there, took too long, or refuses the key.
        """
        start = time.monotonic()
        deadline = start + self._config.timeout_s
        delay, faults, away_since = FIRST_DELAY_S, 0, None
        while True:
            patience = self._config.reconnect_timeout_s if self._answered else self._config.connect_timeout_s
            remaining = max(deadline - time.monotonic(), 0.1)
            timeout = self._httpx.Timeout(remaining, connect=min(patience, remaining))
            wait, away = delay * random.uniform(0.5, 1.0), False  # not all requests at once
            try:
                response = await asyncio.wait_for(self._http.post(self._url, json=request, timeout=timeout), remaining)
                self._answered, advice = True, "see the endpoint's log"
                if response.status_code == 200:
                    return read_answer(response.content, request, stop)
                message = (error_message(response.content) or response.reason_phrase).replace(self._key or "\0", "***")
                cause = f"HTTP status {response.status_code}: {message}"
                if response.status_code in (401, 403):
                    self._fail(start, cause, f"set {KEY_VARIABLE} to a key that it accepts")
                if response.status_code == 429:
                    wait = max(wait, seconds(response.headers.get("retry-after")))
                    advice = "it is busy: lower generator.requests_in_flight"
                elif response.status_code in AWAY:
                    away, advice = True, "is it starting, or overloaded?"
                elif response.status_code >= 500:
                    faults += 1
                else:
                    raise Refused(message)
            except (Unusable, self._httpx.DecodingError) as error:
                cause, advice = f"an answer that cannot be used ({error})", "is it an OpenAI-compatible endpoint?"
                faults += 1
            except (self._httpx.TransportError, asyncio.TimeoutError) as error:
                slow = isinstance(error, (asyncio.TimeoutError, self._httpx.ReadTimeout))
                cause = "timed out" if slow else str(error).rstrip(".") or type(error).__name__
                away, advice = not slow, "is it running, and is generator.url right?"
                if slow:
                    advice = f"it is busy or stuck, or generator.timeout_s = {self._config.timeout_s:g} is short"
            now = time.monotonic()
            away_since = (away_since or now) if away else None
            if away:
                deadline = now + wait + self._config.timeout_s  # the answer's time begins when somebody is there
            if faults >= MAX_FAULTS:
                raise RequestFailedError(self._words(start, cause, advice))
            if now + wait > deadline or (away_since and now + wait - away_since > patience):
                self._fail(start, cause, advice)
            await asyncio.sleep(wait)
            delay = min(2 * delay, LAST_DELAY_S)

    def _fail(self, start: float, cause: str, advice: str) -> NoReturn:
        raise GeneratorError(self._words(start, cause, advice))

    def _words(self, start: float, cause: str, advice: str) -> str:
        elapsed_s = time.monotonic() - start
        return f"no completions from {self._model} at {self._config.url} after {elapsed_s:.1f} s: {cause}; {advice}"

    def close(self) -> None:
        """Abort what is in flight; call it always."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._abort(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _abort(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    def __enter__(self) -> OpenAIGenerator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _api_key(token: str | None) -> str | None:
    """The configured key, else the environment's. It must fit into a header: httpx would show it in its error."""
    key = (token or os.environ.get(KEY_VARIABLE) or "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"generator.token, or {KEY_VARIABLE}, holds characters that no key has")
    return key or None
