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
"""What a long job shows: a line per event with the time since the start, and the last line of the stage's log live."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from nemo_prm.processes import Child, last_lines

REFRESH_S = 0.5  # on a terminal, where one line is overwritten
REPEAT_S = 10.0  # in a file or a pipe, where every line stays


class Console:
    """Prints to `stream`; one live line at the bottom of a terminal, a line now and then elsewhere."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty()
        self._start = time.monotonic()
        self._last_tick = 0.0
        self._shown = ""

    def say(self, text: str) -> None:
        """Print an event; further lines of `text` are indented under the first."""
        self._clear()
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        first, *rest = text.split("\n")
        print(
            f"[{minutes:3}:{seconds:02}] {first}", *(f"         {line}" for line in rest), sep="\n", file=self.stream
        )
        self.stream.flush()
        self._last_tick = time.monotonic()

    def tick(self, child: Child) -> None:
        """Show how far `child` has come, if enough time has passed and it printed something new."""
        now = time.monotonic()
        if now - self._last_tick < (REFRESH_S if self.is_terminal else REPEAT_S):
            return
        self._last_tick = now
        text = f"{child.name} | {progress(last_lines(child.log, 50))}"
        width = (shutil.get_terminal_size().columns if self.is_terminal else 119) - 10
        text = "".join(character if character.isprintable() else " " for character in text)[:width]
        if text == self._shown and not self.is_terminal:
            return
        if self.is_terminal:
            minutes, seconds = divmod(int(now - self._start), 60)
            self.stream.write(f"\r\x1b[K[{minutes:3}:{seconds:02}] {text}")
            self.stream.flush()
        else:
            self.say(text)
        self._shown = text

    def _clear(self) -> None:
        if self.is_terminal and self._shown:
            self.stream.write("\r\x1b[K")
        self._shown = ""


def progress(lines: list[str]) -> str:
    """The line that tells most: the last progress bar (tqdm's `40%|...`), or else the last line."""
    bars = [line for line in lines if "%|" in line]
    return (bars or lines or ["starting"])[-1]
