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
"""Sampling against distributions computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nemo_prm.megatron.sampling import sample_tokens, uniforms  # noqa: E402
from nemo_prm.types import SamplingParams  # noqa: E402

PROBABILITIES = [0.1, 0.4, 0.2, 0.3]


def shares(params: SamplingParams, probabilities: list[float] = PROBABILITIES, draws: int = 1000) -> list[float]:
    """How often each token comes out over an even grid of random numbers."""
    logits = torch.tensor([[math.log(p) if p else -math.inf for p in probabilities]]).repeat(draws, 1)
    grid = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    chosen = sample_tokens(logits, grid, params)
    assert chosen.dtype == torch.int64 and chosen.shape == (draws,)
    return (torch.bincount(chosen, minlength=len(probabilities)) / draws).tolist()


def test_tokens_come_in_proportion_to_their_probability() -> None:
    assert shares(SamplingParams()) == pytest.approx(PROBABILITIES, abs=1e-3)


def test_temperature_sharpens() -> None:
    squared = [p**2 for p in PROBABILITIES]  # temperature 1/2
    expected = [s / sum(squared) for s in squared]
    assert shares(SamplingParams(temperature=0.5)) == pytest.approx(expected, abs=1e-3)


def test_temperature_zero_is_greedy() -> None:
    assert shares(SamplingParams(temperature=0.0)) == [0, 1, 0, 0]


def test_top_k_keeps_the_most_likely() -> None:
    assert shares(SamplingParams(top_k=2)) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1e-3)
    assert shares(SamplingParams(top_k=99)) == pytest.approx(PROBABILITIES, abs=1e-3)


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.3, [0, 1, 0, 0]),  # the most likely token always stays
        (0.5, [0, 4 / 7, 0, 3 / 7]),  # 0.4 does not reach 0.5, 0.4 + 0.3 does
        (0.75, [0, 4 / 9, 2 / 9, 3 / 9]),
        (0.95, PROBABILITIES),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, expected: list[float]) -> None:
    assert shares(SamplingParams(top_p=top_p)) == pytest.approx(expected, abs=1e-3)


def test_top_p_counts_within_what_top_k_left() -> None:
    # top-k leaves 4/7 and 3/7; 4/7 = 0.571 reaches 0.55 alone, while 0.4 of the whole would not
    assert shares(SamplingParams(top_k=2, top_p=0.55)) == [0, 1, 0, 0]


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_a_forbidden_token_is_never_chosen(uniform: float) -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    for params in (SamplingParams(), SamplingParams(top_p=0.9), SamplingParams(top_k=4)):
        assert sample_tokens(logits, torch.tensor([uniform], dtype=torch.float64), params).item() in (1, 3)


def test_rows_do_not_influence_each_other() -> None:
    logits, draws = torch.randn(8, 50, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 0.99, 8).double()
    for params in (SamplingParams(), SamplingParams(top_p=0.8, top_k=20)):
        together = sample_tokens(logits, draws, params).tolist()
        assert together == [sample_tokens(logits[i : i + 1], draws[i : i + 1], params).item() for i in range(8)]


def test_random_numbers_depend_on_prompt_seed_and_number_alone() -> None:
    first = uniforms("p", 1, 0, 5)
    assert np.array_equal(first, uniforms("p", 1, 0, 9)[:5])
    assert ((first >= 0) & (first < 1)).all()
    others = [uniforms("q", 1, 0, 5), uniforms("p", 2, 0, 5), uniforms("p", 1, 1, 5), uniforms("p", -1, 0, 5)]
    assert all(not np.array_equal(first, other) for other in others)
