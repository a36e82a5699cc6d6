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
"""Asks one served model over HTTP: time-outs, retries with back-off, and one clear last error.

The messages are encoded and decoded by `tritonclient`, on which PyTriton's own client is built; the transport is the
standard library's. PyTriton's client takes its server, gRPC and 0.7 s along when imported, waits five minutes for a
server that is not there, and keeps connections that do not survive a restart of the server. tritonclient's transport
must not be shared between threads and leaves an event loop with two file descriptors behind in every thread that
used it. Here each attempt opens a connection of its own (well under a millisecond on loopback), so that a client may
be used from any thread.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import urlsplit

from numpy.typing import NDArray

from nemo_prm.config import GeneratorConfig, RewardClientConfig
from nemo_prm.errors import ConfigError, NemoPrmError, RequestError, ServerError
from nemo_prm.serving.wire import TOKEN_HEADER, Arrays, ModelSpec, resolve_token

MAX_SERVER_FAULTS = 3  # answers of the kind "internal error" before the client gives up
LAST_DELAY_S = 2.0
KEEP_ALIVE = (  # a host that has lost its power or network is noticed after 30 s, however long an answer may take
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
LENGTH_HEADER = "Inference-Header-Content-Length"  # bytes of JSON before the binary tensors


class HTTPFailure(Exception):
    """The server answered, with a status other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def refuses_token(self) -> bool:
        return self.status in (401, 403)

    @property
    def refuses_request(self) -> bool:
        """Whether it would be refused again; a model that is not loaded yet is "unknown"."""
        return self.status == 400 and "unknown model" not in str(self) and "not ready" not in str(self)

    @property
    def is_away(self) -> bool:
        """Whether the server is full, starting or stopping, or its model is not loaded yet."""
        return self.status == 503 or (self.status == 400 and not self.refuses_request)

    @property
    def is_fault(self) -> bool:
        """Whether the server failed on this request; 503 says that it is full, starting or stopping."""
        return self.status >= 500 and self.status != 503


