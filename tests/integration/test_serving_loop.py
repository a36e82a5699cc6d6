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
"""The serving loop, its clients and what becomes of its processes: real PyTriton, a function in place of a model."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from servers import ROOT, Server

from nemo_prm.config import GeneratorConfig, RewardClientConfig
from nemo_prm.errors import GeneratorError, PromptTooLongError, ServerError
from nemo_prm.serving.client import GenerationClient, RewardClient
from nemo_prm.serving.messages import GenerationRequest, encode_generation_request
from nemo_prm.serving.model_client import ModelClient
from nemo_prm.serving.triton import IDLE_S
from nemo_prm.serving.wire import GENERATION
from nemo_prm.types import SamplingParams

pytest.importorskip("pytriton")

ECHO = str(Path(__file__).with_name("echo_server.py"))
PARAMS = SamplingParams()


def client(url: str, **changes: Any) -> GenerationClient:
    return GenerationClient(GeneratorConfig(url=url, **({"timeout_s": 20.0, "connect_timeout_s": 1.0} | changes)))


def ask(generator: GenerationClient, *prompts: str, n: int = 1, seed: int = 5) -> list[list[str]]:
    return [[c.text for c in row] for row in generator.generate(list(prompts), n, PARAMS, seed)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("echo") / "log", ECHO, "0") as running:
        yield running


# ---- answers ------------------------------------------------------------------------------------------------------


def test_text_passes_through_triton_unchanged(server: Server) -> None:
    prompts = ["a", "NUL\0\0", "\0", "é 漢字 🙂\n\n", "  spaces  ", "x" * 100_000]
    assert ask(client(server.url), *prompts, n=2) == [[f"{p}|5|0", f"{p}|5|1"] for p in prompts]


def test_a_call_larger_than_a_request_is_cut_and_joined(server: Server) -> None:
    prompts = [str(i) for i in range(7)]
    assert ask(client(server.url, batch_size=3), *prompts) == [[f"{p}|5|0"] for p in prompts]


def test_a_bad_request_does_not_fail_those_batched_with_it(server: Server) -> None:
    generator = client(server.url)
    before = server.log.read_text().count("batch of")

    def outcome(prompt: str) -> str:
        try:
            return ask(generator, prompt)[0][0]
        except GeneratorError as error:
            return str(error)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(outcome, ["one", "wrong", "two", "", "three"]))
    refusal = f"{server.url} refused the request: "
    assert answers == ["one|5|0", refusal + "I do not like this prompt", "two|5|0", refusal + "prompt 0 is empty",
                       "three|5|0"]  # fmt: skip
    assert server.log.read_text().count("batch of") - before < 4, "the requests did not share a batch"


def test_a_crash_of_the_model_is_an_error_of_the_request_only(server: Server) -> None:
    with pytest.raises(GeneratorError, match="failed on this batch: ZeroDivisionError: the model broke"):
        ask(client(server.url), "crash")
    assert ask(client(server.url), "still here") == [["still here|5|0"]]


def test_prompts_too_long_are_named(server: Server) -> None:
    with pytest.raises(PromptTooLongError, match="2 of 4 prompts were refused, the first is number 1") as caught:
        ask(client(server.url, batch_size=2), "a", "long", "b", "long")
    assert caught.value.indices == (1, 3)


def test_triton_names_what_is_wrong_with_the_inputs(server: Server) -> None:
    good = encode_generation_request(GenerationRequest(["a"], 1, PARAMS, [0]))
    model = ModelClient(GENERATION, GeneratorConfig(url=server.url, timeout_s=5.0))

    def refusal(**changes: Any) -> str:
        inputs = {name: array for name, array in (good | changes).items() if array is not None}
        with pytest.raises(Exception, match=".") as caught:
            model.infer(inputs)
        assert type(caught.value).__name__ == "RequestError"
        return str(caught.value)

    assert "input 'n' data-type is 'FP32', but model 'generation' expects 'INT64'" in refusal(
        n=np.ones((1, 1), np.float32)
    )
    assert "expected number of inputs between 7 and 9 but got 6" in refusal(seed=None, first=None)
    assert refusal(seed=None) == "input 'seed' is missing"  # Triton counts inputs, and `first` makes up for it
    assert "unexpected shape for input 'n'" in refusal(n=np.ones((1, 2), np.int64))
    too_many = encode_generation_request(GenerationRequest(["a"] * 65, 1, PARAMS, [0] * 65))
    assert "batch-size must be <= 64" in refusal(**too_many)
    assert model.infer(good)["texts"][0, 0] == b"a|0|0"


# ---- clients ------------------------------------------------------------------------------------------------------


def test_an_absent_server_is_an_error_within_the_connect_timeout() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refuses, and nobody else takes it
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(
            GeneratorError, match="no answer from model generation .* Connection refused; is it running"
        ):
            ask(client(url, connect_timeout_s=0.5), "a")
        assert time.monotonic() - start < 1.5


def test_a_server_that_does_not_answer_is_an_error_within_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(GeneratorError, match="timed out"):
            ask(client(url, timeout_s=1.0), "a")
        assert time.monotonic() - start < 2.0


def test_a_busy_server_is_an_error_within_the_timeout(server: Server) -> None:
    generator = client(server.url, timeout_s=1.0)
    ask(generator, "warm")
    with pytest.raises(GeneratorError, match="timed out; it is busy or stuck, or timeout_s = 1 is short"):
        ask(generator, "sleep 2")


def test_a_server_of_another_kind_is_named() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_address[1]}"
        with pytest.raises(GeneratorError, match="HTTP status 501"):
            ask(client(url, connect_timeout_s=0.2), "a")
        other.shutdown()


def test_a_server_without_the_model_is_named(server: Server) -> None:
    config = RewardClientConfig(url=server.url, timeout_s=5.0, connect_timeout_s=0.3)
    with pytest.raises(ServerError, match="no answer from model prm .*unknown model"):
        RewardClient(config).score_steps(["p"], ["r\n"])


def test_closing_ends_the_waiting() -> None:
    generator = client("http://127.0.0.1:9", timeout_s=60.0, connect_timeout_s=60.0)
    threading.Timer(0.3, generator.close).start()
    start = time.monotonic()
    with pytest.raises(GeneratorError, match="was closed"):
        ask(generator, "a")
    assert time.monotonic() - start < 2.0


# ---- start and end ------------------------------------------------------------------------------------------------


def run_echo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, ECHO, *arguments], env=own, capture_output=True, text=True, timeout=60)


def test_a_taken_port_is_exit_code_2_and_one_message(server: Server) -> None:
    ended = run_echo(str(server.port))
    assert ended.returncode == 2
    assert ended.stderr == (
        f"error: port {server.port} is taken on 127.0.0.1; end the process that listens there, or choose another with "
        "server.port=...\n"
    )


def test_the_token_is_required_and_a_terminated_server_answers_what_is_in_flight(tmp_path: Path) -> None:
    with Server(tmp_path / "log", ECHO, "0", NEMO_PRM_TOKEN="secret") as server:
        for token in (None, "wrong"):
            with pytest.raises(GeneratorError, match="refused the access token: .* set NEMO_PRM_TOKEN"):
                ask(client(server.url, token=token), "a")
        generator = client(server.url, token="secret")
        assert ask(generator, "a") == [["a|5|0"]]
        with ThreadPoolExecutor(1) as pool:
            in_flight = pool.submit(ask, generator, "sleep 1.5")
            time.sleep(0.5)
            assert server.stop() == 0
            assert in_flight.result() == [["sleep 1.5|5|0"]]
        assert server.all_gone()


def test_an_interrupted_server_ends_cleanly_even_where_the_shell_ignores_interrupts(tmp_path: Path) -> None:
    launcher = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    long_home = str(tmp_path / ("long" * 30))  # no socket's path may be that long: another place is found
    with Server(tmp_path / "log", "-c", launcher, ECHO, "0", PYTRITON_HOME=long_home) as server:
        assert server.stop(signal.SIGINT) == 0
        assert server.all_gone()


def test_a_killed_server_leaves_nothing_and_clients_survive_its_restart(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="h") as home,  # tmp_path is too long for a socket
        Server(tmp_path / "log", ECHO, "0", PYTRITON_HOME=home) as server,
    ):
        generator = client(server.url, reconnect_timeout_s=20.0)
        assert ask(generator, "before") == [["before|5|0"]]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask, generator, "sleep 1")
            time.sleep(0.5)
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL
            assert server.all_gone(timeout_s=5.0), server.processes()
            assert os.listdir(home) == []
            with Server(tmp_path / "log", ECHO, str(server.port)):
                assert waiting.result() == [["sleep 1|5|0"]]


def kill(server: Server, victim: str) -> None:
    for process in server.processes():
        if Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0].endswith(f"/{victim}".encode()):
            os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["tritonserver", "triton_python_backend_stub"])
def test_a_server_that_lost_triton_starts_it_again(tmp_path: Path, victim: str) -> None:
    with Server(tmp_path / "log", ECHO, "0") as server:
        generator = client(server.url, reconnect_timeout_s=30.0)
        assert ask(generator, "before") == [["before|5|0"]]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask, generator, "sleep 1")
            time.sleep(0.5)
            kill(server, victim)
            assert waiting.result() == [["sleep 1|5|0"]]
        assert "Triton or a stub of it was killed" in server.log.read_text()
        time.sleep(IDLE_S + 1.0)  # what ends the old one must leave the new one alone
        assert ask(generator, "after") == [["after|5|0"]]
        assert server.log.read_text().count("was killed") == 1
        assert server.stop() == 0
        assert server.all_gone()


def test_a_server_that_loses_triton_again_and_again_ends_with_code_2(tmp_path: Path) -> None:
    with Server(tmp_path / "log", ECHO, "0") as server:
        for deaths in range(1, 5):
            while server.log.read_text().count("ready on") < deaths:
                assert server.process.poll() is None
                time.sleep(0.1)
            kill(server, "tritonserver")
        assert server.process.wait(30) == 2
        assert "that was the 4th time within the hour" in server.log.read_text()
        assert server.all_gone()
