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
"""What a user gets wrong, through the real scripts: one clear message, exit code 2, at once, no traceback."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from nemo_prm.data.embedded import policy_path
from nemo_prm.processes import Child, Children, free_ports

ROOT = Path(__file__).resolve().parents[2]
LIGHT_S, HEAVY_S = 20, 120  # bounds on a busy machine; heavy scripts may import the stack first
REFUSED = "generator.url=http://127.0.0.1:9"  # the discard port: nothing listens there


def run(script: str, *overrides: str, timeout: float = LIGHT_S) -> subprocess.CompletedProcess[str]:
    """Run a script as a user would, from another folder."""
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *overrides]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a script that refused to work."""
    output = result.stdout + result.stderr
    assert result.returncode == 2, output
    assert "Traceback" not in output
    last = result.stderr.rstrip().splitlines()[-1]
    assert last.startswith("error: "), output
    assert output.count("error: ") == 1
    return last


def _need_policy() -> None:
    if not policy_path().exists():
        pytest.skip(f"the embedded policy is not at {policy_path()}")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.jsonl"
    tests = [{"kind": "call", "args": [1], "expected": 1}]
    good = {"problem_id": "p", "prompt": "Task", "entry_point": "solve", "tests": tests}
    path.write_text(json.dumps(good) + '\n{"problem_id": "q", "prompt": \n', encoding="utf-8")
    return path


@pytest.fixture
def no_checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "weights.nemo"
    path.write_bytes(b"these are no weights" * 100)
    return path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


READERS = {  # script: how it is told to read a file
    "label": ["problems={path}", "output={out}/labels.jsonl", REFUSED],
    "evaluate": ["problems={path}", "output={out}", REFUSED],
    "select_data": ["labels=[{path}]", "output={out}"],
    "report": ["labels=[{path}]", "output={out}/report.html"],
    "export_labels": ["labels=[{path}]", "output={out}/labels.parquet"],
    "quickstart": ["problems={path}", "output={out}"],
}


@pytest.mark.parametrize("script", READERS)
def test_missing_file(script: str, tmp_path: Path) -> None:
    path = tmp_path / "nowhere.jsonl"
    message = refusal(run(script, *(item.format(path=path, out=tmp_path) for item in READERS[script])))
    assert str(path) in message


@pytest.mark.parametrize("script", READERS)
def test_malformed_line_is_named_by_file_and_line(script: str, tmp_path: Path, broken: Path) -> None:
    message = refusal(run(script, *(item.format(path=broken, out=tmp_path) for item in READERS[script])))
    # In a file of problems the second line is the bad one; as a label store the first is bad already.
    line = 1 if script in ("select_data", "report", "export_labels") else 2
    assert f"{broken}:{line}" in message


@pytest.mark.parametrize("name", ["nowhere.jsonl", "broken.jsonl"])
def test_train_ppo_reads_the_problems_first(name: str, tmp_path: Path, broken: Path) -> None:
    _need_policy()
    message = refusal(run("train_ppo", f"problems={broken.with_name(name)}", f"output={tmp_path / 'rl'}"))
    assert name in message
    assert name != broken.name or f"{broken}:2" in message


@pytest.mark.parametrize("name", ["nowhere", "data"])
def test_train_prm_looks_at_the_label_rows_first(name: str, tmp_path: Path) -> None:
    _need_policy()
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "data" / f"{split}.jsonl").write_text('{"schema": 1\n', encoding="utf-8")
    message = refusal(run("train_prm", f"data={tmp_path / name}", f"output={tmp_path / 'prm'}"))
    assert str(tmp_path / name / "train.jsonl") in message


def test_missing_responses(tmp_path: Path) -> None:
    responses = tmp_path / "nowhere.jsonl"
    message = refusal(run("label", f"responses={responses}", f"output={tmp_path / 'labels.jsonl'}", REFUSED))
    assert str(responses) in message


