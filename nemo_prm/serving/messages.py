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
"""The requests and answers of every served model as Python values: checked, encoded and decoded in one place.

Triton itself refuses an input that is missing, of another dtype or of another shape; the checks here are about values.
Shape legend: B sequences, S tokens (padded), n completions per prompt.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence, cast, get_args

import numpy as np
from numpy.typing import NDArray

from nemo_prm.config import MAX_STOPS
from nemo_prm.errors import RequestError
from nemo_prm.serving.wire import Arrays, decode_text, encode_text
from nemo_prm.types import Completion, FinishReason, SamplingParams

MAX_COMPLETIONS = 1024  # of one prompt in one request


class GenerationRequest(NamedTuple):
    """One request to the `generation` model: completions `first` to `first + n - 1`, one seed per prompt."""

    prompts: list[str]
    n: int
    params: SamplingParams
    seeds: list[int]
    first: int = 0


def encode_generation_request(request: GenerationRequest) -> dict[str, NDArray[Any]]:
    """The inputs of the `generation` model, [B, 1] each; [B, k] for k stop strings, left out where k is 0."""
    prompts, n, params, seeds, first = request
    size = (len(prompts), 1)
    stop = {"stop": encode_text([params.stop] * len(prompts), "stop string of row")} if params.stop else {}
    return {
        "prompts": encode_text(prompts, "prompt"),
        "n": np.full(size, n, dtype=np.int64),
        "temperature": np.full(size, params.temperature, dtype=np.float32),
        "top_p": np.full(size, params.top_p, dtype=np.float32),
        "top_k": np.full(size, params.top_k, dtype=np.int64),
        "max_new_tokens": np.full(size, params.max_new_tokens, dtype=np.int64),
        "seed": np.array(seeds, dtype=np.int64).reshape(size),
        "first": np.full(size, first, dtype=np.int64),
    } | stop


def decode_generation_request(inputs: Arrays) -> GenerationRequest:
    """Read and check the inputs of the `generation` model.

    Raises:
        RequestError: a value that cannot be sampled with; names the input and the value.
    """

    def scalar(name: str) -> Any:
        values = np.unique(inputs[name])
        if values.size != 1:
            raise RequestError(f"{name} must be the same for all prompts of a request, got {values[:4].tolist()}")
        return values[0].item()

    def require(name: str, value: Any, good: bool, what: str) -> None:
        if not good:
            raise RequestError(f"{name} must be {what}, got {value}")

    n, top_k, max_new_tokens = scalar("n"), scalar("top_k"), scalar("max_new_tokens")
    temperature, top_p = scalar("temperature"), scalar("top_p")
    require("n", n, 1 <= n <= MAX_COMPLETIONS, f"between 1 and {MAX_COMPLETIONS}")
    require("temperature", temperature, np.isfinite(temperature) and temperature >= 0, "a finite number of at least 0")
    require("top_p", top_p, 0 < top_p <= 1, "in (0, 1]")
    require("top_k", top_k, top_k >= 0, "at least 0 (0 switches the filter off)")
    require("max_new_tokens", max_new_tokens, max_new_tokens >= 1, "at least 1")
    first = scalar("first") if "first" in inputs else 0
    require("first", first, first >= 0, "at least 0")
    stops = decode_text(inputs["stop"], "stop string of row") if "stop" in inputs else [[]]
    require("stop", stops[:2], all(row == stops[0] for row in stops), "the same for all prompts of a request")
    good = len(stops[0]) <= MAX_STOPS and all(stops[0])
    require("stop", stops[0], good, f"at most {MAX_STOPS} strings, none of them empty")
    prompts = [row[0] for row in decode_text(inputs["prompts"], "prompt")]
    empty = [i for i, prompt in enumerate(prompts) if not prompt]
    if empty:
        raise RequestError(f"prompt {empty[0]} is empty")
    params = SamplingParams(temperature, top_p, top_k, max_new_tokens, tuple(stops[0]))
    return GenerationRequest(prompts, n, params, inputs["seed"].reshape(-1).tolist(), first)


def decode_load_request(inputs: Arrays) -> str:
    """The path in a request to the `generation_load` model."""
    path = decode_text(inputs["checkpoint"], "checkpoint")[0][0]
    if not path or "\0" in path:
        raise RequestError(f"checkpoint must be the path of a .nemo, got {path!r}")
    return path


def encode_completions(
    answers: Sequence[Sequence[Completion] | str], n: int, checkpoint: str
) -> dict[str, NDArray[Any]]:
    """The outputs of the `generation` model.

    Args:
        answers: per prompt its `n` completions, or the reason why it was refused.
        n: completions per prompt.
        checkpoint: name of the checkpoint that answered.
    """
    nothing = [Completion("", 0, "length")] * n
    rows = [nothing if isinstance(answer, str) else answer for answer in answers]
    return {
        "texts": encode_text([[c.text for c in row] for row in rows]),
        "num_tokens": np.array([[c.num_tokens for c in row] for row in rows], dtype=np.int64),
        "finish_reasons": encode_text([[c.finish_reason for c in row] for row in rows]),
        "errors": encode_text([answer if isinstance(answer, str) else "" for answer in answers]),
        "checkpoint": encode_text([checkpoint] * len(answers)),
    }


def decode_completions(outputs: Arrays, rows: int, n: int) -> tuple[list[list[Completion] | str], str]:
    """The inverse of `encode_completions`: its answers, and the checkpoint.

    Args:
        outputs: of the `generation` model.
        rows: prompts that were asked about.
        n: completions that were asked for.

    Raises:
        ValueError: the outputs are no answer to that.
        RequestError: a text is not UTF-8.
    """
    for name in ("texts", "num_tokens", "finish_reasons"):
        if outputs[name].shape != (rows, n):
            raise ValueError(f"{name} of shape {outputs[name].shape}, not {(rows, n)}")
    texts, reasons = decode_text(outputs["texts"]), decode_text(outputs["finish_reasons"])
    if strange := {reason for row in reasons for reason in row} - set(get_args(FinishReason)):
        raise ValueError(f"finish reasons {sorted(strange)}")
    answers: list[list[Completion] | str] = []
    for row, (error,) in enumerate(decode_text(outputs["errors"])):
        if error:
            answers.append(error)
            continue
        lengths = outputs["num_tokens"][row].tolist()
        drawn = zip(texts[row], lengths, reasons[row])
        answers.append([Completion(text, length, cast(FinishReason, reason)) for text, length, reason in drawn])
    return answers, decode_text(outputs["checkpoint"])[0][0]


class ScoreRequest(NamedTuple):
    """Tokens to score: `tokens` int64 [B, S], `sequence_lengths` and `prompt_lengths` int64 [B] (prompt included)."""

    tokens: NDArray[np.int64]
    sequence_lengths: NDArray[np.int64]
    prompt_lengths: NDArray[np.int64]


def check_tokens(tokens: NDArray[Any], vocab_size: int) -> None:
    """Refuse ids [B, S] beyond the vocabulary: on a GPU they would end the server. Names the row and the value."""
    bad = np.flatnonzero((tokens < 0).any(axis=1) | (tokens >= vocab_size).any(axis=1))
    if bad.size:
        row = tokens[bad[0]]
        value = row[(row < 0) | (row >= vocab_size)][0]
        raise RequestError(f"tokens of row {bad[0]} must lie in [0, {vocab_size}), got {value}")


def check_lengths(tokens: NDArray[Any], lengths: NDArray[Any], max_length: int) -> None:
    """Refuse lengths [B] that are not those of sequences in `tokens` [B, S], or that the model does not take."""
    longest = min(tokens.shape[1], max_length)
    bad = np.flatnonzero((lengths < 2) | (lengths > longest))
    if bad.size:
        raise RequestError(
            f"sequence_lengths of row {bad[0]} must lie in [2, {longest}] (S = {tokens.shape[1]}, the model takes "
            f"{max_length} tokens), got {lengths[bad[0]]}"
        )


def check_critic_infer(inputs: Arrays, vocab_size: int, max_length: int) -> None:
    """Check the inputs of `critic_infer`.

    Raises:
        RequestError: a combination or a value that has no values; names the row.
    """
    given = set(inputs)
    if given == {"sentences"}:
        if inputs["sentences"].ndim != 2 or inputs["sentences"].shape[1] != 1:
            raise RequestError(f"sentences must be [B, 1], got {list(inputs['sentences'].shape)}")
        decode_text(inputs["sentences"], "sentence of row")
        return
    if given != {"tokens", "sequence_lengths"}:
        raise RequestError(
            f"inputs must be ['sequence_lengths', 'tokens'] or ['sentences'], got {sorted(given) or 'none'}"
        )
    check_tokens(inputs["tokens"], vocab_size)
    check_lengths(inputs["tokens"], inputs["sequence_lengths"].reshape(-1), max_length)


def check_critic_train(inputs: Arrays, vocab_size: int, max_length: int) -> None:
    """Check the inputs of `critic_train`.

    Raises:
        RequestError: shapes that do not belong together, or a value that would spoil the weights; names it.
    """
    tokens = inputs["tokens"]
    rows, length = tokens.shape
    if not 2 <= length <= max_length or not rows:
        raise RequestError(f"tokens must be [B, S] with S in [2, {max_length}], got {[rows, length]}")
    check_tokens(tokens, vocab_size)
    for name in ("returns", "prev_values", "mask"):
        if inputs[name].shape != (rows, length - 1):
            raise RequestError(f"{name} must be [B, S-1] = {[rows, length - 1]}, got {list(inputs[name].shape)}")
        if not np.isfinite(inputs[name]).all():
            raise RequestError(f"{name} of row {np.argwhere(~np.isfinite(inputs[name]))[0][0]} are not finite")


def decode_score_request(inputs: Arrays, vocab_size: int, max_length: int) -> ScoreRequest | list[tuple[str, str]]:
    """Read and check the inputs of the `prm` model.

    Args:
        inputs: `tokens`, `sequence_lengths` and `prompt_lengths`, or `prompts` and `responses` (and `finished`).
        vocab_size: ids run from 0 to `vocab_size - 1`; padding must keep to it too.
        max_length: longest sequence the model takes, in tokens.

    Returns:
        The tokens, or the pairs of prompt and response (still to be tokenised).

    Raises:
        RequestError: a combination or a value that cannot be scored; names the row and the value.
    """
    token_inputs, text_inputs = {"tokens", "sequence_lengths", "prompt_lengths"}, {"prompts", "responses"}
    given = set(inputs)
    if given - {"finished"} == text_inputs:
        prompts, responses = (decode_text(inputs[name], name[:-1]) for name in ("prompts", "responses"))
        return [(prompt, response) for (prompt,), (response,) in zip(prompts, responses)]
    if given != token_inputs:
        raise RequestError(
            f"inputs must be {sorted(token_inputs)} or {sorted(text_inputs)}, got {sorted(given) or 'none'}"
        )
    tokens = inputs["tokens"]
    totals, prompts_ = inputs["sequence_lengths"].reshape(-1), inputs["prompt_lengths"].reshape(-1)
    check_tokens(tokens, vocab_size)
    check_lengths(tokens, totals, max_length)
    bad = np.flatnonzero((prompts_ < 1) | (prompts_ > totals))
    if bad.size:
        raise RequestError(
            f"prompt_lengths of row {bad[0]} must lie in [1, sequence_lengths = {totals[bad[0]]}], "
            f"got {prompts_[bad[0]]}"
        )
    return ScoreRequest(tokens, totals, prompts_)
