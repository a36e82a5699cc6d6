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
"""The text of each vocabulary item, for the tokenizers of NeMo: SentencePiece and Hugging Face."""

from __future__ import annotations

from typing import Any, Sequence

from nemo_prm.errors import ConfigError, DataError


def vocabulary_bytes(tokenizer: Any, size: int) -> list[bytes]:
    """What each token id adds to the text, as UTF-8 bytes; empty for control tokens.

    Bytes, because one character may be spread over several tokens.

    Args:
        tokenizer: a NeMo tokenizer (`SentencePieceTokenizer` or Hugging Face's `AutoTokenizer`).
        size: number of entries wanted; ids of the padded vocabulary beyond the tokenizer's own are empty.

    Raises:
        ConfigError: the tokenizer is of another kind.
    """
    inner = getattr(tokenizer, "tokenizer", None)
    if hasattr(inner, "id_to_piece"):
        # most models write a space as U+2581; one that does not escape it may have U+2581 itself in its vocabulary
        space = "\u2581" if "\u2581" in "".join(inner.encode_as_pieces("a b")) else " "
        pieces = [_sentencepiece_bytes(inner, index, space) for index in range(inner.get_piece_size())]
    elif hasattr(inner, "convert_ids_to_tokens"):
        pieces = _hugging_face_bytes(inner)
    else:
        raise ConfigError(
            f"tokenizer {type(tokenizer).__name__} is neither SentencePiece nor Hugging Face: its newlines are unknown"
        )
    return (pieces + [b""] * (size - len(pieces)))[:size]


def encode_continuation(tokenizer: Any, pieces: Sequence[bytes], text: str) -> list[int]:
    """Token ids that spell exactly `text`, which continues another text.

    Some SentencePiece models (Llama 2's) put a space before whatever they encode; behind a character put there for it,
    they put it before that one.

    Args:
        tokenizer: a NeMo tokenizer.
        pieces: of its vocabulary, from `vocabulary_bytes`.
        text: what the ids must spell, leading white space included.

    Raises:
        DataError: the tokenizer cannot spell the text.
    """
    wanted = text.encode("utf-8")
    ids: list[int] = list(tokenizer.text_to_ids(text))
    if b"".join(pieces[token] for token in ids) == wanted:
        return ids
    for before in ("\n", "#"):  # the second where the first merges with the text
        ids = list(tokenizer.text_to_ids(before + text))
        for start in range(len(ids) + 1):
            if b"".join(pieces[token] for token in ids[start:]) == wanted:
                return ids[start:]
    raise DataError(f"tokenizer {type(tokenizer).__name__} does not spell {text[:60]!r} exactly")


def decode_tokens(pieces: Sequence[bytes], ids: Sequence[int]) -> str:
    """The text of token ids, to the byte: tokenizers' own decoders drop a space at the start.

    A character that is cut in two becomes U+FFFD.
    """
    return b"".join(pieces[token] for token in ids).decode("utf-8", errors="replace")


def _sentencepiece_bytes(model: Any, index: int, space: str) -> bytes:
    if model.is_byte(index):  # "<0x0A>"
        return bytes([int(model.id_to_piece(index)[1:-1], 16)])
    if model.is_control(index) or model.is_unknown(index) or model.is_unused(index):
        return b""
    return model.id_to_piece(index).replace(space, " ").encode()


def _hugging_face_bytes(model: Any) -> list[bytes]:
    control = {index for index, token in model.added_tokens_decoder.items() if token.special}
    special, added = control | set(model.all_special_ids), set(model.get_added_vocab().values())
    tokens = model.convert_ids_to_tokens(range(len(model)))
    byte_of = _byte_level_alphabet()
    # byte-level BPE writes a newline as "Ċ" (U+010A) and a space as "Ġ"; others follow SentencePiece's conventions,
    # and may know "Ġ" as a letter (Llama 2)
    byte_level = "<0x0A>" not in tokens and any(token and "\u0120" in token for token in tokens)

    def text(index: int, token: str | None) -> bytes:
        if index in special or token is None:
            return b""
        if index in added:  # as it is written, whatever the tokenizer writes for bytes
            return token.encode()
        if byte_level and all(character in byte_of for character in token):
            return bytes(byte_of[character] for character in token)
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[1:-1], 16)])
        return token.replace("\u2581", " ").encode()

    return [text(index, token) for index, token in enumerate(tokens)]


def _byte_level_alphabet() -> dict[str, int]:
    """The printable character that byte-level BPE (GPT-2) writes for each byte, inverted."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
