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
"""An HTTP server that answers /v1/completions as vLLM does, and misbehaves when told to."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Callable

MAX_MODEL_LEN = 100  # tokens; a word of the prompt is one

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""


class Endpoint:
    """A context manager; `faults` are taken one per request, in order, before it answers as it should.

    A fault is a function of the request that returns an answer, or None to close the connection without one. A
    completion is a function of prompt, seed and nothing else: choice j has seed + j, as vLLM's has. `policy`
    answers in place of `complete`.
    """

    def __init__(
        self,
        *faults: Callable[[dict[str, Any]], Answer | None],
        policy: Callable[[dict[str, Any]], Answer | None] | None = None,
        port: int = 0,
    ) -> None:
        self.policy = policy or complete
        self.faults, self.requests, self.headers = list(faults), [], []  # type: ignore[var-annotated]
        self.in_flight = self.most_in_flight = self.aborted = 0
        self.delay_s = 0.0
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                endpoint._connections.add(self.connection)

            def finish(self) -> None:
                endpoint._connections.discard(self.connection)
                super().finish()

            def do_POST(self) -> None:
                endpoint._handle(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", port), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.requests.append(request)
            self.headers.append(dict(handler.headers))
            fault = self.faults.pop(0) if self.faults else None
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            time.sleep(self.delay_s)
            answer = fault(request) if fault else self.policy(request)
            if handler.path != "/v1/completions":
                answer = refuse(404, "Not Found")
            if answer is None:
                handler.close_connection = True
                return
            status, headers, body = answer
            handler.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            self.aborted += 1
        finally:
            with self._lock:
                self.in_flight -= 1

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):  # as if the process had died
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def text_of(prompt: str, seed: int) -> str:
    rng = random.Random(f"{prompt}/{seed}")
    return " ".join(rng.choice(["alpha", "beta", "gamma", "é"]) for _ in range(rng.randint(1, 6)))


def complete(request: dict[str, Any]) -> Answer:
    """What vLLM would answer."""
    used, wanted = len(request["prompt"].split()), request["max_tokens"]
    if used + wanted > MAX_MODEL_LEN:
        return refuse(
            400,
            f"This model's maximum context length is {MAX_MODEL_LEN} tokens. However, you requested {used + wanted} "
            f"tokens ({used} in the messages, {wanted} in the completion). Please reduce the length.",
        )
    choices, tokens = [], 0
    for index in range(request["n"]):
        words = text_of(request["prompt"], request["seed"] + index).split(" ")
        reason = "stop" if len(words) <= wanted else "length"
        text = " ".join(words[:wanted])
        tokens += len(words[:wanted])
        for string in request.get("stop", []):
            text = text.partition(string)[0]
        choices.append({"index": index, "text": text, "finish_reason": reason, "logprobs": None})
    return answer({"choices": choices[::-1], "usage": {"prompt_tokens": used, "completion_tokens": tokens}})


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    return status, headers, json.dumps(body).encode()


def refuse(status: int, message: str, **headers: str) -> Answer:
    return answer({"object": "error", "message": message, "code": status}, status, **headers)
