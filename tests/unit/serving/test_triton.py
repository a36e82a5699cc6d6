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
"""What is checked before a server starts."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nemo_prm.config import ServerConfig
from nemo_prm.errors import ConfigError, ServerError
from nemo_prm.serving.triton import check_address, python_library, use_python_library
from nemo_prm.serving.wire import resolve_token


@pytest.fixture(autouse=True)
def single_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NEMO_PRM_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_a_taken_port_is_refused_and_free_again_afterwards() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        config = ServerConfig(port=other.getsockname()[1])
        with pytest.raises(ServerError, match=rf"port {config.port} is taken on 127.0.0.1; .*server.port="):
            check_address(config)
    check_address(config)


def test_port_zero_becomes_a_free_port_that_is_no_clients() -> None:
    config = ServerConfig(port=0, metrics_port=0)
    check_address(config)
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 0 < config.port < first_of_clients and 0 < config.metrics_port < first_of_clients


def test_an_address_open_to_others_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerError, match="host 0.0.0.0 can be reached from other machines, so a token is needed"):
        check_address(ServerConfig(host="0.0.0.0", port=0))
    check_address(ServerConfig(host="0.0.0.0", port=0, token="secret"))
    monkeypatch.setenv("NEMO_PRM_TOKEN", "secret")
    check_address(ServerConfig(host="0.0.0.0", port=0))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServerError, match=r"cannot listen on 192.0.2.1:\d+: Cannot assign requested address"):
        check_address(ServerConfig(host="192.0.2.1", port=0, token="secret"))  # reserved for documentation


def test_a_name_becomes_the_address_that_triton_can_take() -> None:
    config = ServerConfig(host="localhost", port=0)
    check_address(config)
    assert config.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ServerConfig(host="::1", port=0), "host '::1' has no IPv4 address"),
        (ServerConfig(host="no.such.host.invalid", port=0), "has no IPv4 address"),
        (ServerConfig(port=70000), r"server.port must lie in \[0, 65535\], got 70000"),
        (ServerConfig(port=0, metrics_port=-1), r"server.metrics_port must lie in \[0, 65535\], got -1"),
        (ServerConfig(port=5000, metrics_port=5000), "server.port and server.metrics_port are both 5000"),
    ],
)
def test_addresses_on_which_nothing_can_listen(config: ServerConfig, message: str) -> None:
    with pytest.raises(ServerError, match=message):
        check_address(config)


@pytest.mark.parametrize("token", ["日本", "a\nb", "a\x7f"])
def test_a_token_that_http_cannot_carry_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="a token must be of printable ASCII characters"):
        resolve_token(token)
    assert resolve_token(" from a file\r\n") == "from a file"


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_only_rank_zero_needs_the_port(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        config = ServerConfig(port=other.getsockname()[1])
        monkeypatch.setenv(variable, "1")
        check_address(config)
        monkeypatch.setenv(variable, "0")
        with pytest.raises(ServerError, match="is taken"):
            check_address(config)


@pytest.mark.skipif(python_library() is None, reason="this Python was built without a shared library")
def test_the_interpreters_library_comes_first_for_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    library = python_library()
    assert library is not None and library.is_file()
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    use_python_library()
    use_python_library()
    assert os.environ["LD_LIBRARY_PATH"] == f"{library.parent}:/somewhere"
