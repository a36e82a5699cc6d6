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
"""The pieces of a vocabulary spell every text, and every line of it is paid exactly once, whatever the tokenizer."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")
sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from nemo_prm.data.alignment import step_end_tokens  # noqa: E402
from nemo_prm.data.steps import split_lines  # noqa: E402
from nemo_prm.errors import ConfigError, DataError  # noqa: E402
from nemo_prm.megatron.vocabulary import decode_tokens, encode_continuation, vocabulary_bytes  # noqa: E402
from nemo_prm.rewards.lines import line_ends, newline_table  # noqa: E402

TEXTS = [f"def f{i}(xs):\n    # step {i}\n\n    return [x + {i} for x in xs]\n" for i in range(200)]
LINES = st.lists(
    st.sampled_from(["x = 1", "    return x", "# \u00e4\U0001f600", "", " ", "\t", "'''", "a\r"]), max_size=8
)


def sentencepiece_tokenizer(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **options,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return SimpleNamespace(tokenizer=processor, encode=processor.encode, size=processor.get_piece_size())


def byte_level_tokenizer(without: str = ""):
    from transformers import PreTrainedTokenizerFast

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = [each for each in tokenizers.pre_tokenizers.ByteLevel.alphabet() if each not in without]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=["<eos>"], initial_alphabet=alphabet)
    bpe.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>")
    return SimpleNamespace(
        tokenizer=fast, encode=lambda text: fast.encode(text, add_special_tokens=False), size=len(fast)
    )


@pytest.fixture(scope="module", params=["sentencepiece, newline as a piece", "sentencepiece, bytes", "byte-level BPE"])
def tokenizer(request):
    if request.param == "byte-level BPE":
        found = byte_level_tokenizer()
        # without a regex the merges run over line ends: tokens with several newlines and with the next indentation
        pieces = vocabulary_bytes(found, found.size)
        assert any(piece.count(b"\n") > 1 for piece in pieces) and any(b"\n " in piece for piece in pieces)
        return found
    newline = {"user_defined_symbols": ["\n"]} if "newline" in request.param else {}
    return sentencepiece_tokenizer(add_dummy_prefix=False, **newline)


@settings(max_examples=150, deadline=None)
@given(lines=LINES, finished=st.booleans())
def test_pieces_spell_the_text_and_lines_are_found_alike_in_text_and_in_tokens(tokenizer, lines, finished) -> None:
    text = "\n".join(lines) + ("\n" if finished else "")
    pieces = vocabulary_bytes(tokenizer, tokenizer.size + 8)
    ids = tokenizer.encode(text)
    assert b"".join(pieces[token] for token in ids) == text.encode()

    eos = tokenizer.size  # an id beyond the tokenizer's own: no text
    tokens = torch.tensor([[eos, *ids, eos, eos]])  # one token of prompt, EOS, padding
    found = line_ends(newline_table(pieces), tokens, torch.tensor([1]), torch.tensor([len(ids) + 2]))
    by_text = step_end_tokens([*(pieces[token] for token in ids), b""], split_lines(text), text)
    assert found[0].nonzero().flatten().tolist() == sorted({1 + end for end in by_text})


def test_control_tokens_and_the_padded_vocabulary_have_no_text() -> None:
    found = sentencepiece_tokenizer()
    pieces = vocabulary_bytes(found, 400)
    assert len(pieces) == 400 and pieces[:3] == [b"", b"", b""] and pieces[-1] == b""  # unknown, begin, end
    fast = byte_level_tokenizer()
    assert vocabulary_bytes(fast, fast.size)[fast.tokenizer.eos_token_id] == b""


def test_added_tokens_are_spelled_as_they_are_written() -> None:
    # DeepSeek-Coder's: bytes that UTF-8 never has are no tokens, but the letters that stand for them are
    found = byte_level_tokenizer(without="\u00f6")
    found.tokenizer.add_tokens(["\u00f6", "  \u2581"])
    size = len(found.tokenizer)
    pieces = vocabulary_bytes(found, size)
    assert pieces[-2:] == ["\u00f6".encode(), "  \u2581".encode()]
    assert b"".join(pieces[token] for token in found.encode("K\u00f6ln\n")).decode() == "K\u00f6ln\n"


def test_an_unknown_kind_of_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither SentencePiece nor Hugging Face"):
        vocabulary_bytes(SimpleNamespace(tokenizer=object()), 10)


@pytest.mark.parametrize("text", ["    return x\n", "return x", "\n\n", " ", "\u00e4\n  \u2581x", "a  b\n\tc"])
@pytest.mark.parametrize("dummy_prefix", [False, True])
def test_a_continuation_is_spelled_exactly_though_the_tokenizer_adds_a_space(text: str, dummy_prefix: bool) -> None:
    found = sentencepiece_tokenizer(add_dummy_prefix=dummy_prefix)
    found.text_to_ids = found.encode
    pieces = vocabulary_bytes(found, found.size)
    if "\u2581" in text:  # most SentencePiece models cannot tell it from a space
        with pytest.raises(DataError, match="does not spell"):
            encode_continuation(found, pieces, text)
        return
    ids = encode_continuation(found, pieces, text)
    assert decode_tokens(pieces, ids) == text
