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
"""What a job has paid for: completions and verdicts by content, so that a rerun pays only for what is missing.

A line of the cache is {"key": ..., and a completion or a verdict}. The key of a completion is a digest of all that it
depends on (checkpoint, prompt, sampling, seed, its number); that of a verdict, of problem, program and limits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Callable, Iterator, NamedTuple, TypeVar, cast, get_args

from nemo_prm.data.appendonly import AppendOnlyFile
from nemo_prm.data.fields import Fields
from nemo_prm.data.jsonl import PathLike, parse_object
from nemo_prm.data.rows import verdict_from_json, verdict_to_json
from nemo_prm.errors import DataError
from nemo_prm.types import Completion, FinishReason, Verdict

KEY_BYTES = 16  # of a digest; a completion's number may follow it
_START = b'{"key": "'
Found = TypeVar("Found")


def digest(*parts: Any) -> bytes:
    """Return the key of what depends on `parts`, which JSON can say."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=KEY_BYTES).digest()


class Drawn(NamedTuple):
    """A completion, its share of the seconds that the call took, and the name of the generator that drew it."""

    completion: Completion
    seconds: float
    generator: str


class _Memory:
    """Lines that are not kept."""

    path = "(memory)"

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def append(self, line: bytes) -> int:
        self._lines.append(line)
        return len(self._lines) - 1

    def line_at(self, start: int) -> bytes:
        return self._lines[start]

    def lines(self) -> Iterator[tuple[int, bytes]]:
        return enumerate(self._lines)

    def close(self) -> None:
        pass


class Cache:
    """An append-only file of completions and verdicts, found by key; only keys and places are kept in memory."""

    def __init__(self, path: PathLike | None) -> None:
        """
        Args:
            path: of the file; None keeps all of it in memory.

        Raises:
            DataError: it cannot be written, another process writes to it, or a line is not of a cache.
        """
        self._file = _Memory() if path is None else AppendOnlyFile(path, "completions and verdicts", _START)
        self._places: dict[bytes, int] = {}
        start = len(_START)
        try:
            for number, (place, line) in enumerate(self._file.lines(), start=1):
                try:
                    if line[:start] != _START:
                        raise ValueError
                    self._places[bytes.fromhex(line[start : line.index(b'"', start)].decode("ascii"))] = place
                except ValueError:
                    raise DataError(f"{path}:{number}: is no line of a cache; remove it to do without.") from None
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def completion(self, key: bytes) -> Drawn | None:
        """Return the completion of that key, if it is there."""

        def read(row: Fields) -> Drawn:
            given = Fields(row.where, row.get("completion"), "completion.")
            reason = cast(FinishReason, given.choice("finish_reason", get_args(FinishReason)))
            completion = Completion(given.text("text"), given.integer("num_tokens"), reason)
            return Drawn(completion, row.number("seconds"), row.text("generator"))

        return self._get(key, read)

    def verdict(self, key: bytes) -> Verdict | None:
        """Return the verdict of that key, if it is there."""
        return self._get(key, lambda row: verdict_from_json(row.get("verdict"), row.where))

    def add_completion(self, key: bytes, drawn: Drawn) -> None:
        completion = dataclasses.asdict(drawn.completion)
        self._add(key, completion=completion, seconds=round(drawn.seconds, 6), generator=drawn.generator)

    def add_verdict(self, key: bytes, verdict: Verdict) -> None:
        """Keep a verdict; one that is unknown is not kept, so that a rerun asks again."""
        if verdict.status != "infra_error":
            self._add(key, verdict=verdict_to_json(verdict))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, key: bytes, **value: Any) -> None:
        if key not in self._places:
            line = json.dumps({"key": key.hex(), **value}, ensure_ascii=True)
            self._places[key] = self._file.append(line.encode("ascii"))

    def _get(self, key: bytes, read: Callable[[Fields], Found]) -> Found | None:
        place = self._places.get(key)
        if place is None:
            return None
        where = f"{self._file.path}: byte {place}"
        try:
            row = Fields(where, parse_object(self._file.line_at(place), where))
            if row.text("key") != key.hex():
                raise row.error("key", "is another one")
            return read(row)
        except (DataError, TypeError, AttributeError) as error:
            raise DataError(f"{error} The cache is damaged; remove it to do without.") from None
