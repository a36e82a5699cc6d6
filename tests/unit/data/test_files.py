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
