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
"""One labeling job on many machines: which problems a shard labels, and the name of its store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from nemo_prm.data.jsonl import PathLike
from nemo_prm.errors import ConfigError
from nemo_prm.types import Problem, Response


@dataclass(frozen=True, order=True)
class Shard:
    """Shard `index` of `count`, counted from 0."""

    index: int
    count: int


def parse_shard(text: str) -> Shard:
    """Parse `index/count`, such as 3/16.

    Raises:
        ConfigError: it is something else, or there is no such shard.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = Shard(*map(int, match.groups())) if match else Shard(0, 0)
    if shard.index >= shard.count:
        raise ConfigError(f"shard must be index/count, counted from 0, such as 0/16 to 15/16, found {text!r}.")
    return shard


def shard_path(output: PathLike, shard: Shard) -> Path:
    """Return the store of a shard: labels.jsonl of shard 3/16 is labels-00003-of-00016.jsonl."""
    path = Path(output)
    return path.with_name(f"{path.stem}-{shard.index:05d}-of-{shard.count:05d}{path.suffix}")


def parse_shard_path(path: PathLike) -> tuple[Path, Shard] | None:
    """Return the output and the shard that `shard_path` made `path` of; None if it made no such name."""
    path = Path(path)
    match = re.fullmatch(r"(.*)-(\d{5,})-of-(\d{5,})", path.stem)
    if match is None or int(match[2]) >= int(match[3]):
        return None
    return path.with_name(match[1] + path.suffix), Shard(int(match[2]), int(match[3]))


def shard_of(
    problems: Sequence[Problem], responses: Sequence[Response] | None, shard: Shard
) -> tuple[list[Problem], list[Response] | None]:
    """Keep problem i of the set where i mod count is the shard's index, and the responses to these problems.

    Neighbours in the file go to different shards: problems sorted by difficulty are dealt out evenly. Responses to
    problems that are in no set at all are kept, so that `run_labeling` refuses them.

    Args:
        problems: of the whole job, after `limit`.
        responses: given responses, None where they are sampled.
        shard: to keep.
    """
    left_out = {problem.problem_id for i, problem in enumerate(problems) if i % shard.count != shard.index}
    kept = None if responses is None else [r for r in responses if r.problem_id not in left_out]
    return list(problems[shard.index :: shard.count]), kept
