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
"""The tokenizer gives back every text, through SentencePiece and through NeMo."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("sentencepiece", reason="the tokenizer needs the extra [nemo]")
pytest.importorskip("transformers", reason="the tokenizer needs the extra [nemo]")

from nemo_prm.data.embedded.chains import policy_texts
from nemo_prm.data.embedded.tokenizer import train_tokenizer

PIECES = [
    *("\n", "\n\n", " ", "  ", "    ", "\t", "\r\n", "\x00"),
    *("\u2581", "\u0301", "\u00e9", "\u65e5\u672c", "\U0001f600", "#"),
    *("<|endoftext|>", "</s>", "<s>", "<unk>", "<pad>", "<0x41>", "def solve(v):", "v = v[::-1]", "x", "12"),
]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer((prompt + response for prompt, response in islice(policy_texts(1), 1000)), path, 640)
    return path


def strange_texts() -> list[str]:
    rng = random.Random(0)
    return PIECES + ["".join(rng.choices(PIECES, k=rng.randint(2, 12))) for _ in range(2000)]


def test_decoding_inverts_encoding(model_path: Path) -> None:
    import sentencepiece

    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(model_path))
    assert tokenizer.get_piece_size() == 640
    for text in strange_texts():
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_through_nemo(model_path: Path) -> None:
    pytest.importorskip("nemo", reason="needs the extra [nemo]")
    from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer

    tokenizer = SentencePieceTokenizer(str(model_path), legacy=False)
    for text in strange_texts():
        assert tokenizer.ids_to_text(tokenizer.text_to_ids(text)) == text
    ids = tokenizer.text_to_ids("    v = v[:2]\n\n    return v\n")
    assert tokenizer.ids_to_text([*ids, tokenizer.eos_id]) == "    v = v[:2]\n\n    return v\n"
    newline = tokenizer.token_to_id("\n")
    assert ids.count(newline) == 3 and newline != tokenizer.unk_id  # a line ends in one token of its own
    assert tokenizer.eos_id == 2 and tokenizer.eos_id not in tokenizer.text_to_ids("<|endoftext|></s>")


def test_the_same_texts_give_the_same_file(model_path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.model"
    train_tokenizer((prompt + response for prompt, response in islice(policy_texts(1), 1000)), again, 640)
    assert again.read_bytes() == model_path.read_bytes()
