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
"""Which labelled responses train the PRM: the four strategies of PSGPO, arXiv 2410.17621, section 4.3 and Table 2."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, Callable, Iterable, Literal, Mapping, NamedTuple, Sequence

from nemo_prm import __version__
from nemo_prm.data.thoughts import with_thoughts
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.types import LabelRow, Problem

PromptClass = Literal["easy", "medium", "hard"]

_KEEPS: dict[str, Callable[[LabelRow, PromptClass], bool]] = {
    "full": lambda row, prompt_class: True,
    "remove_hard": lambda row, prompt_class: prompt_class != "hard",
    "medium_only": lambda row, prompt_class: prompt_class == "medium",
    "revised_only": lambda row, prompt_class: row.response_class == "revised",
}
STRATEGIES = tuple(_KEEPS)


class Split(NamedTuple):
    train: list[LabelRow]
    validation: list[LabelRow]


def prompt_classes(rows: Sequence[LabelRow]) -> dict[str, PromptClass]:
    """Return the class of each problem: easy (all responses correct), hard (all wrong), medium (anything else)."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.problem_id, set()).add(row.response_class)
    single: dict[str, PromptClass] = {"correct": "easy", "wrong": "hard", "revised": "medium"}
    return {name: single[next(iter(kinds))] if len(kinds) == 1 else "medium" for name, kinds in found.items()}


def select(rows: Sequence[LabelRow], strategy: str) -> list[LabelRow]:
    """Return the rows that `strategy` keeps, in order; rows without a step have no label and are never kept.

    Raises:
        ConfigError: there is no such strategy.
        DataError: nothing is kept; says what other strategies would keep.
    """
    if strategy not in _KEEPS:
        raise ConfigError(f"strategy must be one of {', '.join(STRATEGIES)}, found {strategy!r}.")
    selected = _kept(rows, strategy)
    if not selected:
        counts = Counter(row.response_class for row in rows)
        sizes = {name: len(_kept(rows, name)) for name in STRATEGIES}
        others = ", ".join(f"{name} {size}" for name, size in sizes.items() if size) or "none would"
        raise DataError(
            f"strategy {strategy} selects none of {len(rows)} label rows (correct {counts['correct']}, revised "
            f"{counts['revised']}, wrong {counts['wrong']}); rows that other strategies select: {others}."
        )
    return selected


def _kept(rows: Sequence[LabelRow], strategy: str) -> list[LabelRow]:
    classes = prompt_classes(rows)
    return [row for row in rows if row.steps and _KEEPS[strategy](row, classes[row.problem_id])]


def refuse_problems(rows: Sequence[LabelRow], problems: Sequence[Problem], source: str) -> None:
    """Refuse labels of problems that are kept for a test, by id or by prompt.

    Args:
        rows: the labels.
        problems: kept for a test.
        source: names them in the message.
    """
    asked = [version for problem in problems for version in (problem, with_thoughts(problem))]
    prompts = {problem.prompt: problem.problem_id for problem in asked}
    ids = set(prompts.values())
    for row in rows:
        if row.problem_id in ids or row.prompt in prompts:
            name = prompts.get(row.prompt, row.problem_id)
            raise DataError(
                f"the labels hold responses to problem {row.problem_id!r}, which is kept for evaluation: {source} "
                f"holds it ({name!r}). Give labels of other problems, or set exclude_problems."
            )


def split_by_problem(rows: Sequence[LabelRow], validation_share: float, seed: int) -> Split:
    """Split rows so that no problem is on both sides; with two problems or more, neither side is empty.

    Args:
        rows: to split.
        validation_share: of the problems, in [0, 1); 0 leaves the validation side empty.
        seed: of the shuffle of the problems.
    """
    if not 0 <= validation_share < 1:
        raise ConfigError(f"validation_share must lie in [0, 1), found {validation_share}.")
    problems = sorted({row.problem_id for row in rows})
    random.Random(seed).shuffle(problems)
    count = min(max(round(validation_share * len(problems)), 1), len(problems) - 1) if validation_share else 0
    held_out = set(problems[:count])
    return Split(
        [row for row in rows if row.problem_id not in held_out], [row for row in rows if row.problem_id in held_out]
    )


def selection_manifest(rows: Sequence[LabelRow], strategy: str, validation_share: float, seed: int) -> dict[str, Any]:
    """Say which rows `strategy` selects, and how `split_by_problem` splits them; it may be none.

    Returns:
        Of each side num_rows, num_problems, the counts of `summarize`, label_balance (share of positive labels among
        those that are not neutral, None without any), and selected, the [problem_id, response_id] of its rows. A
        problem's class is that of all its responses, selected or not.
    """
    classes = prompt_classes(rows)
    sides: dict[str, dict[str, Any]] = {}
    for name, part in split_by_problem(_kept(rows, strategy), validation_share, seed)._asdict().items():
        counts = summarize(part, classes)
        positive, negative = counts["labels"]["positive"], counts["labels"]["negative"]
        sides[name] = {
            "num_rows": len(part),
            "num_problems": len({row.problem_id for row in part}),
            **counts,
            "label_balance": positive / (positive + negative) if positive + negative else None,
            "selected": [[row.problem_id, row.response_id] for row in part],
        }
    made = {"version": __version__, "strategy": strategy, "validation_share": validation_share, "seed": seed}
    return {"kind": "selection", "schema": 1, **made, **sides}


def summarize(rows: Sequence[LabelRow], classes: Mapping[str, PromptClass] | None = None) -> dict[str, Any]:
    """Count responses by class, problems by class, and labels by sign (soft labels too).

    Args:
        rows: to count.
        classes: of the problems, where `rows` are not all of their responses.
    """
    responses = Counter(row.response_class for row in rows)
    found = prompt_classes(rows)
    problems = Counter((classes or found)[name] for name in found)
    return {
        "responses": {name: responses[name] for name in ("correct", "revised", "wrong")},
        "problems": {name: problems[name] for name in ("easy", "medium", "hard")},
        "labels": count_labels(rows),
    }


def count_labels(rows: Iterable[LabelRow]) -> dict[str, int]:
    """Steps by label: positive (0 or above), neutral and negative."""
    counts = dict.fromkeys(("positive", "neutral", "negative"), 0)
    for row in rows:
        for label, neutral in zip(row.labels, row.neutral):
            counts["neutral" if neutral else "negative" if label < 0 else "positive"] += 1
    return counts
