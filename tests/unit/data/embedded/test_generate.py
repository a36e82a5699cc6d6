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
"""The embedded problem set: as the script makes it, sound, and disjoint between splits."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.data.embedded import split_path
from nemo_prm.data.embedded.chains import LEVELS, SPLITS, Link, policy_texts
from nemo_prm.data.embedded.generate import make_problems, make_tests, mutants, run
from nemo_prm.data.embedded.operations import BY_NAME
from nemo_prm.data.problems import load_problems

ROWS = {split: [json.loads(line) for line in split_path(split).open(encoding="utf-8")] for split in SPLITS}


def call(row: dict[str, Any], test: dict[str, Any]) -> Any:
    space: dict[str, Any] = {}
    exec(row["solution"], space)
    return space["solve"](json.loads(json.dumps(test["args"]))[0])


@pytest.mark.parametrize("split", SPLITS)
def test_the_shipped_file_is_what_the_script_makes(split: str) -> None:
    count = 40  # problems are made one after the other, so the first ones tell
    assert make_problems(split, count, seed=1) == ROWS[split][:count]  # type: ignore[arg-type]
    assert len(ROWS[split]) == {"train": 2100, "validation": 200, "test": 200}[split]


def test_the_script_writes_the_same_bytes(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[4]
    command = [sys.executable, "scripts/make_embedded_problems.py", f"output={tmp_path}/made", "train=8", "test=5"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([*command, "validation=4"], cwd=root, env=environment, check=True, timeout=60)
    for split, count in (("train", 8), ("validation", 4), ("test", 5)):
        shipped = split_path(split).read_bytes().splitlines(keepends=True)
        assert (tmp_path / "made" / f"{split}.jsonl").read_bytes() == b"".join(shipped[:count])


@pytest.mark.parametrize("split", SPLITS)
def test_solutions_pass_their_tests(split: str) -> None:
    for row in ROWS[split]:
        assert 6 <= len(row["tests"]) <= 8 and len(row["public_tests"]) == 2
        inputs = [json.dumps(test["args"]) for test in row["tests"] + row["public_tests"]]
        assert len(set(inputs)) == len(inputs)
        assert len({json.dumps(test["expected"]) for test in row["tests"]}) >= 3
        for test in row["tests"] + row["public_tests"]:
            assert call(row, test) == test["expected"]


def test_hidden_tests_catch_a_wrong_line() -> None:
    chain = (Link(BY_NAME["above"], 3, 0), Link(BY_NAME["descending"], 0, 0), Link(BY_NAME["running"], 0, 0))
    tests = make_tests(chain, random.Random(0))
    assert tests is not None
    wrong = mutants(chain)
    assert [link.expression for link in chain[1:]] in wrong  # an operation dropped
    assert ["[x for x in v if x >= 3]", *(link.expression for link in chain[1:])] in wrong  # a slip
    assert ["[x for x in v if x > 4]", *(link.expression for link in chain[1:])] in wrong  # a parameter off by one
    for expressions in wrong:
        assert any(run(expressions, test["args"][0]) != test["expected"] for test in tests[0]), expressions


def test_a_chain_with_an_idle_operation_makes_no_problem() -> None:
    assert make_tests((Link(BY_NAME["ascending"], 0, 0), Link(BY_NAME["sum"], 0, 0)), random.Random(0)) is None


def test_splits_share_neither_prompts_nor_chains() -> None:
    prompts = {split: {row["prompt"] for row in rows} for split, rows in ROWS.items()}
    chains = {split: {tuple(row["operations"]) for row in rows} for split, rows in ROWS.items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not prompts[one] & prompts[other] and not chains[one] & chains[other]
    assert all(len(prompts[split]) == len(ROWS[split]) for split in SPLITS)
    learned = {text for text, _ in islice(policy_texts(1), 5000)}
    assert not learned & (prompts["validation"] | prompts["test"])


def test_levels_and_lengths_are_balanced() -> None:
    for split, rows in ROWS.items():
        lengths = [row["num_operations"] for row in rows]
        for level, numbers in LEVELS.items():
            assert abs(sum(row["difficulty"] == level for row in rows) - len(rows) / 3) < 1
            assert all(row["num_operations"] in numbers for row in rows if row["difficulty"] == level)
        assert set(lengths) == set(range(2, 9)), split


def test_comments_and_blank_lines_occur_in_training_solutions() -> None:
    marked = [row for row in ROWS["train"] if "#" in row["solution"] or "\n\n" in row["solution"]]
    assert 0.2 < len(marked) / len(ROWS["train"]) < 0.3
    assert any("#" in row["solution"] for row in marked) and any("\n\n" in row["solution"] for row in marked)


@pytest.mark.parametrize("split", SPLITS)
def test_the_loader_reads_it(split: str) -> None:
    problems = load_problems("embedded", split)
    assert [problem.problem_id for problem in problems] == [row["problem_id"] for row in ROWS[split]]
    assert problems[0].entry_point == "solve" and problems[0].extra["num_operations"] == 2


def test_the_three_files_stay_small() -> None:
    assert sum(split_path(split).stat().st_size for split in SPLITS) < 4_000_000
