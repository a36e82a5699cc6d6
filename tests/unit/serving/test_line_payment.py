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
"""Every line of a response is paid exactly once, whatever the tokenizer made of it."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")
pytest.importorskip("nemo", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

from nemo_prm.data.steps import code_span  # noqa: E402
from nemo_prm.errors import RequestError  # noqa: E402
from nemo_prm.megatron.vocabulary import vocabulary_bytes  # noqa: E402
from nemo_prm.serving.messages import ScoreRequest  # noqa: E402
from nemo_prm.serving.reward import LineScorer, RewardRules  # noqa: E402
from nemo_prm.serving.wire import TOO_LONG, encode_text  # noqa: E402

CORPUS = ["def f(x):\n    return x\n\n\n    y = 'é'\n", "```python\na = 1\n```\n", "\r\n\t# ß\n\n"] * 20
PARTS = [
    "\n", "\n\n", "\n\n\n    ", "    ", "\r\n", "x = 1", "# é", "def f(x):", "\t", "日本", "𝄞", "`", "\x0b", "\u2028",
    "return x\n", "'''\n", "a\n\nb", " ",
]  # fmt: skip


def byte_level(folder: Path) -> Any:
    """A byte-level BPE, as GPT-2, Qwen and DeepSeek-Coder have it; its vocabulary joins newlines and indentation."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    return SimpleNamespace(
        tokenizer=fast,
        eos_id=fast.eos_token_id,
        vocab_size=len(fast),
        text_to_ids=lambda text: fast.encode(text, add_special_tokens=False),
    )


