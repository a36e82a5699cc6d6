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
"""A user's problem file is split the same way every time, and nothing of it is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_prm.data.problems import load_problems
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.quickstart.problems import prepare, split
from nemo_prm.types import Problem


def problem(name: str) -> Problem:
    return Problem(problem_id=name, prompt=f"Solve {name}.", tests=())


def write(path: Path, count: int) -> Path:
    lines = [
        {
            "problem_id": f"p{number}",
            "prompt": f"Add {number}.",
            "entry_point": "f",
            "tests": [{"kind": "call", "args": [1], "expected": 1 + number}],
            "source": "mine",
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@given(st.sets(st.text(min_size=1), min_size=2, max_size=40), st.floats(0.01, 0.99))
def test_a_split_keeps_every_problem_in_one_part_and_neither_is_empty(names: set[str], share: float) -> None:
    problems = [problem(name) for name in sorted(names)]
    train, held_out = split(problems, share)
    assert train and held_out
    assert sorted(p.problem_id for p in train + held_out) == sorted(names)
    assert abs(len(held_out) - share * len(problems)) <= 1
    again = split(problems[::-1], share)
    assert {p.problem_id for p in again[1]} == {p.problem_id for p in held_out}


def test_a_split_never_changes_between_releases() -> None:
    train, held_out = split([problem(f"p{number}") for number in range(8)], 0.25)
    assert [p.problem_id for p in held_out] == ["p0", "p7"]
    assert [p.problem_id for p in train] == ["p1", "p2", "p3", "p4", "p5", "p6"]


def test_a_file_becomes_two_files_that_load(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", 8)
    sets = prepare(str(path), tmp_path / "run", 0.25)
    train, held_out = load_problems(sets.train["problems"]), load_problems(sets.held_out["problems"])
    assert (len(train), len(held_out)) == (6, 2)
    assert sorted([*train, *held_out], key=lambda p: p.problem_id) == load_problems(str(path))
    assert sets.files == (sets.train["problems"], sets.held_out["problems"])
    assert sets.excluded == [sets.held_out["problems"]]
    assert "6 to train on and 2 held out" in sets.note


def test_a_single_problem_is_in_both_sets_and_that_is_said(tmp_path: Path) -> None:
    sets = prepare(str(write(tmp_path / "one.jsonl", 1)), tmp_path / "run", 0.25)
    assert load_problems(sets.train["problems"]) == load_problems(sets.held_out["problems"])
    assert "holds one problem" in sets.note
    assert sets.excluded == []


def test_the_embedded_sets_are_two_splits(tmp_path: Path) -> None:
    sets = prepare("embedded", tmp_path / "run", 0.25)
    assert (sets.train["split"], sets.held_out["split"], sets.excluded) == ("train", "test", ["embedded:test"])
    assert all(Path(path).is_file() for path in sets.files)
    assert not (tmp_path / "run").exists()


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl"):
        prepare(str(tmp_path / "none.jsonl"), tmp_path / "run", 0.25)
    bad = write(tmp_path / "bad.jsonl", 2)
    bad.write_text(bad.read_text() + '{"problem_id"\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:3"):
        prepare(str(bad), tmp_path / "run", 0.25)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_outside_of_0_and_1_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="held_out_share"):
        prepare("embedded", tmp_path, share)
