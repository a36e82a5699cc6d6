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
"""Which token of a response ends which step."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Sequence

from nemo_prm.errors import DataError
from nemo_prm.types import Step


def step_end_tokens(token_pieces: Sequence[bytes], steps: Sequence[Step], response: str) -> list[int]:
    """Find the token that ends each step.

    A step that ends with a newline belongs to the token that holds the newline. A last step without one belongs to
    the last token; for a response that was finished, append an empty piece for EOS, which then ends it.

    Args:
        token_pieces: bytes of each token of the response; they join to the response's UTF-8. A piece may hold several
            newlines or a part of a character, and control tokens are empty.
        steps: of `response`, in order.
        response: the text; bytes that are no UTF-8 are decoded with `surrogateescape`.

    Returns:
        One index into `token_pieces` per step, never falling. Steps that end in the same token have the same index:
        for the reward they are one step, `merge_labels` says what becomes of their labels.

    Raises:
        DataError: the pieces are not the response's.
    """
    try:
        encoded = response.encode("utf-8", "surrogateescape")
        matches = b"".join(token_pieces) == encoded
    except UnicodeEncodeError:
        matches = False
    if not matches:
        raise DataError(f"the tokens do not spell the response {response[:60]!r}...")
    ends_of_pieces = list(accumulate(map(len, token_pieces)))  # in bytes
    ends, position, offset = [], 0, 0
    for step in steps:
        offset += len(response[position : step.end].encode("utf-8", "surrogateescape"))
        position = step.end
        if response[step.start : step.end].endswith("\n"):
            ends.append(bisect_left(ends_of_pieces, offset))
        elif step.end == len(response):
            ends.append(len(token_pieces) - 1)
        else:  # code cut short by what follows it, which the splitter never does
            raise DataError(f"step {step} of the response {response[:60]!r}... does not end at a newline")
    return ends


def merge_labels(ends: Sequence[int], labels: Sequence[float]) -> dict[int, float]:
    """Return the label of each token that ends a step.

    Where several steps end in one token the later label wins, but a 0 never replaces another label: a token that
    holds the newline of a code line and a blank line after it carries the label of the code line.

    Args:
        ends: from `step_end_tokens`.
        labels: one per step.
    """
    merged: dict[int, float] = {}
    for end, label in zip(ends, labels):
        if label != 0 or end not in merged:
            merged[end] = label
    return merged
