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
"""The verifier server as its clients meet it: the real script, PyTriton and sandbox; several hosts, and their loss."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from servers import ROOT, Server

from nemo_prm.config import RewardClientConfig, SandboxConfig, VerifierClientConfig
from nemo_prm.data.jsonl import write_jsonl
from nemo_prm.data.problems import problem_to_json
from nemo_prm.data.rows import read_label_rows
from nemo_prm.errors import ConfigError, RequestError, ServerError
from nemo_prm.sandbox.level import bubblewrap, offered_levels
from nemo_prm.serving.model_client import HTTPFailure, ModelClient
from nemo_prm.serving.verifier_client import VerifierClient, open_verifier
from nemo_prm.serving.watchdog import model_folders
from nemo_prm.serving.wire import VERIFIER, encode_text
from nemo_prm.types import Problem, TestCase, Verdict

pytest.importorskip("pytriton")

SCRIPT = "scripts/serve_verifier.py"
ADD = Problem(
    "add",
    "Add two numbers.",
    tests=tuple(TestCase("call", args=(n, 10**6), expected=n + 10**6) for n in range(4)),
    public_tests=(TestCase("call", args=(1, 2), expected=3),),
    entry_point="add",
    time_limit_s=5.0,
)
ECHO = Problem("echo", "Print the input.", tests=(TestCase("stdio", stdin="a\n", stdout="a\n"),), time_limit_s=5.0)
ONE = Problem(
    "one",
    "def one():\n",
    tests=(TestCase("code", code="def check(candidate):\n    assert candidate() == 1, 'it is 1'\n"),),
    entry_point="one",
    program_prefix="def one():\n",
)
RIGHT = "def add(a, b):\n    return a + b\n"
HALF = "def add(a, b):\n    return a + b if a % 2 else 0\n"
BROKEN = "def add(a, b):\n    return nonsense\n"


def slow(seconds: float) -> str:
    return f"import time\ntime.sleep({seconds})\n{RIGHT}"


def client(*urls: str, pass_rates: bool = False, **remote: Any) -> VerifierClient:
    settings: dict[str, Any] = {"timeout_s": 30.0, "connect_timeout_s": 2.0, **remote}
    config = VerifierClientConfig(urls=list(urls), **settings)
    return VerifierClient(SandboxConfig(minimum_level="rlimits", remote=config), pass_rates)


def model(url: str, **changes: Any) -> ModelClient:
    return ModelClient(VERIFIER, RewardClientConfig(url=url, timeout_s=20.0, **changes))


def statuses(verdicts: list[Verdict]) -> list[str]:
    return [verdict.status for verdict in verdicts]


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    write_jsonl(path, map(problem_to_json, (ADD, ECHO, ONE)))
    return path


def start(folder: Path, problems: Path, *options: str, port: int = 0, **environment: str) -> Server:
    """A server whose metrics are in `folder`; two instances, for each takes seconds to end."""
    where = (f"problems={problems}", f"metrics={folder}", f"server.port={port}")
    settings = ("sandbox.minimum_level=rlimits", "concurrent_batches=2")
    return Server(folder / "log", SCRIPT, *where, *settings, *options, **environment)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, problems: Path) -> Iterator[dict[str, Server]]:
    """Three servers, started together; one will be lost, and one fall ill."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("well", "lost", "ill")}
    paths = os.pathsep.join([str(folders["ill"]), os.environ["PATH"]])
    if found := bubblewrap():
        wrapper = folders["ill"] / "bwrap"
        wrapper.write_text(f'#!/bin/sh\nexec "{found}" "$@"\n')
        wrapper.chmod(0o755)
    with ThreadPoolExecutor() as pool:
        started = {name: pool.submit(start, folder, problems, PATH=paths) for name, folder in folders.items()}
        yield {name: future.result() for name, future in started.items()}
        for future in started.values():
            pool.submit(future.result().end)


@pytest.fixture(scope="module")
def server(hosts: dict[str, Server]) -> Server:
    return hosts["well"]


def descendants(process: int) -> list[int]:
    """Children of all its threads, and theirs."""
    paths = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(child) for path in paths for child in path.read_text().split()]
    return children + [other for child in children for other in descendants(child)]


def judged(folder: Path) -> dict[str, Any]:
    """The last line of a server's metrics."""
    row: dict[str, Any] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return row


