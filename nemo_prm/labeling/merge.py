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
"""Merging the label stores of a job's shards into one manifest, which names them; no row is copied."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from nemo_prm import __version__
from nemo_prm.data.fields import Fields
from nemo_prm.data.jsonl import PathLike, read_json
from nemo_prm.data.manifest import KIND, SCHEMA, SUFFIX, read_store
from nemo_prm.data.rows import check_distinct
from nemo_prm.data.selection import summarize
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.labeling.labeler import GIVEN
from nemo_prm.labeling.shards import Shard, parse_shard_path, shard_path
from nemo_prm.labeling.store import settings_changes, settings_digest, settings_path, summary_path
from nemo_prm.types import LabelRow


class ShardStore(NamedTuple):
    """A shard's store and what lies beside it; `summary` is None where its job has not ended."""

    path: Path
    settings: dict[str, Any]
    summary: Fields | None


def merge(patterns: Sequence[str], output: PathLike, allow_incomplete: bool = False) -> dict[str, Any]:
    """Check the shards of one job and return the manifest that stands for them.

    Args:
        patterns: paths or glob patterns of the shards' stores.
        output: where the manifest will be; the paths in it are relative to its folder.
        allow_incomplete: merge what there is of a job that has not ended; `open` in the manifest says what is missing.

    Raises:
        ConfigError: `output` does not end in .json.
        DataError: a shard is missing or unfinished, shards have other settings than the first, a response is in them
            twice, or a line is bad.
    """
    output = Path(output)
    if output.suffix != SUFFIX:
        raise ConfigError(f"output must end in {SUFFIX}, by which readers know a manifest, found {str(output)!r}.")
    stores, missing = find_shards(patterns)
    check_settings(stores)
    entries, open_ends = [], [f"{path} is missing" for path in missing]
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    cost: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    seen: dict[str, str] = {}  # the store of a problem
    policies: dict[str, str] = {}  # the generator of a checkpoint's completions
    for store in stores:
        rows, sha256 = read_store(store.path)
        check_distinct([(str(store.path), rows)])
        check_rows(store, rows, seen)
        check_policies(store, rows, policies)
        open_ends += unfinished(store, len(rows))
        path = os.path.relpath(store.path.resolve(), output.parent.resolve())
        entries.append({"path": path, "rows": len(rows), "sha256": sha256})
        for name, found in summarize(rows).items():  # no problem is in two shards, so that all of them add up
            counts[name].update(found)
        for row in rows:
            cost.update(asdict(row.cost))
        if store.summary is not None:
            skipped.update(store.summary.mapping("skipped"))
    if open_ends and not allow_incomplete:
        more = f" and {len(open_ends) - 5} more" if len(open_ends) > 5 else ""
        raise DataError(
            f"the job has not ended: {'; '.join(open_ends[:5])}{more}. Run these shards again, they go on where they "
            "stopped; or merge what there is with allow_incomplete=true."
        )
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "version": __version__,
        "settings": stores[0].settings,
        "settings_sha256": settings_digest(stores[0].settings),
        "open": open_ends,
        "rows": sum(entry["rows"] for entry in entries),
        "counts": counts,
        "skipped": skipped,
        "cost": cost,
        "shards": entries,
    }


def find_shards(patterns: Sequence[str]) -> tuple[list[ShardStore], list[Path]]:
    """Return the shards behind `patterns` in order, and the stores that are missing between them.

    Raises:
        DataError: no file, a name that is no shard's, shards of several counts, or a shard twice.
    """
    paths: list[Path] = []
    for pattern in patterns:
        found = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))
        if not found:
            raise DataError(f"{pattern}: no such file.")
        paths += map(Path, found)
    if not paths:
        raise DataError("shards names no file.")
    found_at: dict[Shard, Path] = {}
    names: set[str] = set()  # of the job's output
    for path in paths:
        parsed = parse_shard_path(path)
        if parsed is None:
            raise DataError(f"{path}: is no shard; their names end like -00003-of-00016.jsonl.")
        output, shard = parsed
        names.add(output.name)
        other = found_at.setdefault(shard, path)
        if not path.samefile(other):
            raise DataError(f"{path}: is the same shard as {other}.")
        if shard.count != next(iter(found_at)).count or len(names) > 1:
            raise DataError(f"{path}: is a shard of another job than {paths[0]}.")
    all_shards = [Shard(index, shard.count) for index in range(shard.count)]
    missing = [shard_path(output, shard) for shard in all_shards if shard not in found_at]
    return [_open(found_at[shard]) for shard in sorted(found_at)], missing


def check_settings(stores: Sequence[ShardStore]) -> None:
    """Refuse shards that were not made like the first one; of those that have ended, `limit` counts too."""
    limits = [(s.path, {"limit": s.summary.get("limit")}) for s in stores if s.summary is not None]
    for group in ([(store.path, store.settings) for store in stores], limits):
        for path, settings in group[1:]:
            changes = settings_changes(group[0][1], settings)
            if changes:
                raise DataError(f"{path}: was made with other settings than {group[0][0]} ({changes}).")


def check_rows(store: ShardStore, rows: Sequence[LabelRow], seen: dict[str, str]) -> None:
    """Refuse rows that other settings made, and problems that another shard has; adds the problems to `seen`."""
    digest = settings_digest(store.settings)
    for row in rows:
        if row.settings_sha256 not in ("", digest):
            raise DataError(
                f"{store.path}: {settings_path(store.path).name} does not say how response {row.response_id!r} of "
                f"{row.problem_id!r} was made."
            )
        other = seen.setdefault(row.problem_id, str(store.path))
        if other != str(store.path):
            raise DataError(f"{store.path}: responses to {row.problem_id!r} are already in {other}.")


def check_policies(store: ShardStore, rows: Sequence[LabelRow], policies: dict[str, str]) -> None:
    """Refuse rows of two policies under the name of one checkpoint; adds those found to `policies`."""
    for row in rows:
        if row.generator != GIVEN and policies.setdefault(row.checkpoint, row.generator) != row.generator:
            raise DataError(
                f"{store.path}: the policy of checkpoint {row.checkpoint!r} is {row.generator}, and that of another "
                f"shard is {policies[row.checkpoint]}; label these shards again with one policy."
            )


def unfinished(store: ShardStore, num_rows: int) -> list[str]:
    """Return a sentence where a shard's job has not done all that it was asked to."""
    if store.summary is None:
        return [f"{store.path} holds {num_rows} rows, but its job has not ended"]
    missing = store.summary.integer("missing")
    if missing:
        return [f"{store.path} lacks {missing} of {store.summary.integer('asked')} responses"]
    if num_rows != sum(store.summary.mapping("responses").values()):
        return [f"{store.path} has changed since its job ended"]
    return []


def _open(path: Path) -> ShardStore:
    summary = summary_path(path)
    ended = Fields(str(summary), read_json(summary)) if summary.exists() else None
    return ShardStore(path, read_json(settings_path(path)), ended)
