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
"""Reading and writing JSON and JSON Lines; a bad line is named by file and line number."""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Union

from nemo_prm.errors import DataError

PathLike = Union[str, Path]


class Line(NamedTuple):
    """One object of a file and where it stands (`path:line`, for messages)."""

    where: str
    value: dict[str, Any]


def parse_object(raw: bytes, where: str) -> dict[str, Any]:
    """Parse one line.

    Raises:
        DataError: the line is not UTF-8, not JSON, or not a JSON object.
    """
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON ({error.msg} at column {error.colno}).") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; an integer of thousands of digits
        raise DataError(f"{where}: JSON that cannot be read ({error}).") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {json_type(value)}.")
    return value


def read_jsonl(path: PathLike) -> Iterator[Line]:
    """Yield the objects of a JSON Lines file (gzip when it ends in .gz); lines of white space are no data.

    Raises:
        DataError: the file is missing or unreadable, or a line is bad.
    """
    path = Path(path)
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            yield from parse_lines(file, path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None


def parse_lines(lines: Iterable[bytes], path: PathLike) -> Iterator[Line]:
    """Yield the objects of the lines of `path`; lines of white space are no data."""
    for number, raw in enumerate(lines, start=1):
        if raw.strip():
            where = f"{path}:{number}"
            yield Line(where, parse_object(raw, where))


def read_bytes(path: PathLike) -> bytes:
    """Read a whole file.

    Raises:
        DataError: the file is missing or unreadable.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None


def read_json(path: PathLike) -> dict[str, Any]:
    """Read a file that is one JSON object.

    Raises:
        DataError: the file is missing, unreadable, or something else.
    """
    return parse_object(read_bytes(path), str(path))


@contextmanager
def naming(path: PathLike) -> Iterator[None]:
    """Where writing fails, say of which file; the system does so for opening one alone."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or str(path)
        raise


def write_json(path: PathLike, value: Mapping[str, Any]) -> None:
    """Write one indented JSON object; a file that was there is replaced whole, whenever this is interrupted."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    with naming(path):
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


def write_jsonl(path: PathLike, objects: Iterable[Mapping[str, Any]]) -> int:
    """Write one object a line; a file that was there is replaced whole, as by `write_json`. Returns the lines."""
    path, count = Path(path), 0
    partial = path.with_name(f"{path.name}.partial")
    try:
        with naming(path), open(partial, "w", encoding="utf-8", newline="\n") as file:
            for value in objects:
                file.write(json.dumps(value, ensure_ascii=False) + "\n")
                count += 1
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return count


def json_type(value: object) -> str:
    """Name the JSON type of a parsed value, for messages."""
    if value is None:
        return "null"
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)