# ---------------------------------------------------------------- verdicts


def test_verdicts_come_in_order_and_whole(server: Server) -> None:
    kinds = [
        (ADD, RIGHT, "passed"),
        (ADD, HALF, "wrong_answer"),
        (ECHO, "print(input())", "passed"),
        (ADD, BROKEN, "runtime_error"),
        (ONE, "def one():\n    return 2\n", "wrong_answer"),
        (ECHO, "print('NUL \\0')", "wrong_answer"),
        (ADD, "def", "compile_error"),
    ]
    with client(server.url, batch_size=5) as verifier:
        jobs = [kinds[i % len(kinds)] for i in range(60)]
        verdicts = verifier.verify_many([(problem, program) for problem, program, _ in jobs])
        assert statuses(verdicts) == [status for *_, status in jobs]
        half = verdicts[1]
        assert (half.num_tests, half.num_passed, half.failing_test) == (4, 2, 0)
        assert (half.expected, half.actual) == ("1000000", "0")
        assert half.sandbox and half.level == offered_levels()[0] and half.seconds > 0
        assert verifier.verify_many([]) == []


def test_public_tests_are_served_too_and_others_are_not(server: Server) -> None:
    fits_public = "def add(a, b):\n    return 3\n"
    with client(server.url) as verifier:
        assert verifier.verify(ADD, fits_public).status == "wrong_answer"
        assert verifier.verify(ADD, fits_public, ADD.public_tests).status == "passed"
        both = [verifier.submit(ADD, fits_public), verifier.submit(ADD, fits_public, ADD.public_tests)]
        assert [each.result().status for each in both] == ["wrong_answer", "passed"]
        assert verifier.verify(ADD, RIGHT, list(ADD.tests)).num_tests == 4
        with pytest.raises(ConfigError, match="add: servers judge by the problem's own tests, hidden or public"):
            verifier.verify(ADD, RIGHT, ADD.tests[:1])


def test_a_response_is_judged_without_telling_what_was_expected(server: Server) -> None:
    responses = ["    return 1", "```python\n    return 1\n```", "    return 2", "    return x", "    return"]
    answer = model(server.url).infer({"problem_ids": encode_text(["one"] * 5), "responses": encode_text(responses)})
    assert answer["verdict"].ravel().tolist()[:3] == [b"passed", b"passed", b"wrong_answer"]
    assert answer["passed"].ravel().tolist() == [True, True, False, False, False]
    assert answer["pass_rate"].ravel().tolist() == [1, 1, 0, 0, 0]
    shown = answer["feedback"].ravel().tolist()
    assert shown[2:4] == [b"Test 1 of 1: wrong answer", b"Test 1 of 1: runtime error: NameError"]
    answer = model(server.url).infer(
        {"problem_ids": encode_text(["add"] * 2), "responses": encode_text([HALF, BROKEN])}
    )
    assert answer["pass_rate"].ravel().tolist() == [0.5, 0.0]
    wrong, error = answer["feedback"].ravel().tolist()
    assert wrong == b"Test 1 of 4: wrong answer"
    assert error.startswith(b"Test 1 of 4: runtime error: ") and b"NameError: name 'nonsense' is not defined" in error
    for name, array in answer.items():
        assert (
            array.dtype == np.dtype(next(s.dtype for s in VERIFIER.outputs if s.name == name)) or array.dtype == object
        )
        assert not any(b"1000000" in item for item in array.ravel().tolist() if isinstance(item, bytes))


