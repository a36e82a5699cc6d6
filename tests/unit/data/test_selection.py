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
"""The four strategies of PSGPO on a set small enough to read."""

from __future__ import annotations

import pytest

from nemo_prm.data.selection import STRATEGIES, prompt_classes, select, selection_manifest, split_by_problem, summarize
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.types import Cost, LabelRow, ResponseClass, Step

LABELS: dict[str, tuple[float, ...]] = {"correct": (1, 0, 1), "revised": (1, 0, -1), "wrong": (-1, 0, -1)}


def row(problem: str, number: int, response_class: ResponseClass, empty: bool = False) -> LabelRow:
    steps = () if empty else (Step(0, 2), Step(2, 4, "comment"), Step(4, 6))
    labels = () if empty else LABELS[response_class]
    text = "" if empty else "a\n#\nb\n"
    return LabelRow(
        problem, f"r{number}", "policy", "", text, steps, labels, response_class, (), Cost(), 0, "g", "s"
    )  # fmt: skip


def rows_of(**classes: str) -> list[LabelRow]:
    names: dict[str, ResponseClass] = {"c": "correct", "r": "revised", "w": "wrong"}
    return [row(problem, i, names[c]) for problem, letters in classes.items() for i, c in enumerate(letters)]


ROWS = rows_of(easy="cc", hard="ww", mixed="cw", revised="rr", all="crw")


def test_prompt_classes() -> None:
    assert prompt_classes(ROWS) == {
        "easy": "easy",
        "hard": "hard",
        "mixed": "medium",
        "revised": "medium",
        "all": "medium",
    }


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("full", "easy0 easy1 hard0 hard1 mixed0 mixed1 revised0 revised1 all0 all1 all2"),
        ("remove_hard", "easy0 easy1 mixed0 mixed1 revised0 revised1 all0 all1 all2"),
        ("medium_only", "mixed0 mixed1 revised0 revised1 all0 all1 all2"),
        ("revised_only", "revised0 revised1 all1"),
    ],
)
def test_strategies(strategy: str, expected: str) -> None:
    assert " ".join(r.problem_id + r.response_id[1:] for r in select(ROWS, strategy)) == expected
    assert strategy in STRATEGIES


def test_nothing_selected_says_what_would_be() -> None:
    with pytest.raises(DataError) as error:
        select(rows_of(a="cc", b="ww"), "revised_only")
    assert "selects none of 4 label rows (correct 2, revised 0, wrong 2)" in str(error.value)
    assert "full 4, remove_hard 2." in str(error.value)
    with pytest.raises(DataError, match="none of 0 label rows.*none would"):
        select([], "full")
    with pytest.raises(DataError, match="none would"):
        select([row("a", 0, "wrong", empty=True)], "full")


def test_unknown_strategy() -> None:
    with pytest.raises(ConfigError, match="must be one of full, remove_hard, medium_only, revised_only, found 'best'"):
        select(ROWS, "best")


def test_split_keeps_problems_together() -> None:
    rows = rows_of(**{f"p{i}": "crw" for i in range(20)})
    split = split_by_problem(rows, 0.1, seed=1)
    held_out = {r.problem_id for r in split.validation}
    assert len(held_out) == 2
    assert not held_out & {r.problem_id for r in split.train}
    assert len(split.train) + len(split.validation) == 60
    assert {r.problem_id for r in split_by_problem(list(reversed(rows)), 0.1, 1).validation} == held_out
    assert {r.problem_id for r in split_by_problem(rows, 0.1, seed=2).validation} != held_out


def test_split_of_few_problems() -> None:
    assert [len(part) for part in split_by_problem(rows_of(a="cr", b="r"), 0.01, 1)] in ([2, 1], [1, 2])
    assert [len(part) for part in split_by_problem(rows_of(a="cr"), 0.5, 1)] == [2, 0]
    assert [len(part) for part in split_by_problem(rows_of(a="cr", b="r"), 0, 1)] == [3, 0]
    with pytest.raises(ConfigError, match="validation_share"):
        split_by_problem(ROWS, 1.0, 1)


def test_a_problem_keeps_the_class_that_all_its_responses_give_it() -> None:
    rows = [*rows_of(a="c"), row("a", 9, "wrong", empty=True)]
    manifest = selection_manifest(rows, "full", 0, seed=1)
    assert manifest["train"]["problems"] == {"easy": 0, "medium": 1, "hard": 0}
    assert (manifest["train"]["num_rows"], manifest["train"]["label_balance"]) == (1, 1.0)
    assert manifest["validation"]["problems"] == {"easy": 0, "medium": 0, "hard": 0}


def test_summary() -> None:
    assert summarize(ROWS) == {
        "responses": {"correct": 4, "revised": 3, "wrong": 4},
        "problems": {"easy": 1, "medium": 3, "hard": 1},
        "labels": {"positive": 4 * 2 + 3, "neutral": 11, "negative": 4 * 2 + 3},
    }
