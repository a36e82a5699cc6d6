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
"""Chains of operations and the texts made of them."""

from __future__ import annotations

import random
from itertools import islice

from nemo_prm.data.embedded.chains import Chain, Link, annotate, policy_texts, program, prompt, sample_chain, split_of
from nemo_prm.data.embedded.operations import BY_NAME

CHAIN: Chain = (Link(BY_NAME["even"], 0, 1), Link(BY_NAME["add"], 3, 0), Link(BY_NAME["sum"], 0, 0))


def test_prompt_and_program() -> None:
    assert prompt(CHAIN) == (
        "Task: write solve(v) for a list of integers v: drop the odd numbers, then add 3 to each number, then sum the "
        "numbers.\n"
    )
    assert program([link.expression for link in CHAIN]) == (
        "def solve(v):\n"
        "    v = [x for x in v if x % 2 == 0]\n"
        "    v = [x + 3 for x in v]\n"
        "    v = sum(v)\n"
        "    return v\n"
    )


def test_chains_are_type_correct_and_use_no_operation_twice() -> None:
    rng = random.Random(0)
    for length in range(2, 9):
        for _ in range(50):
            chain = sample_chain(rng, length)
            names = [link.operation.name for link in chain]
            assert len(chain) == length == len(set(names))
            assert all(a.operation.target == b.operation.source for a, b in zip(chain, chain[1:]))


def test_a_split_ignores_parameters_and_wording() -> None:
    other = (Link(BY_NAME["even"], 0, 0), Link(BY_NAME["add"], 6, 1), Link(BY_NAME["sum"], 0, 1))
    assert split_of(CHAIN) == split_of(other)
    rng = random.Random(0)
    splits = [split_of(sample_chain(rng, 4)) for _ in range(2000)]
    assert {"train", "validation", "test"} == set(splits)
    assert 0.75 < splits.count("train") / 2000 < 0.85


def test_annotations_change_no_code() -> None:
    plain = program([link.expression for link in CHAIN])
    rng = random.Random(0)
    seen = set()
    for _ in range(100):
        added = annotate(plain, CHAIN, rng).splitlines()
        rest = [line for line in added if line.strip() and not line.startswith("    # ")]
        assert rest == plain.splitlines()
        assert 1 <= len(added) - len(rest) <= 2
        seen |= set(added) - set(rest)
    assert {"", "    # next step", "    # add 3 to each number"} <= seen


def test_policy_texts_are_reproducible_and_hold_no_held_out_chain() -> None:
    texts = list(islice(policy_texts(5), 500))
    assert texts == list(islice(policy_texts(5), 500)) != list(islice(policy_texts(6), 500))
    right = list(islice(policy_texts(5, slip_scale=0.0, annotated_share=0.0), 500))
    assert all(response.count("\n") == text.count(", then ") + 3 for text, response in right)
    marked = sum("#" in response or "\n\n" in response for _, response in texts)
    assert 0.2 < marked / 500 < 0.3
