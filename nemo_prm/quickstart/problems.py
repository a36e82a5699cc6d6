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
"""The training and the held-out problems of a run: the embedded splits, or a user's file, split by a hash."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from nemo_prm.data.embedded import split_path
from nemo_prm.data.jsonl import write_jsonl
from nemo_prm.data.problems import load_problems, problem_to_json
from nemo_prm.errors import ConfigError
from nemo_prm.types import Problem


class ProblemSets(NamedTuple):
    """What the scripts are told (`problems=`, `split=`) for training and for evaluation.

    `excluded` names the held-out problems for `select_data`, nothing where they are the training problems. `files` are
    the problem files behind them; `note` is a sentence for the user.
    """

    train: Mapping[str, Any]
    held_out: Mapping[str, Any]
    excluded: list[str]
    files: tuple[str, ...]
    note: str


def prepare(source: str, folder: Path, held_out_share: float) -> ProblemSets:
    """Return the two sets; those of a file are written to `folder` as train.jsonl and held_out.jsonl.

    Raises:
        ConfigError: `held_out_share` is not between 0 and 1.
        DataError: the file is missing or malformed.
    """
    if not 0 < held_out_share < 1:
        raise ConfigError(f"held_out_share must lie between 0 and 1, found {held_out_share}.")
    if source == "embedded":
        return ProblemSets(
            train={"problems": "embedded", "split": "train"},
            held_out={"problems": "embedded", "split": "test"},
            excluded=["embedded:test"],
            files=(str(split_path("train")), str(split_path("test"))),
            note="Problems: the embedded set.",
        )
    problems = load_problems(source if source == "humaneval" else str(Path(source).expanduser()))
    train, held_out = split(problems, held_out_share)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, part in (("train", train), ("held_out", held_out)):
        path = folder / f"{name}.jsonl"
        write_jsonl(path, map(problem_to_json, part))
        paths.append(str(path))
    excluded = [paths[1]]
    if len(problems) == 1:
        excluded = []
        note = f"Problems: {source} holds one problem; it is trained and evaluated on, so the numbers mean little."
    else:
        note = f"Problems: {source}, {len(train)} to train on and {len(held_out)} held out, in {folder}."
    return ProblemSets({"problems": paths[0]}, {"problems": paths[1]}, excluded, tuple(paths), note)


def split(problems: Sequence[Problem], held_out_share: float) -> tuple[list[Problem], list[Problem]]:
    """Split by a hash of the problem ids: the same ids give the same sets, whatever their order in the file.

    Returns:
        Training and held-out problems in the order of the file, at least one of each; a single problem is in both.
    """
    if len(problems) == 1:
        return list(problems), list(problems)
    count = min(len(problems) - 1, max(1, math.floor(held_out_share * len(problems) + 0.5)))
    ids = sorted((problem.problem_id for problem in problems), key=lambda i: hashlib.sha256(i.encode()).digest())
    chosen = set(ids[:count])
    return (
        [problem for problem in problems if problem.problem_id not in chosen],
        [problem for problem in problems if problem.problem_id in chosen],
    )
