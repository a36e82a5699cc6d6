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
"""Progress is a readable stream in a file and one live line on a terminal."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import cast

import pytest

from nemo_prm.pipeline import console as module
from nemo_prm.pipeline.console import Console, progress
from nemo_prm.processes import Child


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    monkeypatch.setattr(module, "REPEAT_S", 0.0)
    monkeypatch.setattr(module, "REFRESH_S", 0.0)
    return Child("label", tmp_path / "label.log", cast("subprocess.Popen[bytes]", None))


def test_in_a_file_every_news_is_a_line_and_no_news_is_none(child: Child) -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.say("1/2 label: first\nsecond")
    for text in ("10 of 80", "10 of 80", "20 of 80\r"):
        child.log.write_text(text)
        console.tick(child)
    assert stream.getvalue().splitlines() == [
        "[  0:00] 1/2 label: first",
        "         second",
        "[  0:00] label | 10 of 80",
        "[  0:00] label | 20 of 80",
    ]


def test_on_a_terminal_one_line_is_overwritten_and_cleared(child: Child) -> None:
    stream = Terminal()
    console = Console(stream)
    for text in ("10 of 80", "20 of \x1b[31m80"):
        child.log.write_text(text)
        console.tick(child)
    console.say("done")
    assert stream.getvalue() == (
        "\r\x1b[K[  0:00] label | 10 of 80\r\x1b[K[  0:00] label | 20 of  [31m80\r\x1b[K[  0:00] done\n"
    )


def test_a_child_that_has_said_nothing_is_starting(child: Child) -> None:
    stream = io.StringIO()
    Console(stream).tick(child)
    assert stream.getvalue() == "[  0:00] label | starting\n"


def test_a_progress_bar_tells_more_than_the_warnings_after_it() -> None:
    assert progress(["PPO:  50%|##  | 1/2", "UserWarning: no Apex", "warnings.warn("]) == "PPO:  50%|##  | 1/2"
    assert progress(["loading", "ready on http://127.0.0.1:5555"]) == "ready on http://127.0.0.1:5555"
