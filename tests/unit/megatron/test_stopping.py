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
"""Stop strings in tokens."""

from __future__ import annotations

import random

from nemo_prm.megatron.stopping import StopWatch

PIECES = [b"", b"\n", b"\n\n", b"end", b"e", b"n", b"d", b"\xc3", b"\xa9", b" the end of it", b"x"]


def read(stop: list[str], *tokens: int) -> list[bool]:
    watch = StopWatch(stop, PIECES, 1)
    return [watch.read(0, token) for token in tokens]


def test_a_string_may_begin_and_end_inside_tokens() -> None:
    assert read(["\n\n"], 1, 10, 1, 1) == [False, False, False, True]
    assert read(["\n\n"], 2) == [True]
    assert read(["end o"], 10, 9) == [False, True]
    assert read(["end"], 4, 5, 0, 6) == [False, False, False, True]
    assert read(["é"], 7, 8) == [False, True]  # one character in two tokens
    assert read([], 3) == [False]


def test_rows_are_watched_apart() -> None:
    watch = StopWatch(["en"], PIECES, 2)
    assert [watch.read(row, token) for row, token in [(0, 4), (1, 5), (1, 4), (0, 5)]] == [False, False, False, True]


def test_the_first_end_is_seen_as_in_the_whole_text() -> None:
    rng = random.Random(1)
    for _ in range(300):
        stop = rng.sample(["end", "\n\n", "x\n", "d", "nen", "é"], rng.randint(1, 3))
        tokens = [rng.randrange(len(PIECES)) for _ in range(12)]
        text, expected = b"", []
        for token in tokens:
            text += PIECES[token]
            expected.append(any(string.encode() in text for string in stop))
        seen = read(stop, *tokens)
        assert seen[: expected.index(True) + 1 if True in expected else None] == (
            expected[: expected.index(True) + 1] if True in expected else expected
        )
