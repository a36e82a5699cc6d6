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
"""Plain data keeps types apart, and comparison is by exact type."""

from __future__ import annotations

import collections
import enum
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_prm.sandbox import plain
from nemo_prm.sandbox.compare import show, stdout_equal, values_equal

NAN = float("nan")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.recursive(st.booleans() | st.integers() | st.text(), lambda inner: st.tuples(inner) | st.frozensets(inner))
VALUES = st.recursive(
    SCALARS | st.frozensets(KEYS) | st.sets(KEYS),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_round_trip(value: Any) -> None:
    text = plain.dumps(value)
    assert text.isascii() and "\n" not in text
    assert values_equal(value, plain.loads(text))
    assert type(plain.loads(text)) is type(value)


ODD = [2**63, -(2**63) - 1, pytest.param(10**10_000, id="huge"), [math.inf, -math.inf], "\ud800\n", {(): {1: ()}}]


@pytest.mark.parametrize("value", ODD)
def test_round_trip_of_odd_values(value: Any) -> None:
    assert plain.loads(plain.dumps(value)) == value


class Sly(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


class Colour(enum.IntEnum):
    RED = 1


def loop() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def wide() -> list[Any]:
    value: list[Any] = [0]
    for _ in range(40):
        value = [value, value]  # 2**40 leaves, 41 objects
    return value


@pytest.mark.parametrize(
    "value", [Sly(1), [Sly(1)], Colour.RED, b"x", 1j, object(), range(3), iter([]), {1: b""}, loop(), wide()]
)
def test_everything_else_is_refused(value: Any) -> None:
    with pytest.raises(plain.NotPlainError):
        plain.dumps(value)


def test_containers_of_the_standard_library_count_by_content() -> None:
    point = collections.namedtuple("point", "x y")
    value = [collections.Counter("aab"), collections.OrderedDict(a=1), collections.defaultdict(int, b=2), point(1, 2)]
    assert plain.loads(plain.dumps(value)) == [{"a": 2, "b": 1}, {"a": 1}, {"b": 2}, (1, 2)]


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", '{"x": []}', '{"t": 1}', '{"i": "q"}', '{"d": [1]}', '{"d": [[[], 1]]}', '{"s": [[]]}', "9" * 5000]
    + ["[" * 100_000, "[" * 300 + "]" * 300, '{"t": [], "s": []}'],
)
def test_forged_text_is_refused(text: str) -> None:
    with pytest.raises(plain.NotPlainError):
        plain.loads(text)


@pytest.mark.parametrize(
    ("expected", "actual", "equal"),
    [
        (1, 1, True),
        (1, True, False),
        (True, 1, False),
        (1, 1.0, True),
        (1.5, 1, False),
        (0.0, -0.0, True),
        (NAN, NAN, True),
        ([1, [2]], (1, (2,)), True),
        ((1,), [1], False),
        ([1], [1, 2], False),
        ([1], {1}, False),
        ({"a": [1]}, {"a": (1,)}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"1": 2}, {1: 2}, False),
        ({1: 2}, {True: 2}, False),
        ({"a": 1}, {"a": 1, "b": 1}, False),
        ({1}, {True}, False),
        ({1, 2}, frozenset({1, 2}), False),
        ("a", "a", True),
        (None, None, True),
        (None, False, False),
    ],
)
def test_exact(expected: Any, actual: Any, equal: bool) -> None:
    assert values_equal(expected, actual) is equal
    assert values_equal(expected, actual, "exact") is equal


@pytest.mark.parametrize(
    ("expected", "actual", "equal"),
    [
        (0.3, 0.1 + 0.2, True),
        (1, 1.0, True),
        ([1.0, "a"], (1.0000001, "a"), True),
        (1.0, 1.001, False),
        (1, True, False),
        (NAN, 1.0, False),
        (NAN, NAN, True),
        (math.inf, math.inf, True),
        (10**400, 1.5, False),
        (10**400, 10**400, True),
    ],
)
def test_approx(expected: Any, actual: Any, equal: bool) -> None:
    assert values_equal(expected, actual, "approx") is equal


def test_stdout_ignores_trailing_white_space_only() -> None:
    assert stdout_equal("1\n2\n", "1 \r\n2\n\n")
    assert stdout_equal("", "\n")
    assert not stdout_equal("1\n2\n", "1 2\n")
    assert not stdout_equal("1\n", " 1\n")


def test_show_is_bounded() -> None:
    assert show([1, "a"]) == "[1, 'a']"
    assert len(show("x" * 1000)) == 300
    assert show(10**5000) == "an integer of over 4300 digits"
