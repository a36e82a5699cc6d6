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
"""Labels of several stores as one: a manifest names the files with their digests, and `read_labels` checks them.

A manifest is a JSON object with "kind": "labels", "schema": 1, what holds for all rows (settings, counts, costs:
`nemo_prm.labeling.merge`), and `shards`, objects of `path` (relative to the manifest), `rows` and `sha256`.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from nemo_prm.data.fields import Fields
from nemo_prm.data.jsonl import PathLike, parse_lines, read_bytes, read_json
from nemo_prm.data.rows import label_row_from_json, read_label_rows
from nemo_prm.errors import DataError
from nemo_prm.types import LabelRow

KIND = "labels"
SCHEMA = 1
SUFFIX = ".json"


class StoreContent(NamedTuple):
    rows: list[LabelRow]
    sha256: str  # of the file's bytes


def read_labels(path: PathLike) -> list[LabelRow]:
    """Read the labels that a user names: a label store (.jsonl, .jsonl.gz) or the manifest (.json) of several.

    Returns:
        The rows by problem and response. In a store they stand as they were done, which differs from run to run.

    Raises:
        DataError: no such file, a line that is no label row, a file that is no manifest of labels, or a store that has
            changed since the manifest was written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        return _in_order(read_label_rows(path))
    manifest = Fields(str(path), read_json(path))
    if manifest.get("kind", None) != KIND or manifest.get("schema", None) != SCHEMA:
        raise DataError(f"{path}: is no manifest of labels; give label stores, or a manifest that merge_labels wrote.")
    return _in_order([row for shard in manifest.objects("shards") for row in _read_shard(path, shard)])


def _in_order(rows: list[LabelRow]) -> list[LabelRow]:
    return sorted(rows, key=lambda row: (row.problem_id, row.response_id))


def read_store(path: PathLike, sha256: str | None = None) -> StoreContent:
    """Read a label store and the digest of just these bytes.

    Raises:
        DataError: no such file, bytes of another digest than `sha256`, a line that is no label row, or a last line
            without an end.
    """
    content = read_bytes(path)
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise DataError(f"{path}: has changed since it was merged (SHA-256 {found[:12]}, was {sha256[:12]}).")
    if content and not content.endswith(b"\n"):
        raise DataError(
            f"{path}: its last line has no end, since the job was killed or is at work; run the job again, or wait."
        )
    rows = [label_row_from_json(value, where) for where, value in parse_lines(BytesIO(content), path)]
    return StoreContent(rows, found)


def _read_shard(manifest: Path, shard: Fields) -> list[LabelRow]:
    path, count = manifest.parent / shard.filled("path"), shard.integer("rows")
    try:
        rows = read_store(path, shard.filled("sha256")).rows
        if len(rows) != count:
            raise DataError(f"{path}: holds {len(rows)} rows, not {count}.")
    except DataError as error:
        raise DataError(f"{error} {manifest} names this file; merge the shards again.") from None
    return rows
