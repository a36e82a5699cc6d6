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
"""From steps in text to steps in tokens.

A tokenizer knows nothing of lines: one token may hold several newlines, a newline and the next indentation, or a part
of a character. A step ends at the token that holds its last byte.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Sequence

from nemo_prm.types import Step


def step_end_tokens(token_pieces: Sequence[bytes], steps: Sequence[Step], response: str) -> list[int]:
    """Find the token that ends each step.

    Args:
        token_pieces: what each token of the response adds to it, as UTF-8 bytes; empty for control tokens. A last step
            without a newline ends at the last piece: append an empty one where an EOS token follows.
        steps: spans of `response`, in order.
        response: the text; bytes that are no UTF-8 as lone surrogates ("surrogateescape").

    Returns:
        One index into `token_pieces` per step, never decreasing. Equal indices mean that the steps end in the same
        token and are one there: the last of them decides.

    Raises:
        ValueError: the pieces are not the bytes of `response`.
    """
    ends = list(accumulate(len(piece) for piece in token_pieces))
    if b"".join(token_pieces) != response.encode("utf-8", errors="surrogateescape"):
        raise ValueError(f"the tokens do not spell the response: {b''.join(token_pieces)!r} against {response!r}")
    result = []
    position, start = 0, 0
    for step in steps:
        position += len(response[start : step.end].encode("utf-8", errors="surrogateescape"))
        start = step.end
        unfinished = step.end == len(response) and not response.endswith("\n")
        result.append(len(ends) - 1 if unfinished else bisect_left(ends, position))
    return result
