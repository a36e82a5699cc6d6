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
"""The light scripts against a real generation server: labels, selection, evaluation and report from one small run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from servers import Server

from nemo_prm.data.embedded import policy_path
from nemo_prm.data.manifest import read_labels
from nemo_prm.data.rows import read_label_rows
from nemo_prm.processes import free_ports

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NEMO_PRM_TOKEN": "a-token-of-this-test"}


def run(script: str, *overrides: str, timeout_s: float = 120) -> str:
    result = subprocess.run(
        command(script, *overrides), capture_output=True, text=True, timeout=timeout_s, env=ENVIRONMENT
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def command(script: str, *overrides: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *overrides]


def serve(log: Path, port: int) -> Server:
    options = {"timeout_s": 180.0, "NEMO_PRM_TOKEN": ENVIRONMENT["NEMO_PRM_TOKEN"]}
    return Server(log, "scripts/serve_generation.py", f"server.port={port}", **options)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not policy_path().exists():
        pytest.skip(f"the embedded policy is not at {policy_path()}")
    with serve(tmp_path_factory.mktemp("logs") / "log", *free_ports(1)) as running:
        yield running


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    return f"generator.url={server.url}"


def test_evaluate(url: str, tmp_path: Path) -> None:
    stdout = run("evaluate", f"output={tmp_path}", "limit=6", "samples=4", "k=[1,4]", url)
    results: dict[str, Any] = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "samples.jsonl"]
    assert len(samples) == results["num_samples"] == 24
    assert results["num_problems"] == 6 and results["num_unknown"] == 0 and results["skipped"] == []
    passed = [sample["status"] == "passed" for sample in samples]
    estimate = results["results"]["nemo_prm"]
    # with as many samples for each problem, Pass@1 is the share of samples that passed
    assert estimate["pass@1"] == pytest.approx(sum(passed) / 24)
    solved = {sample["problem_id"] for sample, good in zip(samples, passed) if good}
    assert estimate["pass@4"] == pytest.approx(len(solved) / 6)
    assert estimate["pass@1_ci"][0] <= estimate["pass@1"] <= estimate["pass@1_ci"][1]
    assert sum(bucket["num_samples"] for bucket in results["by_length"].values()) == 24
    assert all(0 < sample["num_tokens"] <= 256 and sample["response"] for sample in samples)
    assert ENVIRONMENT["NEMO_PRM_TOKEN"] not in json.dumps(results)
    assert f"{100 * estimate['pass@1']:.1f} %" in stdout

    again = tmp_path / "again"
    settings = [f"output={again}", "limit=6", "samples=4", "k=[1,4]", "generator.batch_size=8", url]
    run("evaluate", *settings)
    assert (again / "samples.jsonl").read_bytes() == (tmp_path / "samples.jsonl").read_bytes()  # however it is cut


SIZES = ["limit=4", "responses_per_prompt=3", "completions=4"]


@pytest.fixture(scope="module")
def store(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels; `completions.jsonl` beside them has what they were made from."""
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    run("label", f"output={path}", *SIZES, url, f"generator.recording={path.with_name('completions.jsonl')}")
    return path


def labels(store: Path) -> list[tuple[Any, ...]]:
    rows = read_labels(store)
    return [(r.problem_id, r.response_id, r.response, r.labels, r.probes, r.generator) for r in rows]


def test_label_select_report(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "report.html"
    rows = read_label_rows(store)
    assert len(rows) == 12
    again = tmp_path / "replayed.jsonl"
    recording = f"generator.recording={store.with_name('completions.jsonl')}"
    run("label", f"output={again}", *SIZES, recording, "generator.kind=recorded")  # needs no server
    assert labels(again) == labels(store)
    for row in rows:
        assert (row.response_class == "correct") == (row.verdict is not None and row.verdict.passed)
        assert (row.response_class == "revised") == any(probe.num_passed for probe in row.probes)
    run("select_data", f"labels=[{store}]", f"output={tmp_path / 'data'}", "strategy=full")
    parts = [read_label_rows(tmp_path / "data" / f"{name}.jsonl") for name in ("train", "validation")]
    assert sorted(row.response_id for part in parts for row in part) == sorted(row.response_id for row in rows)
    assert not {row.problem_id for row in parts[0]} & {row.problem_id for row in parts[1]}
    run("report", f"labels=[{store}]", f"output={page}", "limit=5")
    text = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert len(json.loads(data)) == 5 and "12 labelled responses" in text


def test_humaneval_is_labelled_with_the_embedded_policy(url: str, tmp_path: Path) -> None:
    """164 problems of another kind than the policy knows: nearly all Wrong, none dropped silently."""
    store = tmp_path / "labels.jsonl"
    sizes = ["responses_per_prompt=1", "completions=1", "sampling.max_new_tokens=64"]
    run("label", "problems=humaneval", f"output={store}", *sizes, url, timeout_s=300)
    rows = read_label_rows(store)
    skipped = json.loads(Path(f"{store}.summary.json").read_text(encoding="utf-8"))["skipped"]
    assert len({row.problem_id for row in rows}) + sum(skipped.values()) == 164 and len(rows) >= 160
    assert sum(row.response_class == "wrong" for row in rows) >= 0.9 * len(rows)
    assert all(label in (-1, 0) for row in rows if row.response_class == "wrong" for label in row.labels)


def test_the_server_is_killed_and_started_again_while_responses_are_labelled(
    server: Server, url: str, store: Path, tmp_path: Path
) -> None:
    """The last test of this server."""
    again, log = tmp_path / "labels.jsonl", tmp_path / "log"
    patience = ["generator.timeout_s=180", "generator.reconnect_timeout_s=180"]
    with log.open("wb") as output:
        label = subprocess.Popen(
            command("label", f"output={again}", *SIZES, *patience, url), stdout=output, stderr=output, env=ENVIRONMENT
        )
    cache = Path(f"{again}.cache")
    while not cache.exists() or cache.read_bytes().count(b"\n") < 15:
        assert label.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.01)
    for process in server.processes():
        os.kill(process, signal.SIGKILL)
    with serve(tmp_path / "server.log", server.port):
        assert label.wait(200) == 0, log.read_text(encoding="utf-8")
    assert labels(again) == labels(store)
