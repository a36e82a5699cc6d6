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
"""The label store: an append-only JSON Lines file, one flushed row per response, that a rerun resumes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Mapping, Sequence

from nemo_prm.config import LabelConfig
from nemo_prm.data.jsonl import PathLike, parse_object
from nemo_prm.data.problems import problem_to_json
from nemo_prm.data.rows import label_row_to_json, read_label_rows
from nemo_prm.errors import DataError
from nemo_prm.types import LabelRow, Problem, Response


def label_settings(config: LabelConfig, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the settings that change labels; `limit`, addresses and numbers of workers do not.

    Args:
        config: of the job.
        problems: the whole set, before `limit`; a digest of it stands for it.
    """
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps(problem_to_json(problem), sort_keys=True).encode())
    settings = {
        "problems_sha256": digest.hexdigest(),
        "given_responses": config.responses is not None,
        "completions": config.completions,
        "soft_labels": config.soft_labels,
        "seed": config.seed,
        "sampling": asdict(config.sampling),
        "neutral": asdict(config.neutral),
        "time_limit_s": config.sandbox.time_limit_s,
        "memory_limit_mb": config.sandbox.memory_limit_mb,
        "total_time_limit_s": config.sandbox.total_time_limit_s,
    }
    if config.responses is None:
        settings |= {"checkpoint": config.checkpoint, "responses_per_prompt": config.responses_per_prompt}
    return settings


class LabelStore:
    """Opens a store for one writer; a row that a kill has cut short is removed, and its response is labelled again.

    Beside the store `<store>.settings.json` says how its rows were made, so that no rerun mixes two kinds of labels.
    """

    def __init__(self, path: PathLike, settings: Mapping[str, Any]) -> None:
        """
        Args:
            path: of the store; made where it is missing, with its folder.
            settings: from `label_settings`.

        Raises:
            DataError: another process writes to it, it has a bad line, or it was made with other settings.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file: BinaryIO = open(self.path, "ab+")  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}).") from None
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(f"{self.path}: another process is writing labels to this file.") from None
            self._drop_torn_line()
            self.rows: list[LabelRow] = read_label_rows(self.path)
            self._check_settings(settings)
        except BaseException:
            self._file.close()
            raise
        self.completed = {(row.problem_id, row.response_id) for row in self.rows}

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, row: LabelRow) -> None:
        """Add a row; it is in the file when this returns."""
        self._file.write(json.dumps(label_row_to_json(row), ensure_ascii=False).encode("utf-8") + b"\n")
        self._file.flush()
        self.rows.append(row)
        self.completed.add((row.problem_id, row.response_id))

    def check_responses(self, responses: Sequence[Response]) -> None:
        """Refuse given responses that differ from those that the store has labelled under the same name."""
        texts = {(response.problem_id, response.response_id): response.text for response in responses}
        for row in self.rows:
            key = (row.problem_id, row.response_id)
            if texts.get(key, row.response) != row.response:
                raise DataError(
                    f"{self.path}: holds another response named {key[1]!r} to {key[0]!r}; choose an output."
                )

    def _drop_torn_line(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        start = size
        while start > 0:
            block = min(start, 2**16)
            self._file.seek(start - block)
            newline = self._file.read(block).rfind(b"\n")
            if newline >= 0:
                start += newline + 1 - block
                break
            start -= block
        if start < size:
            self._file.truncate(start)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        path = self.path.with_name(self.path.name + ".settings.json")
        if not self.rows:
            partial = path.with_name(path.name + ".partial")
            partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            partial.replace(path)
            return
        if not path.exists():
            raise DataError(f"{self.path}: holds rows, but {path.name}, which says how they were made, is missing.")
        before = parse_object(path.read_bytes(), str(path))
        now = json.loads(json.dumps(settings))
        changed = [
            f"{key} {before.get(key)} -> {now.get(key)}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
        if changed:
            raise DataError(
                f"{self.path}: was made with other settings ({'; '.join(changed)}); choose another output."
            )
