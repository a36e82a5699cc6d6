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
"""Label rows become sequences with each label at the token that ends its line; nothing else is trained on."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")
pytest.importorskip("nemo", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

from nemo_prm.data.steps import split_lines  # noqa: E402
from nemo_prm.megatron.losses import IGNORE, masked_cross_entropy, masked_mse, to_scores  # noqa: E402
from nemo_prm.megatron.prm_dataset import PRMDataset, collate_prm, cut_to_longest  # noqa: E402
from nemo_prm.types import Cost, LabelRow  # noqa: E402

EOS = 2


class Characters:
    """One token per character, in the form of a SentencePiece model: id = code point."""

    def id_to_piece(self, index: int) -> str:
        return chr(index)

    def get_piece_size(self) -> int:
        return 128

    def encode_as_pieces(self, text: str) -> list[str]:
        return list(text)

    def is_control(self, index: int) -> bool:
        return index == EOS

    def is_byte(self, index: int) -> bool:
        return False

    is_unknown = is_unused = is_byte


TOKENIZER = SimpleNamespace(
    tokenizer=Characters(), eos_id=EOS, vocab_size=128, text_to_ids=lambda text: [ord(c) for c in text]
)


def row(response: str, *labels: float) -> LabelRow:
    steps = split_lines(response)
    return LabelRow("p", "r", "c", "do\n", response, steps, labels, "revised", (), Cost(), 0, "g", "s")


def test_labels_stand_at_newlines_and_an_unfinished_line_at_eos() -> None:
    tokens, labels = PRMDataset([row("a\n#\nb", 1.0, 0.0, -1.0)], TOKENIZER, max_length=64)[0]
    assert tokens == [*b"do\na\n#\nb", EOS]
    assert labels == [IGNORE] * 4 + [1.0, IGNORE, 0.0, IGNORE, -1.0]


def test_padding_carries_no_label() -> None:
    dataset = PRMDataset([row("a\n", 1.0), row("aaa\n", -1.0)], TOKENIZER, max_length=64)
    batch = collate_prm([dataset[0], dataset[1]], EOS)
    assert batch["inputs"].tolist()[0] == [*b"do\na\n", EOS, EOS, EOS]
    assert batch["lengths"].tolist() == [6, 8]
    assert [(labels != IGNORE).sum().item() for labels in batch["labels"]] == [1, 1]
    assert batch["attention_mask"].shape == (2, 1, 8, 8)
    assert not batch["attention_mask"][0, 0].tril().any() and batch["attention_mask"][0, 0, 0, 1]


def test_a_micro_batch_keeps_its_longest_row_up_to_the_multiple_of_sequence_parallelism() -> None:
    dataset = PRMDataset([row("a\n", 1.0), row("aaaa\n", -1.0)], TOKENIZER, max_length=64)
    batch = collate_prm([dataset[0], dataset[1]], EOS, multiple=4)
    assert batch["inputs"].shape == batch["labels"].shape == (2, 12)  # 6 and 9 tokens
    first = {name: tensor[:1] for name, tensor in batch.items()}
    for multiple, width in ((1, 6), (4, 8)):
        cut = cut_to_longest(first, multiple)
        assert cut["inputs"].tolist() == [[*b"do\na\n", EOS, EOS, EOS][:width]]
        assert {cut[name].shape for name in ("inputs", "labels", "loss_mask", "position_ids")} == {(1, width)}
        assert cut["attention_mask"].shape == (1, 1, width, width) and cut["lengths"].tolist() == [6]


def test_rows_beyond_the_context_are_left_out() -> None:
    rows = [row("a\n", 1.0), row("a" * 100 + "\n", 1.0)]
    assert len(PRMDataset(rows, TOKENIZER, max_length=10)) == 1
    assert len(PRMDataset(rows, TOKENIZER, max_length=4)) == 0


def test_a_response_that_was_cut_off_has_no_eos() -> None:
    cut = dataclasses.replace(row("a\nb", 1.0, -1.0), finish_reason="length")
    tokens, labels = PRMDataset([cut], TOKENIZER, max_length=64)[0]
    assert tokens == [*b"do\na\nb"]
    assert labels == [IGNORE] * 4 + [1.0, -1.0]


def test_the_loss_is_the_mean_over_labelled_tokens_alone() -> None:
    scores = torch.tensor([[9.0, 0.5, 9.0], [0.0, 9.0, 9.0]], requires_grad=True)
    labels = torch.tensor([[IGNORE, 1.0, IGNORE], [-1.0, IGNORE, IGNORE]])
    loss = masked_mse(scores, labels, num_labels=2)
    assert loss.item() == pytest.approx((0.25 + 1.0) / 2)
    loss.backward()
    assert (scores.grad != 0).tolist() == [[False, True, False], [True, False, False]]


def test_a_batch_without_labels_has_loss_and_gradient_zero() -> None:
    scores = torch.ones(1, 3, requires_grad=True)
    loss = masked_mse(scores, torch.full((1, 3), IGNORE), num_labels=1)
    loss.backward()
    assert loss.item() == 0 and not scores.grad.any()


def test_cross_entropy_by_hand() -> None:
    logits, labels = torch.tensor([[0.5, 2.0, -1.0, 9.0]]), torch.tensor([[1.0, -1.0, 0.5, IGNORE]])
    chance = torch.sigmoid(logits[0])
    terms = [-chance[0].log(), -(1 - chance[1]).log(), -0.75 * chance[2].log() - 0.25 * (1 - chance[2]).log()]
    assert masked_cross_entropy(logits, labels, 3.0).item() == pytest.approx(sum(terms).item() / 3)
    assert masked_cross_entropy(logits, torch.full((1, 4), IGNORE), 1.0).item() == 0


def test_scores_are_on_the_scale_of_the_labels() -> None:
    outputs = torch.tensor([-3.0, 0.0, 1.0])
    assert torch.equal(to_scores(outputs, "mse"), outputs)
    torch.testing.assert_close(to_scores(outputs, "cross_entropy"), 2 * torch.sigmoid(outputs) - 1)
