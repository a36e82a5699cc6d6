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
"""Which rows of a running batch have spelled a stop string."""

from __future__ import annotations

from typing import Sequence


class StopWatch:
    """Reads completions token by token, as bytes: a stop string may begin and end inside tokens."""

    def __init__(self, stop: Sequence[str], pieces: Sequence[bytes], rows: int) -> None:
        """Watch `rows` completions.

        Args:
            stop: the strings; none empty.
            pieces: of the vocabulary, from `nemo_prm.megatron.vocabulary.vocabulary_bytes`.
            rows: completions, none with a token yet.
        """
        self._stop = [string.encode() for string in stop]
        self._pieces = pieces
        self._kept = max(map(len, self._stop), default=0) - 1  # bytes that may still become part of a string
        self._tails = [b""] * rows

    def read(self, row: int, token: int) -> bool:
        """Add a token to a completion; whether a stop string ends in it."""
        text = self._tails[row] + self._pieces[token]
        self._tails[row] = text[-self._kept :] if self._kept > 0 else b""
        return any(string in text for string in self._stop)