def test_tensorrt_llm_where_it_is_not() -> None:
    _need_policy()
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() and importlib.util.find_spec("tensorrt_llm"):
        pytest.skip("TensorRT-LLM is here")
    message = refusal(run("serve_generation", "backend=tensorrt_llm", "server.port=0", timeout=HEAVY_S))
    assert "backend=tensorrt_llm needs TensorRT-LLM" in message and "nvcr.io/nvidia/nemo:25.02" in message


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "conf").glob("*.yaml")))
def test_unknown_config_key(script: str) -> None:
    assert "no_such_key" in refusal(run(script, "no_such_key=1"))


LEFT_OUT = ["label", "merge_labels", "select_data", "export_labels", "evaluate", "report", "train_prm", "serve_reward"]


@pytest.mark.parametrize("script", LEFT_OUT)
def test_mandatory_value_left_out(script: str) -> None:
    assert re.search("output|labels|shards|data|checkpoint", refusal(run(script)))


@pytest.mark.parametrize("override", ["limit=many", "limit=[", "sampling.temperature=hot"])
def test_value_of_the_wrong_type(override: str, tmp_path: Path) -> None:
    refusal(run("label", f"output={tmp_path / 'labels.jsonl'}", override))


SERVERS = {"serve_generation": [], "serve_reward": [], "serve_critic": ["output={out}", "value_init=none"]}


@pytest.mark.parametrize("script", SERVERS)
def test_port_taken(script: str, tmp_path: Path, taken_port: int) -> None:
    _need_policy()
    extra = [item.format(out=tmp_path) for item in SERVERS[script]]
    message = refusal(run(script, "checkpoint=embedded", f"server.port={taken_port}", *extra))
    assert str(taken_port) in message


def test_a_policy_is_no_prm() -> None:
    _need_policy()
    assert "has no scalar head: it is a policy" in refusal(run("serve_reward", "checkpoint=embedded", "server.port=0"))


@pytest.mark.parametrize("override", ["+no_such_key=1", "+sampling.temprature=0.5"])
def test_a_key_that_is_added_is_no_option(override: str, tmp_path: Path) -> None:
    message = refusal(run("evaluate", f"output={tmp_path / 'out'}", override))
    assert f"there is no option {override[1:].partition('=')[0]}" in message


def test_a_list_is_asked_for(tmp_path: Path) -> None:
    assert "labels takes a list: 'labels=[...]'" in refusal(
        run("select_data", "labels=a", f"output={tmp_path / 'out'}")
    )


LOADERS = {
    "serve_generation": ["checkpoint={path}"],
    "serve_reward": ["checkpoint={path}"],
    "serve_critic": ["checkpoint={path}", "output={out}"],
    "train_prm": ["policy={path}", "data={out}", "output={out}/prm"],
    "train_ppo": ["policy={path}", "output={out}/rl"],
}


@pytest.mark.parametrize("script", LOADERS)
def test_checkpoint_that_is_no_nemo(script: str, tmp_path: Path, no_checkpoint: Path) -> None:
    message = refusal(run(script, *(item.format(path=no_checkpoint, out=tmp_path) for item in LOADERS[script])))
    assert f"{no_checkpoint} is no .nemo checkpoint" in message


def test_checkpoint_that_was_cut_short(tmp_path: Path) -> None:
    _need_policy()
    path, whole = tmp_path / "cut.nemo", policy_path().read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    overrides = (f"checkpoint={path}", "value_init=none", f"output={tmp_path}", "server.port=0")
    result = run("serve_critic", *overrides, timeout=HEAVY_S)
    assert result.returncode == 2, result.stderr[-3000:]
    assert f"error: {path} cannot be read (unexpected end of data): is it a copy that was cut short?" in result.stderr


@pytest.mark.parametrize("override", ["server.host=null", "+server.foo=1", "server.port=abc"])
def test_options_of_a_server_that_cannot_be(override: str) -> None:
    assert refusal(run("serve_critic", "checkpoint=embedded", "output=x", "value_init=none", override)).startswith(
        "error: server: "
    )


