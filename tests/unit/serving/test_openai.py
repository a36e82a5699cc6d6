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
"""The client of OpenAI-compatible endpoints, against a real HTTP server that misbehaves on demand."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from endpoint import Endpoint, answer, complete, refuse, text_of

from nemo_prm.config import GeneratorConfig
from nemo_prm.errors import ConfigError, GeneratorError, PromptTooLongError
from nemo_prm.serving.openai import OpenAIGenerator
from nemo_prm.serving.openai_messages import request_seed, room_left, share_tokens
from nemo_prm.types import Completion, SamplingParams

PARAMS = SamplingParams(temperature=0.7, top_p=0.9, max_new_tokens=20)


def client(url: str, **changes: Any) -> OpenAIGenerator:
    settings = {"model": "policy", "timeout_s": 20.0, "connect_timeout_s": 10.0, "reconnect_timeout_s": 10.0} | changes
    return OpenAIGenerator(GeneratorConfig(kind="openai", url=url, **settings))


def texts(rows: list[list[Completion]]) -> list[list[str]]:
    return [[completion.text for completion in row] for row in rows]


def test_the_request_is_what_the_endpoint_expects() -> None:
    with Endpoint() as endpoint, client(endpoint.url + "/v1/", token="secret") as generator:
        rows = generator.generate(["a b"], 3, PARAMS, seed=7, first=4)
        generator.generate(["a"], 1, SamplingParams(top_k=5, stop=("\n", "END"), max_new_tokens=9), seed=7)
    first, second = endpoint.requests
    seed = request_seed(7, 4)
    assert first == {
        "model": "policy",
        "prompt": "a b",
        "n": 3,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 20,
        "seed": seed,
    }
    assert texts(rows) == [[text_of("a b", seed + j) for j in range(3)]]
    assert second["top_k"] == 5 and second["stop"] == ["\n", "END"] and second["max_tokens"] == 9
    assert endpoint.headers[0]["Authorization"] == "Bearer secret"


def test_the_key_may_come_from_the_environment_and_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden\n")
    refusal = lambda request: refuse(401, "Incorrect API key sk-hidden")  # noqa: E731
    with Endpoint(refusal) as endpoint, client(endpoint.url) as generator:
        with pytest.raises(
            GeneratorError, match=r"HTTP status 401: Incorrect API key \*\*\*; set OPENAI_API_KEY"
        ) as caught:
            generator.generate(["a"], 1, PARAMS, 1)
    assert endpoint.headers[0]["Authorization"] == "Bearer sk-hidden"
    assert "hidden" not in str(caught.value) and len(endpoint.requests) == 1
    with pytest.raises(ConfigError, match="holds characters that no key has") as bad:
        client(endpoint.url, token="sk-\nhidden")
    assert "hidden" not in str(bad.value)


def test_waves_draw_what_one_call_draws() -> None:
    prompts = ["a", "b c", "a"]
    with Endpoint() as endpoint, client(endpoint.url) as generator:
        at_once = generator.generate(prompts, 20, PARAMS, 3)
        waves = [generator.generate(prompts, n, PARAMS, 3, first) for first, n in ((0, 1), (1, 1), (2, 6), (8, 12))]
        assert [[c.text for wave in waves for c in wave[i]] for i in range(3)] == texts(at_once)
        assert texts(at_once)[0] != texts(at_once)[2]  # a prompt that occurs again
        assert texts(generator.generate(prompts, 2, PARAMS, 4)) != [row[:2] for row in texts(at_once)]


def test_tokens_are_counted_as_far_as_the_endpoint_tells() -> None:
    without = lambda request: answer({"choices": [{"text": "éé", "finish_reason": "stop"}]})  # noqa: E731
    with Endpoint(without) as endpoint, client(endpoint.url) as generator:
        assert generator.generate(["a"], 1, PARAMS, 1) == [[Completion("éé", 1, "stop")]]  # four bytes
        [[one]] = generator.generate(["a"], 1, PARAMS, 1)
        assert one.num_tokens == len(one.text.split())
        [row] = generator.generate(["a"], 8, PARAMS, 1)
        assert sum(c.num_tokens for c in row) == sum(len(c.text.split()) for c in row)
    assert share_tokens(10, [30, 10, 0]) == [7, 3, 0]
    assert share_tokens(0, [5, 5]) == [0, 0]


def test_lengths_and_stop_strings_end_completions() -> None:
    talkative = lambda request: answer({"choices": [{"text": "one\ntwo", "finish_reason": "length"}]})  # noqa: E731
    with Endpoint(talkative) as endpoint, client(endpoint.url) as generator:
        stop = SamplingParams(stop=("\n",), max_new_tokens=20)
        assert generator.generate(["a"], 1, stop, 1) == [[Completion("one", 2, "stop")]]
        short = generator.generate(["a"], 20, SamplingParams(max_new_tokens=2), 1)[0]
        assert {c.finish_reason for c in short} == {"stop", "length"}
        assert all(len(c.text.split()) == 2 for c in short if c.finish_reason == "length")


def test_greedy_asks_once() -> None:
    with Endpoint() as endpoint, client(endpoint.url) as generator:
        [row] = generator.generate(["a"], 4, SamplingParams(temperature=0.0, max_new_tokens=9), 1)
    assert len(row) == 4 and len(set(row)) == 1
    assert [request["n"] for request in endpoint.requests] == [1]


def test_a_prompt_that_leaves_less_room_gets_fewer_tokens_and_one_that_leaves_none_is_named() -> None:
    with Endpoint() as endpoint, client(endpoint.url) as generator:
        assert len(generator.generate(["w " * 90], 2, PARAMS, 1)[0]) == 2
        assert [request["max_tokens"] for request in endpoint.requests] == [20, 10]
        with pytest.raises(
            PromptTooLongError, match="2 of 4 prompts were refused, the first is number 1: This"
        ) as caught:
            generator.generate(["a", "w " * 100, "b", "w " * 300], 2, PARAMS, 1)
    assert caught.value.indices == (1, 3)


@pytest.mark.parametrize(
    ("message", "room"),
    [
        ("This model's maximum context length is 2048 tokens. However, you requested 2148 tokens "
         "(2048 in the messages, 100 in the completion).", 0),
        ("'max_tokens' or 'max_completion_tokens' is too large: 100. This model's maximum context length is 2048 "
         "tokens and your request has 2030 input tokens (100 > 2048 - 2030).", 18),
        ("This model's maximum context length is 4097 tokens, however you requested 5000 tokens "
         "(4000 in your prompt; 1000 for the completion).", 97),
        ("The decoder prompt (length 3000) is longer than the maximum model length of 2048.", None),
    ],
)  # fmt: skip
def test_what_endpoints_tell_of_the_room(message: str, room: int | None) -> None:
    assert room_left(message) == room
    with Endpoint(lambda request: refuse(400, message)) as endpoint, client(endpoint.url) as generator:
        if room == 18:
            assert generator.generate(["a"], 1, PARAMS, 1)
            assert endpoint.requests[1]["max_tokens"] == 18
        else:
            with pytest.raises(PromptTooLongError):
                generator.generate(["a"], 1, PARAMS, 1)


def closed(request: dict[str, Any]) -> None:
    return None


FAULTS = {
    "busy": lambda request: refuse(429, "Too many requests", **{"Retry-After": "0.2"}),
    "failed": lambda request: refuse(500, "Internal Server Error"),
    "away": lambda request: answer("upstream", 503),
    "closed": closed,
    "html": lambda request: (200, {"Content-Type": "text/html"}, b"<html>hello</html>"),
    "empty": lambda request: (200, {}, b""),
    "few": lambda request: answer({"choices": []}),
    "no text": lambda request: answer({"choices": [{"index": 0, "finish_reason": "stop"}]}),
    "null": lambda request: answer({"choices": [{"text": None, "finish_reason": "stop"}]}),
    "aborted": lambda request: answer({"choices": [{"text": "a", "finish_reason": "abort"}]}),
    "half a character": lambda request: (200, {}, b'{"choices": [{"text": "\\ud800", "finish_reason": "stop"}]}'),
    "zipped badly": lambda request: (200, {"Content-Encoding": "gzip"}, b"not gzip"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_passing_fault_costs_only_time(name: str) -> None:
    with Endpoint(FAULTS[name], FAULTS[name]) as endpoint, client(endpoint.url) as generator:
        assert texts(generator.generate(["a"], 1, PARAMS, 1)) == [[text_of("a", request_seed(1, 0))]]
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("busy", "HTTP status 429: Too many requests; it is busy: lower generator.requests_in_flight"),
        ("failed", "HTTP status 500: Internal Server Error; see the endpoint's log"),
        ("away", "HTTP status 503: .*upstream.*; is it starting, or overloaded"),
        ("closed", "Server disconnected.*; is it running, and is generator.url right"),
        ("html", "an answer that cannot be used .JSONDecodeError.*<html>.*; is it an OpenAI-compatible endpoint"),
        ("few", "an answer that cannot be used .0 choices, asked for 1"),
        ("no text", "an answer that cannot be used .KeyError: 'text'"),
        ("aborted", "an answer that cannot be used .finish reasons .'abort'"),
    ],
)
def test_a_lasting_fault_is_one_clear_error(name: str, message: str) -> None:
    patience = {"timeout_s": 2.0, "connect_timeout_s": 0.8, "reconnect_timeout_s": 0.8}
    with Endpoint(*[FAULTS[name]] * 50) as endpoint, client(endpoint.url, **patience) as generator:
        with pytest.raises(GeneratorError, match=f"no completions from policy at {endpoint.url} after .*: {message}"):
            generator.generate(["a"], 1, PARAMS, 1)


def test_a_request_that_would_be_refused_again_is_not_sent_again() -> None:
    unknown = lambda request: refuse(404, "The model 'policy' does not exist.")  # noqa: E731
    with Endpoint(unknown) as endpoint, client(endpoint.url) as generator:
        with pytest.raises(GeneratorError, match="refused the request: The model 'policy' does not exist"):
            generator.generate(["a"], 1, PARAMS, 1)
        with pytest.raises(GeneratorError, match="a prompt is not Unicode: surrogates not allowed"):
            generator.generate(["\ud800"], 1, PARAMS, 1)
    assert len(endpoint.requests) == 1


def test_an_absent_endpoint_is_an_error_within_the_connect_timeout() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refuses, and nobody else takes it
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with client(url, connect_timeout_s=0.3) as generator:
            start = time.monotonic()
            with pytest.raises(GeneratorError, match="is it running, and is generator.url right"):
                generator.generate(["a"], 1, PARAMS, 1)
            assert time.monotonic() - start < 5.0


def test_waiting_for_an_endpoint_to_start_takes_nothing_of_the_answers_time() -> None:
    with Endpoint() as endpoint:
        pass
    with client(endpoint.url, timeout_s=0.5, connect_timeout_s=20) as generator, ThreadPoolExecutor() as pool:
        found = pool.submit(generator.generate, ["a"], 1, PARAMS, 1)
        time.sleep(1.5)
        assert not found.done()
        with Endpoint(port=endpoint.port):
            assert len(found.result(timeout=20)[0]) == 1


def test_a_slow_endpoint_is_an_error_within_the_timeout() -> None:
    with Endpoint() as endpoint, client(endpoint.url, timeout_s=0.4) as generator:
        endpoint.delay_s = 3.0
        with pytest.raises(GeneratorError, match="timed out; it is busy or stuck, or generator.timeout_s = 0.4"):
            generator.generate(["a"], 1, PARAMS, 1)


def test_prompts_are_asked_together_but_not_too_many() -> None:
    prompts = [f"p{i}" for i in range(12)]
    with Endpoint() as endpoint, client(endpoint.url, requests_in_flight=4) as generator:
        endpoint.delay_s = 0.05
        with ThreadPoolExecutor(2) as pool:  # the bound is the client's, however many threads use it
            calls = [pool.submit(generator.generate, prompts, 1, PARAMS, seed) for seed in (1, 2)]
        assert texts(calls[0].result()) == [[text_of(p, request_seed(1, 0))] for p in prompts]
        assert texts(calls[1].result()) == [[text_of(p, request_seed(2, 0))] for p in prompts]
    assert 1 < endpoint.most_in_flight <= 4


def test_a_failure_ends_what_else_the_call_asked() -> None:
    unknown = lambda request: refuse(404, "no such model")  # noqa: E731
    with Endpoint(unknown) as endpoint, client(endpoint.url, requests_in_flight=1) as generator:
        with pytest.raises(GeneratorError, match="no such model"):
            generator.generate([str(i) for i in range(50)], 1, PARAMS, 1)
        assert len(endpoint.requests) <= 2


def test_closing_aborts_what_is_in_flight() -> None:
    with Endpoint() as endpoint:
        endpoint.delay_s = 10.0
        generator = client(endpoint.url)
        threading.Timer(0.3, generator.close).start()
        start = time.monotonic()
        with pytest.raises(GeneratorError, match="was closed"):
            generator.generate(["a", "b"], 1, PARAMS, 1)
        assert time.monotonic() - start < 5.0
        generator.close()
        with pytest.raises(GeneratorError, match="was closed"):
            generator.generate(["a"], 1, PARAMS, 1)


def test_settings_that_cannot_work_are_named() -> None:
    with pytest.raises(ConfigError, match="generator.kind=openai needs generator.model"):
        client("http://127.0.0.1:1", model=None)
    with pytest.raises(ConfigError, match="generator.url must look like http://127.0.0.1:8000, got 'localhost'"):
        client("localhost")


def test_the_server_of_these_tests_is_like_vllm() -> None:
    status, _, body = complete({"prompt": "a", "n": 2, "seed": 5, "max_tokens": 9})
    assert status == 200 and text_of("a", 5).encode("ascii", "backslashreplace")[:4] in body
