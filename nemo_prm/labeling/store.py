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

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from nemo_prm import __version__
from nemo_prm.config import LabelConfig
from nemo_prm.data.appendonly import AppendOnlyFile
from nemo_prm.data.jsonl import PathLike, read_json, write_json
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
        "steps": config.steps,
        "completions": config.completions,
        "soft_labels": config.soft_labels,
        "first_wave": config.first_wave,
        "search": config.search,
        "sequential_epsilon": config.sequential_epsilon,
        "audit_share": config.audit_share,
        "seed": config.seed,
        "sampling": asdict(config.sampling),
        "neutral": asdict(config.neutral),
        **config.sandbox.limits(),
    }
    if config.think:
        settings["think"] = True
    if config.responses is None:
        settings |= {
            "checkpoints": config.checkpoints or [config.checkpoint],
            "responses_per_prompt": config.responses_per_prompt,
        }
    return settings


def settings_path(store: PathLike) -> Path:
    """Return the file beside a store that says how its rows were made."""
    return Path(f"{store}.settings.json")


def summary_path(store: PathLike) -> Path:
    """Return the file beside a store that says what a job that has ended left in it."""
    return Path(f"{store}.summary.json")


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings, by which a row names them wherever it goes."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def settings_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name what differs between two settings; empty if nothing does."""
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return "; ".join(f"{key} {before.get(key)} -> {now.get(key)}" for key in keys)


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
        self._file = AppendOnlyFile(path, "labels", b'{"schema": ')
        try:
            self.rows: list[LabelRow] = read_label_rows(self.path)
            self._check_settings(settings)
            self._settings_sha256 = settings_digest(settings)
        except BaseException:
            self._file.close()
            raise
        self.completed = {(row.problem_id, row.response_id): row for row in self.rows}

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, row: LabelRow) -> None:
        """Add a row, and where it comes from; it is in the file when this returns."""
        row = replace(row, version=__version__, settings_sha256=self._settings_sha256)
        self._file.append(json.dumps(label_row_to_json(row), ensure_ascii=False).encode("utf-8"))
        self.rows.append(row)
        self.completed[row.problem_id, row.response_id] = row

    def check_responses(self, responses: Sequence[Response]) -> None:
        """Refuse given responses that differ from those that the store has labelled under the same name."""
        texts = {(response.problem_id, response.response_id): response.text for response in responses}
        for row in self.rows:
            key = (row.problem_id, row.response_id)
            if texts.get(key, row.response) != row.response:
                raise DataError(
                    f"{self.path}: holds another response named {key[1]!r} to {key[0]!r}; choose an output."
                )

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        path = settings_path(self.path)
        if not self.rows:
            write_json(path, settings)
            return
        if not path.exists():
            raise DataError(f"{self.path}: holds rows, but {path.name}, which says how they were made, is missing.")
        changes = settings_changes(read_json(path), json.loads(json.dumps(settings)))
        if changes:
            raise DataError(f"{self.path}: was made with other settings ({changes}); choose another output.")
