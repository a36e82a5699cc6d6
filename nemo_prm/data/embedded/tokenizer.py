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
"""The tokenizer of the embedded policy: SentencePiece BPE that gives back every text exactly as it went in.

Nothing is normalised, no space is added or removed, characters outside the vocabulary become bytes, and a newline is a
token of its own, so a line of a response ends in exactly one token.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Iterable

from nemo_prm.data.embedded.chains import INDENT

META_SPACE = "\u2581"  # how SentencePiece writes a space while it learns


def train_tokenizer(texts: Iterable[str], path: Path, vocab_size: int) -> None:
    """Learn a vocabulary from `texts` and write the SentencePiece model to `path`; the same texts give the same file.

    Afterwards the pieces are rewritten with real spaces: SentencePiece would otherwise turn a U+2581 in a text into a
    space when it decodes.

    Args:
        texts: what to learn from.
        path: the `.model` file to write.
        vocab_size: number of pieces, the 256 bytes and 4 special ones included (unknown 0, begin 1, end 2, padding 3).
    """
    import sentencepiece

    # sentencepiece's own copy of this module wants a newer protobuf than NeMo allows
    from transformers.utils.sentencepiece_model_pb2_new import ModelProto  # type: ignore[import-untyped]

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.splitlines() if line),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=["\n", META_SPACE * len(INDENT)],
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        num_threads=1,
        minloglevel=2,
    )
    proto = ModelProto()
    proto.ParseFromString(model.getvalue())
    proto.normalizer_spec.escape_whitespaces = False
    proto.denormalizer_spec.escape_whitespaces = False
    for piece in proto.pieces:
        piece.piece = piece.piece.replace(META_SPACE, " ")
    path.write_bytes(proto.SerializeToString(deterministic=True))
