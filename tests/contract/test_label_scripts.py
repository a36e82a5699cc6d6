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
from dataclasses import replace
from pathlib import Path

import pytest
from run_scripts import ROOT, error_of, output_of, script, write

from nemo_prm.data.problems import load_problems
from nemo_prm.data.rows import label_row_to_json, read_label_rows
from nemo_prm.types import Cost, LabelRow, Probe, ResponseClass, Step


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
        "labels.jsonl.cache",
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


def test_select_data_says_of_every_strategy_what_it_selects(tmp_path: Path) -> None:
    rows = [row("easy", 0, "correct"), row("hard", 0, "wrong"), row("mixed", 0, "correct"), row("mixed", 1, "wrong")]
    labels = write(tmp_path / "labels.jsonl", [label_row_to_json(r) for r in rows])
    output_of(script("select_data", f"labels=[{labels}]", "output=data", "strategy=full", cwd=tmp_path))
    folder = tmp_path / "data" / "manifests"
    manifests = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()}
    assert {name: m["train"]["num_rows"] + m["validation"]["num_rows"] for name, m in manifests.items()} == {
        "full": 4,
        "remove_hard": 3,
        "medium_only": 2,
        "revised_only": 0,
    }
    full, nothing = manifests["full"], manifests["revised_only"]["train"]
    for name in ("train", "validation"):  # that of the strategy chosen says what the files beside it hold
        written = read_label_rows(tmp_path / "data" / f"{name}.jsonl")
        assert [(r.problem_id, r.response_id) for r in written] == list(map(tuple, full[name]["selected"]))
    assert (full["labels"], full["exclude_problems"], full["strategy"]) == ([labels], ["embedded:test"], "full")
    assert manifests["medium_only"]["train"] == {
        "num_rows": 2,
        "num_problems": 1,
        "responses": {"correct": 1, "revised": 0, "wrong": 1},
        "problems": {"easy": 0, "medium": 1, "hard": 0},
        "labels": {"positive": 2, "neutral": 0, "negative": 2},
        "label_balance": 0.5,
        "selected": [["mixed", "r0"], ["mixed", "r1"]],
    }
    assert (nothing["num_rows"], nothing["label_balance"], nothing["selected"]) == (0, None, [])


def test_labels_of_evaluation_problems_are_refused(tmp_path: Path) -> None:
    held_out = load_problems("embedded:test")[7]
    by_id = replace(row(held_out.problem_id, 0, "revised"), prompt="Something else.")
    by_prompt = replace(row("other", 0, "revised"), prompt=held_out.prompt)
    for number, leak in enumerate((by_id, by_prompt)):
        labels = write(tmp_path / f"{number}.jsonl", [label_row_to_json(r) for r in (row("p", 0, "revised"), leak)])
        message = error_of(script("select_data", f"labels=[{labels}]", "output=data", cwd=tmp_path))
        assert f"problem {leak.problem_id!r}, which is kept for evaluation: embedded:test" in message
        assert repr(held_out.problem_id) in message
    assert not (tmp_path / "data").exists()
    chosen = "exclude_problems=[embedded:validation,humaneval]"
    output_of(script("select_data", f"labels=[{labels}]", "output=data", chosen, cwd=tmp_path))


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
        assert "kept for evaluation" in text and name in text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["label", "select_data", "merge_labels", "export_labels"])
def test_help_is_quick(name: str, tmp_path: Path) -> None:
    started = time.monotonic()
    result = script(name, "--help", cwd=tmp_path)
    assert result.returncode == 0
    words = {"label": "shard", "select_data": "strategy", "merge_labels": "shards", "export_labels": "labels"}
    assert words[name] in result.stdout
    assert time.monotonic() - started < 10


def test_an_override_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    message = error_of(script("label", "output=runs/lr=1e-6/l.jsonl", cwd=tmp_path))
    assert message.startswith("error: output=runs/lr=1e-6/l.jsonl: ")
    assert message.endswith("""where a value holds = , ( or quotes: 'key="value"'""")


def test_a_script_whose_stack_is_not_installed_says_so(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('none', name='torch')")
    command = [sys.executable, str(ROOT / "scripts/serve_generation.py")]
    variables = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    result = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)
    assert error_of(result) == (
        "error: serve_generation.py needs torch, which is not installed: run it in NVIDIA's NeMo container, or "
        "pip install -c constraints.txt '.[nemo]'"
    )
