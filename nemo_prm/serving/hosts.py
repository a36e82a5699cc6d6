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
"""Several servers of one model, asked as one: the load is spread, and the loss of a server costs only time."""

from __future__ import annotations

import random
import threading
import time
from http.client import HTTPException
from typing import Any, Collection, NamedTuple, NoReturn

from numpy.typing import NDArray

from nemo_prm.config import RewardClientConfig, VerifierClientConfig
from nemo_prm.errors import RequestError, ServerError
from nemo_prm.serving.model_client import LAST_DELAY_S, MAX_SERVER_FAULTS, HTTPFailure, ModelClient, describe
from nemo_prm.serving.wire import Arrays, ModelSpec

PROBE_INTERVAL_S = 0.5
FULL = "maximum queue size"  # in Triton's refusal, HTTP 503, of a request that finds the queue full


class RequestFailed(Exception):
    """Servers were there and failed on this request, again and again."""


class Answer(NamedTuple):
    """The outputs, and which host gave them."""

    url: str
    outputs: dict[str, NDArray[Any]]


class _Host:
    """One server: rows of ours in flight there, whether it is there, until when it is full, and its last trouble."""

    def __init__(self, client: ModelClient) -> None:
        self.client, self.url = client, client.config.url
        self.rows, self.there, self.full_until, self.trouble = 0, True, 0.0, "no answer"


class Hosts:
    """Asks the host with the fewest rows in flight; safe to use from many threads.

    A host that does not answer is lost: what it had in flight is asked of the others, and a thread looks whether it
    is back. A host whose queue is full is left alone until it answers one of ours, or for a moment, longer each time.
    """

    def __init__(self, spec: ModelSpec, config: VerifierClientConfig, script: str) -> None:
        """Prepare; connects to nothing yet.

        Args:
            spec: the model to ask.
            config: addresses, token and time-outs.
            script: the script that starts such a server, for messages.

        Raises:
            ConfigError: an address that is none.
        """
        self._name, self._config, self._script = spec.name, config, script
        self._hosts = [
            _Host(ModelClient(spec, RewardClientConfig(url=url, token=config.token), ServerError, script))
            for url in dict.fromkeys(config.urls)
        ]
        self._changed = threading.Condition()  # guards every host's state
        self._closed = threading.Event()
        self._answered = False
        self._none_since: float | None = None  # when the last host was lost

    def __len__(self) -> int:
        return len(self._hosts)

    def wait_ready(self) -> None:
        """Return when a host is ready to be asked.

        Raises:
            ServerError: none is, within `connect_timeout_s`.
        """
        for host in self._hosts:
            if cause := host.client.why_not_ready(self._config.connect_timeout_s):
                self._lose(host, cause)
        self._give_back(self._take(0, (), self._deadline()), 0)

    def ask(self, inputs: Arrays, rows: int, avoid: Collection[str] = ()) -> Answer:
        """Send a request of `rows` rows and wait for its answer; hosts in `avoid` are asked only if need be.

        Raises:
            RequestError: a host refuses this request.
            RequestFailed: hosts have failed on it three times.
            ServerError: every host is lost, silent or full beyond the time-outs, or one refuses the token.
        """
        body, headers = self._hosts[0].client.encode(inputs)
        deadline, delay = self._deadline(), 0.1
        faults: list[str] = []
        while True:
            host = self._take(rows, avoid, deadline)
            limit = max(min(deadline - time.monotonic(), self._config.timeout_s), 0.1)
            try:
                outputs = host.client.attempt(body, headers, limit, min(self._config.connect_timeout_s, limit))
                self._answered, host.full_until = True, 0.0
                return Answer(host.url, outputs)
            except HTTPFailure as error:
                if error.refuses_token:
                    raise ServerError(
                        f"{host.url} refused the access token: {error}; set NEMO_PRM_TOKEN to the server's"
                    ) from error
                if error.refuses_request:
                    raise RequestError(f"{host.url} refused the request: {error}") from error
                if error.is_fault:
                    faults.append(f"{host.url}: {error}")
                    avoid = {host.url, *avoid}
                    if len(faults) >= MAX_SERVER_FAULTS:
                        raise RequestFailed(faults[-1]) from error
                elif FULL in str(error):
                    self._answered, host.trouble = True, "its queue is full"
                    host.full_until = time.monotonic() + delay * random.uniform(0.5, 1.0)  # not all clients at once
                    delay = min(2 * delay, LAST_DELAY_S)
                else:
                    self._lose(host, str(error))
            except (OSError, HTTPException) as error:
                self._lose(host, describe(error))
            finally:
                self._give_back(host, rows)

    def _deadline(self) -> float:
        return time.monotonic() + self._config.timeout_s * len(self._hosts)

    def _take(self, rows: int, avoid: Collection[str], deadline: float) -> _Host:
        """Wait for a host to send `rows` rows to."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._closed.is_set():
                    raise ServerError(f"the client of {self._config.urls} was closed")
                patience = self._config.reconnect_timeout_s if self._answered else self._config.connect_timeout_s
                if self._none_since is not None and now > self._none_since + patience:
                    self._fail(f"is it running ({self._script}), and is the url right?")
                if now > deadline:
                    self._fail(f"it is busy or stuck, or timeout_s = {self._config.timeout_s:g} is short")
                ready = [host for host in self._hosts if host.there and host.full_until <= now]
                if ready:
                    host = min(ready, key=lambda h: (h.url in avoid, h.rows, random.random()))
                    host.rows += rows
                    return host
                self._changed.wait(0.05)

    def _fail(self, advice: str) -> NoReturn:
        troubles = ", ".join(f"{host.url}: {host.trouble}" for host in self._hosts)
        raise ServerError(f"no answer from model {self._name} at any of its hosts ({troubles}); {advice}")

    def _give_back(self, host: _Host, rows: int) -> None:
        with self._changed:
            host.rows -= rows
            self._changed.notify_all()

    def _lose(self, host: _Host, cause: str) -> None:
        with self._changed:
            host.trouble = cause
            if not host.there:
                return
            host.there = False
            if not any(other.there for other in self._hosts):
                self._none_since = time.monotonic()
        threading.Thread(target=self._wait_for_return, args=(host,), daemon=True).start()

    def _wait_for_return(self, host: _Host) -> None:
        while not self._closed.wait(PROBE_INTERVAL_S):
            if cause := host.client.why_not_ready(self._config.connect_timeout_s):
                host.trouble = cause
                continue
            with self._changed:
                host.there, self._none_since = True, None
                self._changed.notify_all()
            return

    def close(self) -> None:
        """End waiting and retrying; requests in flight end with their answer."""
        self._closed.set()
        for host in self._hosts:
            host.client.close()
        with self._changed:
            self._changed.notify_all()