def test_label_asks_the_servers(server: Server, problems: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "responses.jsonl", [{"problem_id": "add", "response": RIGHT}] * 2)
    options = (f"problems={problems}", f"responses={tmp_path}/responses.jsonl", f"output={tmp_path}/labels.jsonl")
    hosts = (f"sandbox.remote.urls=[{server.url}]", "sandbox.minimum_level=rlimits")
    command = [sys.executable, "scripts/label.py", *options, *hosts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = read_label_rows(tmp_path / "labels.jsonl")
    assert [row.response_class for row in rows] == ["correct"] * 2
    assert all(row.sandbox.startswith("nemo-prm-verifier/") for row in rows)


# ---------------------------------------------------------------- refusals


def test_a_bad_request_is_refused_alone(server: Server) -> None:
    good = {"problem_ids": encode_text(["add"]), "programs": encode_text([slow(0.3)])}
    asked = model(server.url)
    refusals = {
        "problem 'nope' is not among the 3 of problems=": good | {"problem_ids": encode_text(["nope"])},
        "either responses or programs, got neither": {"problem_ids": good["problem_ids"]},
        "program 0 is not UTF-8": good | {"programs": np.array([[b"\xff"]], dtype=object)},
        "problem 'echo' has no public tests": good
        | {"problem_ids": encode_text(["echo"]), "public": np.array([[True]])},
        "data-type is 'FP32', but model 'verifier' expects 'BYTES'": good | {"programs": np.ones((1, 1), np.float32)},
        "batch-size must be <= 256": {name: np.repeat(array, 257, axis=0) for name, array in good.items()},
    }
    with ThreadPoolExecutor(12) as pool:
        fine = [pool.submit(asked.infer, good) for _ in range(6)]
        for message, inputs in refusals.items():
            with pytest.raises(RequestError, match=message):
                asked.infer(inputs)
        assert all(future.result()["passed"].item() for future in fine)


def test_a_problem_that_differs_from_the_servers_is_refused(server: Server) -> None:
    with client(server.url) as verifier:
        with pytest.raises(ConfigError, match=f"{server.url} refused .* 'add' .* has other tests or limits"):
            verifier.verify_many([(ADD, RIGHT), (replace(ADD, tests=ADD.tests[:1]), RIGHT)])
        with pytest.raises(ConfigError, match="problem 'elsewhere' is not among the 3"):
            verifier.verify(replace(ADD, problem_id="elsewhere"), RIGHT)


def test_options_that_belong_to_the_server_are_refused() -> None:
    remote = VerifierClientConfig(urls=["http://127.0.0.1:1"])
    with pytest.raises(ConfigError, match="sandbox.time_limit_s has no effect on programs that run elsewhere"):
        open_verifier(SandboxConfig(time_limit_s=3.0, remote=remote))
    with pytest.raises(ConfigError, match="stop_at_first_failure must be false: there are no pass rates with it"):
        open_verifier(SandboxConfig(stop_at_first_failure=True), pass_rates=True)


def test_an_absent_server_is_an_error_within_the_connect_timeout() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refuses, and nobody else takes it
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        start_s = time.monotonic()
        remote = VerifierClientConfig(urls=[url], connect_timeout_s=0.5)
        with pytest.raises(
            ServerError, match=f"no answer from model verifier .*{url}: Connection refused.*is it running"
        ):
            open_verifier(SandboxConfig(remote=remote))
        assert time.monotonic() - start_s < 2.0


def test_a_host_that_is_silent_costs_the_timeout_and_no_verdict(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with client(url, timeout_s=1.0) as verifier:
            start_s = time.monotonic()
            with pytest.raises(ServerError, match=f"{url}: timed out"):
                verifier.verify(ADD, RIGHT)
            assert time.monotonic() - start_s < 5
        with client(url, server.url, timeout_s=3.0) as verifier:
            start_s = time.monotonic()
            for _ in range(3):  # it is lost only once
                assert statuses(verifier.verify_many([(ADD, RIGHT)] * 16)) == ["passed"] * 16
            assert time.monotonic() - start_s < 9  # which three time-outs would take


# ---------------------------------------------------------------- token, queue, end


def stub_folders(server: Server) -> list[Path]:
    """Where Triton has unpacked its models."""
    arguments = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in server.processes()}
    return list(model_folders(arguments).values())


def test_a_token_a_full_queue_a_termination_and_what_comes_after(problems: Path, tmp_path: Path) -> None:
    options = ("max_queue=1", "concurrent_batches=1", "max_batch=1", "sandbox.stop_at_first_failure=true")
    with start(tmp_path, problems, *options, NEMO_PRM_TOKEN="secret") as server:
        for token in (None, "wrong"):
            with client(server.url, token=token) as stranger:
                with pytest.raises(ServerError, match="refused the access token: .*; set NEMO_PRM_TOKEN"):
                    stranger.verify(ADD, RIGHT)
        asked = model(server.url, token="secret")
        body, headers = asked.encode({"problem_ids": encode_text(["add"]), "programs": encode_text([slow(0.5)])})

        def attempt(_: int) -> str:
            try:
                return str(asked.attempt(body, headers, 10.0, 2.0)["verdict"].item().decode())
            except HTTPFailure as error:
                return f"{error.status} {error}"

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(attempt, range(8)))
        refused = [answer for answer in answers if answer != "passed"]
        assert 1 <= len(refused) <= 7
        assert all(answer.startswith("503 ") and "maximum queue size" in answer for answer in refused)

        with client(server.url, pass_rates=True, token="secret") as rates:
            assert rates.verify(ADD, RIGHT).passed
            with pytest.raises(ConfigError, match="no test after the first failure, so there are no pass rates"):
                rates.verify(ADD, HALF)

        options = {"token": "secret", "batch_size": 1, "requests_per_host": 8, "reconnect_timeout_s": 1.0}
        with client(server.url, **options) as verifier:
            assert statuses(verifier.verify_many([(ADD, slow(0.1))] * 12)) == ["passed"] * 12  # it tries again
            address, folders = urlsplit(server.url), stub_folders(server)
            assert folders and all(folder.exists() for folder in folders)
            with ThreadPoolExecutor(1) as pool, socket.create_connection((address.hostname, address.port)):
                in_flight = pool.submit(verifier.verify, ADD, slow(1.0))
                time.sleep(0.5)
                start_s = time.monotonic()  # an idle connection does not hold it up for `drain_s`
                assert server.stop(signal.SIGTERM) == 0, server.log.read_text()[-3000:]
                assert time.monotonic() - start_s < 25.0
                assert in_flight.result().passed
            assert not any(folder.exists() for folder in folders)
            start_s = time.monotonic()
            with pytest.raises(ServerError, match="no answer from model verifier at any .*Connection refused"):
                verifier.verify_many([(ADD, RIGHT)] * 20)
            assert time.monotonic() - start_s < 3.0
        assert server.all_gone()
    row = judged(tmp_path)
    assert row["verdicts/passed"] == 14 + len(answers) - len(refused) and row["step"] == row["verdicts/passed"] + 1
    assert row["waiting"] == 0 and row["level"] == offered_levels()[0]


