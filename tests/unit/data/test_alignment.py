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
"""Steps end in the token that holds their newline, whatever the tokens cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_prm.data.alignment import merge_labels, step_end_tokens
from nemo_prm.data.steps import split_lines
from nemo_prm.errors import DataError
from nemo_prm.types import Step


def ends(*pieces: bytes) -> list[int]:
    text = b"".join(pieces).decode("utf-8", "surrogateescape")
    return step_end_tokens(pieces, split_lines(text), text)


def test_hand_made_cases() -> None:
    assert ends(b"a", b" =", b" 1", b"\n", b"b", b"\n") == [3, 5]
    assert ends(b"a = 1\n    ", b"b\n") == [0, 1]  # newline and indentation in one token
    assert ends(b"a", b"\n\n", b"b") == [1, 1, 2]  # two lines end in one token
    assert ends(b"a\nb\nc", b"d") == [0, 0, 1]
    assert ends(b"a\n", b"b", b"") == [0, 2]  # no last newline: EOS ends it
    assert ends(b"a\n", b"b\n", b"") == [0, 1]  # EOS ends no line of its own
    assert ends(b"", b"a", b"\n", b"") == [2]
    assert ends() == []
    assert ends(b"") == []


def test_characters_cut_over_tokens() -> None:
    snowman = "☃".encode()
    assert ends(b"x", snowman[:1], snowman[1:] + b"\n", b"y", b"\n") == [2, 4]
    assert ends(b"x\xff", b"\n", b"y\n") == [1, 2]  # bytes that are no UTF-8


def test_only_lines_in_the_fence_count() -> None:
    assert ends(b"Text\n", b"```python", b"\n", b"a", b"\n", b"b\n", b"```", b"\n", b"end") == [4, 5]
    assert ends(b"```py\n", b"a\nb", b"") == [1, 2]


def test_pieces_of_another_text_are_refused() -> None:
    with pytest.raises(DataError, match="do not spell"):
        step_end_tokens([b"a\n"], (Step(0, 2),), "b\n")
    with pytest.raises(DataError, match="do not spell"):
        step_end_tokens([b"?\n"], (Step(0, 2),), "\ud83d\n")
    with pytest.raises(DataError, match="does not end at a newline"):
        step_end_tokens([b"ab\n"], (Step(0, 1),), "ab\n")


def test_later_label_wins_but_neutral_replaces_nothing() -> None:
    assert merge_labels([0, 1, 1, 2, 2], [1.0, 1.0, -1.0, -1.0, 0.0]) == {0: 1.0, 1: -1.0, 2: -1.0}
    assert merge_labels([3, 3], [0.0, 0.0]) == {3: 0.0}
    assert merge_labels([3, 3], [0.0, 1.0]) == {3: 1.0}


@given(st.text(alphabet="a\n é☃𝄞`#'", max_size=40), st.lists(st.integers(0, 80), max_size=30), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_cut_agrees_with_counting_newlines(text: str, cuts: list[int], eos: bool) -> None:
    """An independent count: a line ends in the first token by which the bytes up to its newline are out."""
    data = text.encode()
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[i:j] for i, j in zip(places, places[1:])] + ([b""] if eos else [])
    steps = split_lines(text)
    found = step_end_tokens(pieces, steps, text)
    assert len(found) == len(steps) and found == sorted(found)
    for step, end in zip(steps, found):
        line = text[step.start : step.end]
        before, upto = b"".join(pieces[:end]), b"".join(pieces[: end + 1])
        if line.endswith("\n"):
            assert len(before) < len(text[: step.end].encode()) <= len(upto)
            assert b"\n" in pieces[end]
        else:
            assert end == len(pieces) - 1