def sentencepiece(folder: Path) -> Any:
    """SentencePiece with byte fallback, as Llama has it; a newline is a byte, or part of a piece."""
    import sentencepiece as library

    library.SentencePieceTrainer.train(
        sentence_iterator=iter([text.replace("\n", " ") for text in CORPUS]),
        model_prefix=str(folder / "model"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=["\n\n", "\n    "],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = library.SentencePieceProcessor(model_file=str(folder / "model.model"))
    return SimpleNamespace(
        tokenizer=model, eos_id=model.eos_id(), vocab_size=model.get_piece_size(), text_to_ids=model.encode
    )


def scorer(tokenizer: Any, **rules: Any) -> LineScorer:
    """The server's own scorer; only the model's forward pass is put in: the score of token i is wave(i)."""
    model = SimpleNamespace(
        tokenizer=tokenizer,
        padded_vocab_size=tokenizer.vocab_size,
        cfg=SimpleNamespace(encoder_seq_length=4096),
        forward_micro_batch_size=4,
    )

    def infer(inputs: Any) -> np.ndarray:
        rows, columns = inputs["inputs"].shape
        return np.tile(wave(np.arange(columns)), (rows, 1)).astype(np.float32)

    return LineScorer(model, infer, RewardRules(**rules))


def wave(position: np.ndarray) -> np.ndarray:
    return 1.5 * np.sin(1.0 + position)


@pytest.fixture(scope="module", params=[byte_level, sentencepiece])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make: Callable[[Path], Any] = request.param
    return make(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    from nemo_prm.serving import reward

    monkeypatch.setattr(reward.parallel_state, "get_data_parallel_world_size", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: "cpu")


def random_text(rng: random.Random) -> str:
    text = "".join(rng.choice(PARTS) for _ in range(rng.randint(0, 25)))
    if rng.random() < 0.4:
        text = f"Look:\n\n```python\n{text}\n```\nThat is\nall.\n"
    return text if rng.random() < 0.5 else text.rstrip("\n")


def test_every_line_is_paid_exactly_once(tokenizer: Any) -> None:
    rng = random.Random(7)
    pieces = vocabulary_bytes(tokenizer, tokenizer.vocab_size)
    ours = scorer(tokenizer)
    fenced = multiple = 0
    for _ in range(150):
        prompt_ids = tokenizer.text_to_ids("# prompt\n" + rng.choice(PARTS))
        texts = [random_text(rng) for _ in range(3)]
        rows, ends = [], []
        for text in texts:
            end = [tokenizer.eos_id] if rng.random() < 0.7 else []  # else the response was cut off
            ids = tokenizer.text_to_ids(text)
            if b"".join(pieces[token] for token in ids) != text.encode():
                pytest.fail(f"the tokenizer of this test does not spell {text!r}")
            rows.append([*prompt_ids, *ids, *end] if ids or end else [*prompt_ids, tokenizer.eos_id])
            # by the text alone: the bytes of each token, and where the newlines of the code are
            start, stop = (len(text[:each].encode()) for each in code_span(text))
            content, position, found = text.encode(), 0, set()
            for index, token in enumerate(ids):
                for offset in range(position, position + len(pieces[token])):
                    if content[offset] == 10 and start <= offset < stop:
                        found.add(len(prompt_ids) + index)
                position += len(pieces[token])
            rest = content[start:stop].rpartition(b"\n")[2]
            if rest and stop == len(content):
                found.add(len(rows[-1]) - 1)
            ends.append(sorted(found))
            fenced += "```" in text
            multiple += content[start:stop].count(b"\n") > len(found)
        width = max(map(len, rows)) + rng.randint(0, 3)
        request = ScoreRequest(
            np.array([row + [tokenizer.eos_id] * (width - len(row)) for row in rows]),
            np.array([len(row) for row in rows]),
            np.array([len(prompt_ids)] * len(rows)),
        )
        [answer] = ours.score([request])
        for index, expected in enumerate(ends):
            scores, rewards = answer["line_scores"][index], answer["line_rewards"][index]
            assert [p + 1 for p in np.flatnonzero(~np.isnan(scores))] == expected, (texts[index], expected)
            assert answer["num_lines"][index, 0] == len(expected)
            assert not rewards[np.isnan(scores)].any()  # prompt, padding, text around the fence, other tokens
            np.testing.assert_allclose(scores[~np.isnan(scores)], wave(np.array(expected, dtype=int)), rtol=1e-5)
            mean = np.mean(np.clip(wave(np.array(expected)), -1, 1)) if expected else 0.0
            assert rewards.sum() == pytest.approx(mean, abs=1e-5)
    assert fenced > 50 and multiple > 20  # the cases that matter have occurred


def test_rules(tokenizer: Any) -> None:
    text = "say\n```python\na = 1\nb = 2\n```\n"
    ids = [*tokenizer.text_to_ids("p\n"), *tokenizer.text_to_ids(text), tokenizer.eos_id]
    request = ScoreRequest(np.array([ids]), np.array([len(ids)]), np.array([len(tokenizer.text_to_ids("p\n"))]))

    def rewards(**rules: Any) -> tuple[np.ndarray, np.ndarray]:
        [answer] = scorer(tokenizer, **rules).score([request])
        scores = answer["line_scores"][0]
        return scores[~np.isnan(scores)], answer["line_rewards"][0][~np.isnan(scores)]

    raw, paid = rewards(clamp=0.5, normalise=False)
    assert len(raw) == 2
    np.testing.assert_allclose(paid, np.clip(raw, -0.5, 0.5))
    raw, paid = rewards(clamp=None)
    np.testing.assert_allclose(paid, raw / 2)
    assert len(rewards(code_only=False)[0]) >= 4


def test_a_block_that_the_prompt_opens(tokenizer: Any) -> None:
    prompt, text = "do\n```python\n", "a = 1\nb = 2\n```\nDone.\nReally.\n"
    before = tokenizer.text_to_ids(prompt)
    ids = [*before, *tokenizer.text_to_ids(text), tokenizer.eos_id]
    [answer] = scorer(tokenizer).score([ScoreRequest(np.array([ids]), np.array([len(ids)]), np.array([len(before)]))])
    assert answer["num_lines"].tolist() == [[2]]


def test_a_response_that_fills_the_context_has_no_eos(tokenizer: Any) -> None:
    ours, words = scorer(tokenizer), "x\n" * 20
    full = len(tokenizer.text_to_ids("p\n")) + len(tokenizer.text_to_ids(words))
    ours.max_length = full
    request = ours.read({"prompts": encode_text(["p\n"]), "responses": encode_text([words])})
    assert request.sequence_lengths.tolist() == [full] and request.tokens[0, -1] != tokenizer.eos_id
    ours.max_length = full - 1
    with pytest.raises(RequestError, match=f"{TOO_LONG}: .* the model takes {full - 1}"):
        ours.read({"prompts": encode_text(["p\n"]), "responses": encode_text([words])})


def test_a_response_that_was_cut_off_has_no_eos(tokenizer: Any) -> None:
    texts = {"prompts": encode_text(["p\n"] * 2), "responses": encode_text(["x = 1\ny"] * 2)}
    request = scorer(tokenizer).read(texts | {"finished": np.array([[True], [False]])})
    ended, cut_off = request.sequence_lengths.tolist()
    assert ended == cut_off + 1 and request.tokens[0, ended - 1] == tokenizer.eos_id
    assert request.tokens[1, cut_off - 1] != tokenizer.eos_id
    [answer] = scorer(tokenizer).score([request])
    last = [int(np.flatnonzero(~np.isnan(row))[-1]) for row in answer["line_scores"]]
    assert last == [ended - 2, cut_off - 2]  # its last line is scored at its own last token


def test_a_score_that_is_no_number_is_no_reward(tokenizer: Any) -> None:
    good, bad = (
        [*tokenizer.text_to_ids("p\n"), *tokenizer.text_to_ids(text)] for text in ("x\n", "x = 1\ny = 2\nz\n")
    )
    ours = scorer(tokenizer)
    infer = ours.infer

    def broken(inputs: Any) -> np.ndarray:
        scores = infer(inputs)
        scores[:, len(good) :] = np.nan
        return scores

    ours.infer = broken
    requests = [ScoreRequest(np.array([ids]), np.array([len(ids)]), np.array([1])) for ids in (good, bad)]
    first, second = ours.score(requests)
    assert isinstance(first, dict) and np.isfinite(first["line_rewards"]).all()
    assert isinstance(second, RequestError) and "row 0 is no finite number" in str(second)


def test_all_rows_of_all_requests_get_their_own_answer(tokenizer: Any) -> None:
    """Rows are scored in the order of their lengths, and come back in the order of the requests."""
    rng = random.Random(3)
    requests = []
    for _ in range(6):
        texts = [f"{'x = 1' * rng.randint(1, 40)}\n" for _ in range(rng.randint(1, 5))]
        rows = [[*tokenizer.text_to_ids("p\n"), *tokenizer.text_to_ids(text), tokenizer.eos_id] for text in texts]
        width = max(map(len, rows))
        tokens = np.array([row + [0] * (width - len(row)) for row in rows])
        prompt = len(tokenizer.text_to_ids("p\n"))
        requests.append(ScoreRequest(tokens, np.array([len(row) for row in rows]), np.array([prompt] * len(rows))))
    ours = scorer(tokenizer)
    together = ours.score(requests)
    for request, answer in zip(requests, together):
        [alone] = ours.score([request])
        for name in alone:
            np.testing.assert_array_equal(answer[name], alone[name])
        assert answer["line_rewards"].shape == (len(request.tokens), request.tokens.shape[1] - 1)
