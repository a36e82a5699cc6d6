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
"""What a client makes of answers that no server of ours should give."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Iterator

import pytest

from nemo_prm.config import RewardClientConfig
from nemo_prm.errors import ServerError
from nemo_prm.serving.client import RewardClient
from nemo_prm.serving.model_client import MAX_SERVER_FAULTS

pytest.importorskip("tritonclient.http", reason="clients need it")

REWARDS = {"name": "line_rewards", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 0.5]}
SCORES = {"name": "line_scores", "datatype": "FP32", "shape": [1, 2], "data": [float("nan"), 0.5]}
COUNTS = {"name": "num_lines", "datatype": "INT64", "shape": [1, 1], "data": [1]}


@pytest.fixture
def server() -> Iterator[tuple[str, list[list[dict[str, Any]]]]]:
    """An address, and the answers to give, in turn."""
    answers: list[list[dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"model_name": "prm", "outputs": answers.pop(0)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", answers
    httpd.shutdown()
    httpd.server_close()


def test_an_answer_that_lacks_something_is_asked_for_again(server: tuple[str, list[Any]]) -> None:
    url, answers = server
    answers += [[REWARDS], [REWARDS, SCORES, COUNTS]]
    with RewardClient(RewardClientConfig(url)) as client:
        assert client.score_steps(["a"], ["b"]) == [[0.5]]
        answers += [[REWARDS, SCORES]] * MAX_SERVER_FAULTS
        with pytest.raises(ServerError, match="an answer without num_lines; is it another version of the server?"):
            client.score_steps(["a"], ["b"])
    assert not answers
