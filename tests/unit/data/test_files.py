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
"""Files that are written: what was there before is never lost by halves, nor what is not ours."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from pathlib import Path
from typing import Any, Iterator

import pytest

from nemo_prm.data.appendonly import AppendOnlyFile
from nemo_prm.data.jsonl import write_jsonl
from nemo_prm.errors import DataError


@pytest.mark.parametrize("content", [b'{"precious": 1}', b'{"precious": 1}\n', b"x", b'{"key": "a"}\n{"keys": 1'])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    if content.startswith(b'{"key": '):  # its first line is ours, and the last one was cut short
        AppendOnlyFile(path, "verdicts", b'{"key": ').close()
        assert path.read_bytes() == b'{"key": "a"}\n'
        return
    with pytest.raises(DataError, match=f"{path}: holds something other than verdicts"):
        AppendOnlyFile(path, "verdicts", b'{"key": ')
    assert path.read_bytes() == content


def test_a_file_that_was_cut_short_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for torn in (b"", b'{"k', b'{"key": "12'):
        path.write_bytes(torn)
        AppendOnlyFile(path, "verdicts", b'{"key": ').close()
        assert path.read_bytes() == b""


def test_a_line_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    file = AppendOnlyFile(tmp_path / "file", "verdicts", b'{"key": ')
    lines = [b'{"key": "%d", "x": "%s"}' % (number, b"x" * 400) for number in range(3)]
    file.append(lines[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))  # the second line fits in part
    try:
        with pytest.raises(OSError, match="File too large") as error:
            file.append(lines[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "file")
    place = file.append(lines[2])
    assert file.line_at(place) == lines[2]
    assert [line for _, line in file.lines()] == [lines[0], lines[2]]
    file.close()


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DataError, match=r"file: cannot be locked \(Function not implemented\).* choose another path"):
        AppendOnlyFile(tmp_path / "file", "verdicts", b'{"key": ')


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert write_jsonl(path, [{"a": 1}, {"é": 2}]) == 2

    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 3}
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_jsonl(path, rows())
    assert path.read_text(encoding="utf-8") == '{"a": 1}\n{"é": 2}\n'
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]
