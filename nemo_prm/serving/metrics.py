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
"""What a server shows to Prometheus: its own numbers and Triton's, at one address."""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Iterator, Mapping, Sequence

from nemo_prm.config import ServerConfig
from nemo_prm.errors import RequestError, ServerError

TRITON_TIMEOUT_S = 5.0
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """Counts answers; `nemo_prm_*` in what `serve` shows."""

    def __init__(self) -> None:
        """
        Raises:
            ServerError: prometheus_client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError as error:
            raise ServerError(
                f"server.metrics_port needs prometheus_client ({error}): pip install prometheus_client"
            ) from error
        self._registry = CollectorRegistry()
        self._counters: dict[str, Mapping[str, int]] = {}
        self._registry.register(self)  # type: ignore[arg-type]
        self._requests = Counter(
            "nemo_prm_requests", "Requests answered.", ["model", "answer"], registry=self._registry
        )
        self._seconds = Histogram(
            "nemo_prm_batch_seconds", "How long a batch took, less its queue.", ["model"], registry=self._registry
        )
        self._batch = Histogram(
            "nemo_prm_batch_requests",
            "Requests in a batch.",
            ["model"],
            buckets=BATCH_BUCKETS,
            registry=self._registry,
        )

    def observe(self, model: str, answers: Sequence[Any], seconds: float) -> None:
        """Count a batch: its answers are outputs, `RequestError`s (refused) or error responses (failed)."""
        from nemo_prm.serving.triton import ERROR_OUTPUT

        for answer in answers:
            refused = isinstance(answer, RequestError)
            failed = isinstance(answer, Mapping) and ERROR_OUTPUT in answer
            self._requests.labels(model, "refused" if refused else "failed" if failed else "ok").inc()
        self._seconds.labels(model).observe(seconds)
        self._batch.labels(model).observe(len(answers))

    def watch(self, model: str, counters: Mapping[str, int]) -> None:
        """Show a model's own counters, as they are when they are asked for."""
        self._counters[model] = counters

    def collect(self) -> Iterator[Any]:
        """The models' counters, for the registry."""
        from prometheus_client.core import CounterMetricFamily

        for model, counters in self._counters.items():
            for name, value in counters.items():
                family = CounterMetricFamily(f"nemo_prm_{name}", f"Of the model's own: {name}.", labels=["model"])
                family.add_metric([model], value)
                yield family

    @contextlib.contextmanager
    def serve(self, config: ServerConfig, triton_url: str) -> Iterator[None]:
        """Answer `GET /metrics` at `config.metrics_port` meanwhile.

        Args:
            config: address.
            triton_url: of Triton's metrics.
        """
        from prometheus_client import generate_latest

        def page() -> bytes:
            own: bytes = generate_latest(self._registry)
            try:
                with urllib.request.urlopen(triton_url, timeout=TRITON_TIMEOUT_S) as answer:
                    return own + bytes(answer.read())
            except OSError as error:
                return own + f"# Triton's metrics are missing: {error}\n".encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path.split("?")[0] == "/metrics"
                content = page() if found else b"see /metrics\n"
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Scrapes are no news."""

        assert config.metrics_port is not None
        with ThreadingHTTPServer((config.host, config.metrics_port), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()