class ModelClient:
    """Asks one served model; every failure ends in `error`, within the time-outs of `config`."""

    def __init__(
        self,
        spec: ModelSpec,
        config: GeneratorConfig | RewardClientConfig,
        error: type[NemoPrmError] = ServerError,
        script: str = "",
        failed: type[NemoPrmError] | None = None,
        seen: threading.Event | None = None,
    ) -> None:
        """Prepare a client; connects to nothing yet.

        Args:
            spec: the model to ask.
            config: address, token and time-outs in seconds.
            error: class of the last error.
            script: the script that starts this server, for the message.
            failed: class of the last error where the server is there, but failed on this request; default: `error`.
            seen: shared by the clients of one server, and set once it has answered any of them: what is away then is
                being restarted.
        """
        parts = urlsplit(config.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"url must look like http://127.0.0.1:5560, got {config.url!r}")
        self.spec, self.config = spec, config
        self._address, self._path = parts.netloc, parts.path.rstrip("/")
        self._connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._error, self._script, self._failed = error, script, failed or error
        self._seen = seen or threading.Event()
        self._closed = threading.Event()

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Send one request and wait for its answer.

        Raises:
            RequestError: the server refuses this request (it would refuse it again).
            NemoPrmError: of the classes given; the server is not there, or lost, or took too long; or it failed.
        """
        start = time.monotonic()
        deadline = start + self.config.timeout_s
        body, headers = self.encode(inputs)
        lost_since, delay, faults = None, 0.1, 0
        while True:
            patience = self.config.reconnect_timeout_s if self._seen.is_set() else self.config.connect_timeout_s
            remaining = max(deadline - time.monotonic(), 0.1)
            advice = f"is it running ({self._script}), and is the url right?"
            try:
                outputs = self.attempt(body, headers, remaining, min(patience, remaining))
                self._seen.set()
                return outputs
            except HTTPFailure as error:
                last: Exception = error
                cause = str(error)
                if error.refuses_token:
                    self._fail(start, f"it refused the access token: {cause}", "set NEMO_PRM_TOKEN to the server's")
                if error.refuses_request:
                    raise RequestError(cause) from error
                faults += error.is_fault
                if faults >= MAX_SERVER_FAULTS:
                    raise self._failed(self._words(start, cause, "see the server's log")) from error
            except (OSError, HTTPException) as error:  # refused, reset, closed, timed out
                last, cause = error, describe(error)
                if self._seen.is_set() and isinstance(error, TimeoutError):
                    advice = f"it is busy or stuck, or timeout_s = {self.config.timeout_s:g} is short"
            now = time.monotonic()
            lost_since = lost_since if lost_since is not None else now
            if isinstance(last, ConnectionError) or getattr(last, "is_away", False):
                deadline = now + delay + self.config.timeout_s  # the answer's time begins when somebody is there
            if now + delay > deadline or now + delay - lost_since > patience:
                self._fail(start, cause, advice, last)
            if self._closed.wait(delay):
                raise self._error(f"the client of {self.config.url} was closed")
            delay = min(2 * delay, LAST_DELAY_S)

    def wait_ready(self) -> None:
        """Return when the model is ready to be asked; needs no token.

        Raises:
            NemoPrmError: of the class given; it is not ready within `connect_timeout_s`.
        """
        start = time.monotonic()
        patience = self.config.connect_timeout_s
        while cause := self.why_not_ready(patience):
            if time.monotonic() + 0.2 - start > patience:
                self._fail(start, cause, f"is it running ({self._script}), and is the url right?")
            time.sleep(0.2)

    def why_not_ready(self, timeout_s: float) -> str:
        """Ask once whether the model is ready; empty when it is."""
        connection = self._connection_class(self._address, timeout=max(timeout_s, 0.1))
        try:
            connection.request("GET", f"{self._path}/v2/models/{self.spec.name}/ready")
            status = connection.getresponse().status
            return "" if status == 200 else f"HTTP status {status}, the model is not ready"
        except (OSError, HTTPException) as error:
            return describe(error)
        finally:
            connection.close()

    def parameters(self) -> dict[str, str]:
        """What the server says about the model, once that is ready: `parameters` of its config.

        Raises:
            NemoPrmError: of the class given; it does not answer.
        """
        self.wait_ready()
        start = time.monotonic()
        connection = self._connection_class(self._address, timeout=self.config.connect_timeout_s)
        token = resolve_token(self.config.token)
        headers = {TOKEN_HEADER: token} if token else {}
        try:
            connection.request("GET", f"{self._path}/v2/models/{self.spec.name}/config", headers=headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            self._fail(start, describe(error), f"is it running ({self._script}), and is the url right?", error)
        finally:
            connection.close()
        if response.status != 200:
            self._fail(start, _error_message(response.status, content), "see the server's log")
        return {name: entry["string_value"] for name, entry in json.loads(content).get("parameters", {}).items()}

    def encode(self, inputs: Arrays) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a request, for `attempt`."""
        try:
            from tritonclient.http import InferenceServerClient, InferInput
            from tritonclient.utils import np_to_triton_dtype
        except ImportError as error:
            raise self._error(f"a client needs tritonclient ({error}): pip install 'tritonclient[http]'") from error
        tensors = []
        for name, array in inputs.items():
            tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        body, json_length = InferenceServerClient.generate_request_body(tensors)
        headers = {"Content-Type": "application/octet-stream"}
        if json_length is not None:
            headers[LENGTH_HEADER] = str(json_length)
        token = resolve_token(self.config.token)
        if token:
            headers[TOKEN_HEADER] = token
        return body, headers

    def attempt(
        self, body: bytes, headers: dict[str, str], timeout_s: float, connect_timeout_s: float
    ) -> dict[str, NDArray[Any]]:
        """Send an encoded request once.

        Raises:
            HTTPFailure: the server answered with another status than 200.
            OSError, http.client.HTTPException: it did not answer.
        """
        from tritonclient.http import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        if self._closed.is_set():
            raise self._error(f"the client of {self.config.url} was closed")
        connection = self._connection_class(self._address, timeout=connect_timeout_s)
        try:
            connection.connect()
            connection.sock.settimeout(timeout_s)
            for level, option, value in KEEP_ALIVE:
                connection.sock.setsockopt(level, option, value)
            connection.request("POST", f"{self._path}/v2/models/{self.spec.name}/infer", body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise HTTPFailure(response.status, _error_message(response.status, content))
        json_length = response.headers.get(LENGTH_HEADER)
        try:
            result = InferenceServerClient.parse_response_body(
                content, header_length=int(json_length) if json_length is not None else None
            )
            outputs = {output.name: result.as_numpy(output.name) for output in self.spec.outputs}
        except (ValueError, LookupError, TypeError, AttributeError, InferenceServerException) as error:
            raise HTTPFailure(500, f"an answer that cannot be read ({type(error).__name__}: {error})") from error
        missing = [name for name, array in outputs.items() if array is None]
        if missing:
            raise HTTPFailure(500, f"an answer without {', '.join(missing)}; is it another version of the server?")
        return outputs

    def _fail(self, start: float, cause: str, advice: str, error: BaseException | None = None) -> NoReturn:
        raise self._error(self._words(start, cause, advice)) from error

    def _words(self, start: float, cause: str, advice: str) -> str:
        seconds = time.monotonic() - start
        return f"no answer from model {self.spec.name} at {self.config.url} after {seconds:.1f} s: {cause}; {advice}"

    def close(self) -> None:
        """End waiting and retrying; requests in flight end at their time-out."""
        self._closed.set()

    def __enter__(self) -> ModelClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _error_message(status: int, content: bytes) -> str:
    """Triton answers errors as {"error": message}; what stands in front of it (a proxy) may not."""
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {status}: {content[:200].decode(errors='replace')}"


def describe(error: BaseException) -> str:
    """Say in a few words why there was no answer."""
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
