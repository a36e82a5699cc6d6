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
"""Append-only files of lines for one writer: a line that a kill has cut short is removed at the next opening."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO, Iterator

from nemo_prm.data.jsonl import PathLike, naming
from nemo_prm.errors import DataError


class AppendOnlyFile:
    """A file of whole lines, locked for this process; a line is in it when `append` returns."""

    def __init__(self, path: PathLike, content: str, begins: bytes) -> None:
        """Open it, and make it where it is missing, with its folder.

        Args:
            path: of the file.
            content: what its lines are, for messages.
            begins: how each of them begins; a file that begins otherwise is not ours, and is left alone.

        Raises:
            DataError: it cannot be written, holds something else, or another process writes to it.
        """
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(self.path, "ab+")  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}).") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise DataError(f"{self.path}: another process is writing {content} to this file.") from None
        except OSError as error:
            self._file.close()
            raise DataError(
                f"{self.path}: cannot be locked ({error.strerror}): the file system has no locks; mount it with them "
                "(Lustre: -o flock), or choose another path."
            ) from None
        self._file.seek(0)
        if not begins.startswith(self._file.read(len(begins))):
            self._file.close()
            raise DataError(f"{self.path}: holds something other than {content}; choose another path.")
        self._size = self._drop_torn_line()

    def append(self, line: bytes) -> int:
        """Add a line, which must not hold a newline; returns where it begins.

        Raises:
            OSError: it cannot be written, as where the disk is full; nothing of it is in the file.
        """
        start, left = self._size, line + b"\n"
        try:
            with naming(self.path):
                while left:  # past the buffer of `_file`, whose position stays; it is append-only: always at the end
                    left = left[os.pwrite(self._file.fileno(), left, self._size) :]
        except OSError:
            os.ftruncate(self._file.fileno(), start)
            raise
        self._size += len(line) + 1
        return start

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield where each line begins, and the line."""
        start = 0
        self._file.seek(0)
        for line in self._file:
            yield start, line[:-1]
            start += len(line)

    def line_at(self, start: int) -> bytes:
        """Return the line that begins at `start`."""
        self._file.seek(start)
        return self._file.readline()[:-1]

    def close(self) -> None:
        self._file.close()

    def _drop_torn_line(self) -> int:
        """Cut off what follows the last newline; returns the size that is left."""
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
        return start