@pytest.mark.parametrize("script", LOADERS)
def test_checkpoint_that_is_missing(script: str, tmp_path: Path) -> None:
    path = tmp_path / "nowhere.nemo"
    message = refusal(run(script, *(item.format(path=path, out=tmp_path) for item in LOADERS[script])))
    assert str(path) in message


@pytest.mark.parametrize("script", ["label", "evaluate"])
def test_server_absent(script: str, tmp_path: Path) -> None:
    started = time.monotonic()
    output = tmp_path / ("labels.jsonl" if script == "label" else "evaluation")
    message = refusal(run(script, f"output={output}", REFUSED, "generator.connect_timeout_s=1", "limit=2"))
    assert "http://127.0.0.1:9" in message and "serve_generation" in message
    assert time.monotonic() - started < 10


def test_train_ppo_without_its_servers(tmp_path: Path) -> None:
    """The policy is loaded by then; what must not happen is a hang."""
    _need_policy()
    ports = ["critic.port=9", "reward.port=9", "remote_critic_rm.connect_timeout_s=1"]
    sizes = ["model.ppo.num_rollout_samples=8", "model.ppo.rollout_micro_batch_size=8", "model.global_batch_size=8"]
    sizes += ["model.micro_batch_size=8", "model.ppo.forward_micro_batch_size=8"]
    sizes += ["model.ppo.length_params.max_length=16"]
    message = refusal(run("train_ppo", f"output={tmp_path / 'rl'}", *ports, *sizes, timeout=HEAVY_S))
    assert "http://127.0.0.1:9" in message


def test_server_that_takes_connections_and_never_answers(tmp_path: Path, taken_port: int) -> None:
    url = f"generator.url=http://127.0.0.1:{taken_port}"
    message = refusal(run("label", f"output={tmp_path / 'labels.jsonl'}", url, "generator.timeout_s=2", "limit=2"))
    assert "timed out" in message


def test_address_that_is_none(tmp_path: Path) -> None:
    message = refusal(run("label", f"output={tmp_path / 'labels.jsonl'}", "generator.url=localhost", "limit=2"))
    assert "'localhost'" in message


@pytest.fixture(scope="module")
def generation_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Children, Child, int]]:
    _need_policy()
    (port,) = free_ports(1)
    command = [sys.executable, str(ROOT / "scripts" / "serve_generation.py"), f"server.port={port}"]
    command.append("server.drain_s=1")
    with Children(tmp_path_factory.mktemp("logs"), env={"PYTHONPATH": str(ROOT)}) as children:
        server = children.start("serve_generation", command)
        children.wait_ready(server, port, ["/v2/models/generation/ready"], timeout_s=120)
        yield children, server, port


def test_server_dies_mid_run(generation_server: tuple[Children, Child, int], tmp_path: Path) -> None:
    """`label` has rows by then; they stay, and a rerun would go on from them."""
    children, server, port = generation_server
    store = tmp_path / "labels.jsonl"
    command = [sys.executable, str(ROOT / "scripts" / "label.py"), f"output={store}"]
    command += [f"generator.url=http://127.0.0.1:{port}", "generator.reconnect_timeout_s=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as labeler:
        try:
            deadline = time.monotonic() + 90
            while not (store.exists() and store.stat().st_size > 0):
                assert labeler.poll() is None and time.monotonic() < deadline, "no row was written"
                time.sleep(0.1)
            children.stop(server)
            killed = time.monotonic()
            stdout, stderr = labeler.communicate(timeout=60)
        finally:
            labeler.kill()
    message = refusal(subprocess.CompletedProcess(command, labeler.returncode, stdout, stderr))
    assert f"http://127.0.0.1:{port}" in message
    assert time.monotonic() - killed < 30
    for line in store.read_text(encoding="utf-8").splitlines():
        json.loads(line)  # whole rows only
