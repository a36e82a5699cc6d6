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
"""The operations: their lines run and tell apart what they should."""

from __future__ import annotations

import ast
import random

import pytest

from nemo_prm.data.embedded.chains import Link
from nemo_prm.data.embedded.generate import run, sample_input
from nemo_prm.data.embedded.operations import INPUT_PHRASES, OPERATIONS, Operation

TYPES = {"numbers": list, "words": list, "text": str, "number": int, "counts": dict}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_turns_its_source_into_its_target_and_differs_from_its_slips(operation: Operation) -> None:
    rng = random.Random(0)
    link = Link(operation, 3 if operation.has_parameter else 0, 0)
    values = [sample_input(operation.source, rng) for _ in range(40)]
    results = [run([link.expression], value) for value in values]
    assert {type(result) for result in results} == {TYPES[operation.target]}
    for slip in link.slips:
        ast.parse(slip)
        assert any(run([slip], value) != result for value, result in zip(values, results))
    if operation.source == operation.target:
        assert any(value != result for value, result in zip(values, results))


def test_a_phrase_means_one_line() -> None:
    meant: dict[tuple[str, str], str] = {}
    for operation in OPERATIONS:
        assert operation.source in INPUT_PHRASES and operation.target in INPUT_PHRASES
        for phrase in operation.phrases:
            assert ("{k}" in phrase) == operation.has_parameter
            assert meant.setdefault((operation.source, phrase), operation.expression) == operation.expression


def test_examples() -> None:
    def value(name: str, k: int, argument: object) -> object:
        operation = next(operation for operation in OPERATIONS if operation.name == name)
        return run([Link(operation, k, 0).expression], argument)

    assert value("skip_numbers", 2, [5, 6, 7]) == [7]
    assert value("last_words", 2, ["a", "b", "c"]) == ["b", "c"]
    assert value("every_second_numbers", 0, [1, 2, 3, 4, 5]) == [1, 3, 5]
    assert value("rotate_numbers", 0, [1, 2, 3]) == [2, 3, 1]
    assert value("gaps", 0, [1, 4, 2]) == [3, -2]
    assert value("running", 0, [1, 4, 2]) == [1, 5, 7]
    assert value("count_above", 3, [1, 4, 9]) == 2
    assert value("multiples", 3, 7) == [7, 14, 21]
    assert value("start_each", 2, ["pear", "fig"]) == ["pe", "fi"]
    assert value("letter_counts", 0, "aba") == {"a": 2, "b": 1}
    assert value("keys_by_count", 0, {"a": 3, "b": 1}) == ["b", "a"]