# ---------------------------------------------------------------- several hosts


def test_a_host_that_is_lost_in_the_middle_is_replaced_and_taken_back(
    hosts: dict[str, Server], problems: Path, tmp_path: Path
) -> None:
    programs = [(ADD, slow(0.05)), (ADD, HALF), (ADD, slow(0.05)), (ADD, BROKEN)] * 30
    expected = ["passed", "wrong_answer", "passed", "runtime_error"] * 30
    well, lost = hosts["well"], hosts["lost"]
    with client(well.url, lost.url, reconnect_timeout_s=10.0) as verifier:
        with ThreadPoolExecutor(1) as pool:
            verdicts = pool.submit(verifier.verify_many, programs)
            time.sleep(0.5)
            assert not verdicts.done()
            processes = descendants(lost.process.pid)
            lost.stop(signal.SIGKILL)
            assert statuses(verdicts.result()) == expected
        assert not any(Path(f"/proc/{process}/exe").exists() for process in processes), "boxes and Triton end too"
        assert statuses(verifier.verify_many(programs[:8])) == expected[:8]
        with start(tmp_path, problems, port=lost.port) as back:
            time.sleep(1.0)
            assert statuses(verifier.verify_many(programs)) == expected
            assert back.stop() == 0
    assert 30 < judged(tmp_path)["step"] < 90, "the load was not spread"


@pytest.mark.skipif("namespaces" not in offered_levels(), reason="needs bubblewrap")
def test_an_ill_host_is_no_verdict_where_another_is_well(hosts: dict[str, Server]) -> None:
    well, ill = hosts["well"], hosts["ill"]
    with client(ill.url) as alone, client(well.url, ill.url) as both:
        assert alone.verify(ADD, RIGHT).passed
        (ill.log.parent / "bwrap").unlink()  # its boxes cannot be made again
        for process in descendants(ill.process.pid):
            if b"zygote.py" in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGKILL)
        verdict = alone.verify(ADD, RIGHT)
        assert verdict.status == "infra_error" and verdict.message
        assert statuses(both.verify_many([(ADD, RIGHT), (ADD, HALF)] * 8)) == ["passed", "wrong_answer"] * 8
