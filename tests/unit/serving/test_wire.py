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
"""What a text or a request becomes on the wire, and back."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_prm.errors import RequestError
from nemo_prm.serving.wire import decode_text, encode_text, resolve_token

TEXTS = [
    "",
    "a",
    "trailing NUL\0\0",
    "\0",
    "newlines\n\n",
    "  indented",
    "naïve é 漢字 🙂",
    "e\u0301",
    "\r\n\t",
    "\ufeffx",
]


def test_every_text_comes_back_unchanged() -> None:
    array = encode_text(TEXTS)
    assert array.shape == (len(TEXTS), 1)
    assert array.dtype == object
    assert all(type(item) is bytes for item in array.reshape(-1))
    assert decode_text(array) == [[text] for text in TEXTS]


def test_nested_texts_keep_their_rows() -> None:
    rows = [["a\0", "", "c"], ["🙂", "\n", "f"]]
    assert encode_text(rows).shape == (2, 3)
    assert decode_text(encode_text(rows)) == rows


def test_no_text_is_an_empty_batch() -> None:
    assert encode_text([]).shape == (0, 1)
    assert decode_text(encode_text([])) == []


def test_a_lone_surrogate_is_refused_by_row() -> None:
    with pytest.raises(RequestError, match="prompt 1 is not Unicode: surrogates not allowed at character 2"):
        encode_text(["fine", "ab\ud800"], "prompt")


def test_bytes_that_are_not_utf8_are_refused_by_row() -> None:
    array = np.array([[b"fine"], [b"a\xff"]], dtype=object)
    with pytest.raises(RequestError, match="prompt 1 is not UTF-8: invalid start byte at byte 1"):
        decode_text(array, "prompt")


def test_the_configured_token_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMO_PRM_TOKEN", "from the environment")
    assert resolve_token("configured") == "configured"
    assert resolve_token(None) == "from the environment"
    monkeypatch.setenv("NEMO_PRM_TOKEN", "")
    assert resolve_token(None) is None
