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
"""Requests and answers of the served models: what comes back, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nemo_prm.errors import RequestError
from nemo_prm.serving.messages import (
    GenerationRequest,
    ScoreRequest,
    decode_completions,
    decode_generation_request,
    decode_load_request,
    decode_score_request,
    encode_completions,
    encode_generation_request,
)
from nemo_prm.serving.wire import GENERATION, encode_text
from nemo_prm.types import Completion, SamplingParams

PARAMS = SamplingParams(temperature=0.5, top_p=0.75, top_k=3, max_new_tokens=17, stop=("\n\n", "é\0"))


def inputs(**changes: Any) -> dict[str, Any]:
    return encode_generation_request(GenerationRequest(["a\0", "é\n"], 4, PARAMS, [7, -8], 16)) | changes


def column(dtype: type, *values: float) -> np.ndarray:
    return np.array(values, dtype=dtype).reshape(-1, 1)


def test_a_generation_request_comes_back() -> None:
    assert decode_generation_request(inputs()) == GenerationRequest(["a\0", "é\n"], 4, PARAMS, [7, -8], 16)


def test_first_and_stop_may_be_left_out() -> None:
    plain = SamplingParams(max_new_tokens=17)
    arrays = encode_generation_request(GenerationRequest(["a"], 4, plain, [7]))
    assert "stop" not in arrays
    del arrays["first"]
    assert decode_generation_request(arrays) == GenerationRequest(["a"], 4, plain, [7], 0)


def test_its_arrays_are_those_of_the_model() -> None:
    arrays = inputs()
    assert list(arrays) == [spec.name for spec in GENERATION.inputs]
    for spec in GENERATION.inputs:
        assert arrays[spec.name].shape == ((2, 2) if spec.name == "stop" else (2, 1))
        assert arrays[spec.name].dtype == (object if spec.dtype is np.bytes_ else spec.dtype)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": column(np.int64, 0, 0)}, "n must be between 1 and 1024, got 0"),
        ({"n": column(np.int64, 1025, 1025)}, "n must be between 1 and 1024, got 1025"),
        ({"n": column(np.int64, 2, 3)}, r"n must be the same for all prompts of a request, got \[2, 3\]"),
        ({"temperature": column(np.float32, -1, -1)}, "temperature must be a finite number of at least 0, got -1.0"),
        ({"temperature": column(np.float32, np.nan, np.nan)}, "temperature must be .* got nan"),
        ({"temperature": column(np.float32, np.inf, np.inf)}, "temperature must be .* got inf"),
        ({"top_p": column(np.float32, 0, 0)}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"top_p": column(np.float32, 1.5, 1.5)}, r"top_p must be in \(0, 1\], got 1.5"),
        ({"top_k": column(np.int64, -1, -1)}, "top_k must be at least 0"),
        ({"max_new_tokens": column(np.int64, 0, 0)}, "max_new_tokens must be at least 1, got 0"),
        ({"first": column(np.int64, -1, -1)}, "first must be at least 0, got -1"),
        ({"first": column(np.int64, 0, 2)}, r"first must be the same for all prompts of a request, got \[0, 2\]"),
        (
            {"stop": encode_text([["a", ""]] * 2)},
            r"stop must be at most 16 strings, none of them empty, got \['a', ''\]",
        ),
        ({"stop": encode_text([["a"] * 17] * 2)}, "stop must be at most 16 strings"),
        ({"stop": encode_text([["a"], ["b"]])}, r"stop must be the same for all prompts .* got \[\['a'\], \['b'\]\]"),
        ({"stop": np.array([[b"a"], [b"\xff"]], dtype=object)}, "stop string of row 1 is not UTF-8"),
        ({"prompts": encode_text(["a", ""])}, "prompt 1 is empty"),
        ({"prompts": np.array([[b"a"], [b"\xff"]], dtype=object)}, "prompt 1 is not UTF-8"),
    ],
)
def test_values_that_cannot_be_sampled_with_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode_generation_request(inputs(**changes))


def test_completions_and_refusals_come_back() -> None:
    answers: list[list[Completion] | str] = [
        [Completion("x\0\n", 3, "stop"), Completion("", 1, "stop")],
        "prompt_too_long: 9 tokens",
        [Completion("é", 2, "length"), Completion("  y", 2, "length")],
    ]
    outputs = encode_completions(answers, 2, "policy.nemo@1f")
    assert {name: array.shape for name, array in outputs.items()} == {
        "texts": (3, 2),
        "num_tokens": (3, 2),
        "finish_reasons": (3, 2),
        "errors": (3, 1),
        "checkpoint": (3, 1),
    }
    assert decode_completions(outputs, len(answers), 2) == (answers, "policy.nemo@1f")


def test_a_checkpoint_to_load_is_a_path() -> None:
    assert decode_load_request({"checkpoint": encode_text(["runs/é.nemo"])}) == "runs/é.nemo"
    for bad in ("", "a\0.nemo"):
        with pytest.raises(RequestError, match="checkpoint must be the path of a .nemo"):
            decode_load_request({"checkpoint": encode_text([bad])})


def score_inputs(**changes: Any) -> dict[str, Any]:
    return {
        "tokens": np.array([[5, 6, 7, 0], [5, 6, 7, 8]], dtype=np.int64),
        "sequence_lengths": column(np.int64, 3, 4),
        "prompt_lengths": column(np.int64, 1, 4),
    } | changes


def test_tokens_to_score_come_back() -> None:
    request = decode_score_request(score_inputs(), vocab_size=9, max_length=4)
    assert isinstance(request, ScoreRequest)
    assert request.sequence_lengths.tolist() == [3, 4]
    assert request.prompt_lengths.tolist() == [1, 4]


def test_texts_to_score_come_back_in_pairs() -> None:
    texts = {"prompts": encode_text(["p", "q"]), "responses": encode_text(["r\0", ""])}
    assert decode_score_request(texts, vocab_size=9, max_length=4) == [("p", "r\0"), ("q", "")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": np.array([[5, 6, 7, 0], [5, -2, 7, 8]])}, r"tokens of row 1 must lie in \[0, 9\), got -2"),
        ({"tokens": np.array([[5, 6, 7, 9], [5, 6, 7, 8]])}, r"tokens of row 0 must lie in \[0, 9\), got 9"),
        ({"sequence_lengths": column(np.int64, 3, 5)}, r"sequence_lengths of row 1 must lie in \[2, 4\].*got 5"),
        ({"sequence_lengths": column(np.int64, 1, 4)}, r"sequence_lengths of row 0 must lie in \[2, 4\].*got 1"),
        ({"prompt_lengths": column(np.int64, 1, 0)}, r"prompt_lengths of row 1 must lie in \[1, .*got 0"),
        ({"prompt_lengths": column(np.int64, 4, 4)}, r"prompt_lengths of row 0 must lie in \[1, .* = 3\], got 4"),
        ({"prompts": encode_text(["p", "q"])}, "inputs must be .* got .*'prompt_lengths', 'prompts'"),
    ],
)
def test_tokens_that_cannot_be_scored_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode_score_request(score_inputs(**changes), vocab_size=9, max_length=4)


def test_a_sequence_longer_than_the_model_is_refused() -> None:
    with pytest.raises(RequestError, match="the model takes 3 tokens"):
        decode_score_request(score_inputs(), vocab_size=9, max_length=3)


def test_no_input_at_all_is_refused() -> None:
    with pytest.raises(RequestError, match="got none"):
        decode_score_request({}, vocab_size=9, max_length=3)
