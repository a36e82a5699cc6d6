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
"""scripts/label.py and scripts/select_data.py as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.data.problems import load_problems
from nemo_prm.data.rows import label_row_to_json, read_label_rows
from nemo_prm.types import Cost, LabelRow, Probe, ResponseClass, Step

ROOT = Path(__file__).resolve().parents[2]


def script(name: str, *overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *overrides],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def write(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    """The one message of a run that could not start; anything else on stderr, such as a traceback, fails."""
    assert result.returncode == 2, result.stderr
    progress = "response/s"
    lines = [line for line in result.stderr.splitlines() if line.strip() and progress not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]


def test_humaneval_solutions_are_all_correct_without_a_policy(tmp_path: Path) -> None:
    problems = load_problems("humaneval")
    solutions = [{"problem_id": p.problem_id, "response": p.extra["canonical_solution"]} for p in problems]
    path = write(tmp_path / "solutions.jsonl", solutions)
    started = time.monotonic()
    result = script("label", "problems=humaneval", f"responses={path}", "output=labels.jsonl", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - started < 60
    rows = read_label_rows(tmp_path / "labels.jsonl")
    assert len(rows) == 164 and {row.response_class for row in rows} == {"correct"}
    summary = json.loads((tmp_path / "labels.jsonl.summary.json").read_text(encoding="utf-8"))
    assert summary["responses"] == {"correct": 164, "revised": 0, "wrong": 0}
    assert summary["completions"] == 0 and summary["executions"] == 164 and summary["skipped"] == {}
    assert summary["labels"]["negative"] == 0 and summary["labels"]["neutral"] > 0
    assert "correct" in result.stdout and "labels.jsonl" in result.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "labels.jsonl",
        "labels.jsonl.settings.json",
        "labels.jsonl.summary.json",
        "solutions.jsonl",
    ]  # no output folder of Hydra's


PROBLEM = {
    "problem_id": "p",
    "prompt": "Add one.\n",
    "entry_point": "f",
    "tests": [{"kind": "call", "args": [1], "expected": 2}],
}


def test_label_says_what_is_wrong(tmp_path: Path) -> None:
    problems = write(tmp_path / "problems.jsonl", [PROBLEM])
    right = write(tmp_path / "right.jsonl", [{"problem_id": "p", "response": "def f(x):\n    return x + 1\n"}])
    wrong = write(tmp_path / "wrong.jsonl", [{"problem_id": "p", "response": "def f(x):\n    y = 1\n    return y\n"}])
    stranger = write(tmp_path / "stranger.jsonl", [{"problem_id": "q", "response": ""}])
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(PROBLEM) + "\n{\n", encoding="utf-8")

    def message(*overrides: str) -> str:
        return error_of(script("label", *overrides, cwd=tmp_path))

    assert "output" in message(f"problems={problems}")
    assert "no such file" in message("problems=none.jsonl", "output=a.jsonl")
    assert "bad.jsonl:2: not valid JSON" in message(f"problems={bad}", "output=a.jsonl")
    assert "colour" in message(f"problems={problems}", "output=a.jsonl", "colour=red")
    assert "seed" in message(f"problems={problems}", "output=a.jsonl", "seed=soon")
    assert "unknown problem 'q'" in message(f"problems={problems}", f"responses={stranger}", "output=b.jsonl")
    assert "completions must be at least 1" in message(f"problems={problems}", "output=c.jsonl", "completions=0")
    nowhere = ("generator.url=http://127.0.0.1:9", "generator.connect_timeout_s=0.2")
    assert "127.0.0.1:9" in message(f"problems={problems}", f"responses={wrong}", "output=d.jsonl", *nowhere)
    # a response that passes needs no policy
    result = script("label", f"problems={problems}", f"responses={right}", "output=e.jsonl", *nowhere, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "other settings" in message(f"problems={problems}", f"responses={right}", "output=e.jsonl", "seed=2")


def row(problem: str, number: int, response_class: ResponseClass) -> LabelRow:
    labels = {"correct": (1.0, 1.0), "revised": (1.0, -1.0), "wrong": (-1.0, -1.0)}[response_class]
    steps = (Step(0, 2), Step(2, 4))
    probes = () if response_class == "correct" else (Probe(1, 20, int(response_class == "revised")),)
    name, prompt, text = f"r{number}", f"Do {problem}.", "a\nb\n"
    return LabelRow(
        problem, name, "c", prompt, text, steps, labels, response_class, probes, Cost(), 0, "g", "s"
    )  # fmt: skip


CLASSES: tuple[ResponseClass, ...] = ("correct", "revised", "wrong")


def test_select_data(tmp_path: Path) -> None:
    rows = [row(f"p{i}", n, name) for i in range(10) for n, name in enumerate(CLASSES)]
    one = write(tmp_path / "one.jsonl", [label_row_to_json(r) for r in rows[:15]])
    two = write(tmp_path / "two.jsonl", [label_row_to_json(r) for r in rows[15:]])
    result = script("select_data", f"labels=[{one},{two}]", "output=data", "validation_share=0.2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    train, validation = (read_label_rows(tmp_path / "data" / f"{name}.jsonl") for name in ("train", "validation"))
    assert (len(train), len(validation)) == (8, 2)
    assert {r.response_class for r in train + validation} == {"revised"}
    assert not {r.problem_id for r in train} & {r.problem_id for r in validation}
    summary = json.loads((tmp_path / "data" / "summary.json").read_text(encoding="utf-8"))
    assert summary["strategy"] == "revised_only"
    assert summary["available"]["responses"] == {"correct": 10, "revised": 10, "wrong": 10}
    assert summary["train"]["labels"] == {"positive": 8, "neutral": 0, "negative": 8}
    assert "revised_only selects 10 of 30 responses, 8 to train on and 2 to validate" in result.stdout
    again = script("select_data", f"labels=[{one},{two}]", "output=more", "strategy=full", cwd=tmp_path)
    assert "full selects 30 of 30" in again.stdout


def test_select_data_says_what_is_wrong(tmp_path: Path) -> None:
    rows = [row("p", 0, "correct"), row("q", 0, "wrong")]
    labels = write(tmp_path / "labels.jsonl", [label_row_to_json(r) for r in rows])

    def message(*overrides: str) -> str:
        return error_of(script("select_data", "output=data", *overrides, cwd=tmp_path))

    assert "selects none of 2 label rows (correct 1, revised 0, wrong 1)" in message(f"labels=[{labels}]")
    assert "no such file" in message("labels=[none.jsonl]")
    assert "strategy must be one of" in message(f"labels=[{labels}]", "strategy=best")
    assert "is already in" in message(f"labels=[{labels},{labels}]", "strategy=full")
    by_id = write(tmp_path / "by_id.jsonl", [{**PROBLEM, "problem_id": "q"}])
    by_prompt = write(tmp_path / "by_prompt.jsonl", [{**PROBLEM, "problem_id": "other", "prompt": "Do p."}])
    for held_out, name in ((by_id, "'q'"), (by_prompt, "'p'")):
        text = message(f"labels=[{labels}]", "strategy=full", f"exclude_problems=[{held_out}]")
        assert "excludes" in text and name in text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["label", "select_data"])
def test_help_is_quick(name: str, tmp_path: Path) -> None:
    started = time.monotonic()
    result = script(name, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert {"label": "completions", "select_data": "strategy"}[name] in result.stdout
    assert time.monotonic() - started < 10
