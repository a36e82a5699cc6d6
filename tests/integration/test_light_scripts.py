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
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from nemo_prm.data.embedded import policy_path
from nemo_prm.data.rows import read_label_rows
from nemo_prm.processes import Children, free_ports

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NEMO_PRM_TOKEN": "a-token-of-this-test"}


def run(script: str, *overrides: str, timeout_s: float = 120) -> str:
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *overrides]
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=ENVIRONMENT)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not policy_path().exists():
        pytest.skip(f"the embedded policy is not at {policy_path()}")
    (port,) = free_ports(1)
    command = [sys.executable, str(ROOT / "scripts" / "serve_generation.py"), f"server.port={port}"]
    with Children(tmp_path_factory.mktemp("logs"), env=ENVIRONMENT) as children:
        server = children.start("serve_generation", command)
        children.wait_ready(server, port, ["/v2/models/generation/ready"], timeout_s=180)
        yield f"generator.url=http://127.0.0.1:{port}"


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


def test_label_select_report(url: str, tmp_path: Path) -> None:
    store, page = tmp_path / "labels.jsonl", tmp_path / "pages" / "report.html"
    run("label", f"output={store}", "limit=4", "responses_per_prompt=3", "completions=4", url)
    rows = read_label_rows(store)
    assert len(rows) == 12
    for row in rows:
        assert (row.response_class == "correct") == (row.verdict is not None and row.verdict.passed)
        assert (row.response_class == "revised") == any(probe.num_passed for probe in row.probes)
    run("select_data", f"labels=[{store}]", f"output={tmp_path / 'data'}", "strategy=full")
    parts = [read_label_rows(tmp_path / "data" / f"{name}.jsonl") for name in ("train", "validation")]
    assert sorted(row.response_id for part in parts for row in part) == sorted(row.response_id for row in rows)
    assert not {row.problem_id for row in parts[0]} & {row.problem_id for row in parts[1]}
    run("report", f"labels=[{store}]", f"output={page}", "limit=5")
    text = page.read_text(encoding="utf-8")
    assert text.count("<article ") == 5 and "12 responses" in text


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
