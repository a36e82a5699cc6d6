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
"""What each checker takes for a right answer; and that no answer raises, or takes long, however hostile."""

from __future__ import annotations

import math
import random
import time
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_prm.sandbox import plain
from nemo_prm.sandbox.compare import matches, show, stdout_equal, values_equal
from nemo_prm.types import Checker, TestCase

NAN = float("nan")
EXACT, TOKENS, FLOAT, UNORDERED = map(Checker, ("exact", "tokens", "float", "unordered"))  # type: ignore[arg-type]
CODE = Checker("code", code="def check(given, expected, actual):\n    return True\n")
CHECKERS = [None, EXACT, TOKENS, FLOAT, UNORDERED]

KEYS = st.recursive(st.booleans() | st.integers() | st.text(), lambda inner: st.tuples(inner) | st.frozensets(inner))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary() | KEYS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner) | st.sets(KEYS),
    max_leaves=8,
)
OUTPUT = st.text(st.sampled_from("ab01.-+e_xnif \t\r\n\x0b\xa0\u2028")) | st.text()


@pytest.mark.parametrize(
    ("expected", "actual", "equal"),
    [
        (1, 1, True),
        (1, True, False),
        (True, 1, False),
        (1, 1.0, True),
        (1.5, 1, False),
        (0.0, -0.0, True),
        (2**53, 2.0**53, True),
        (2**53 + 1, 2.0**53, False),
        (NAN, NAN, True),
        (0.3, 0.1 + 0.2, False),
        ([1, [2]], (1, (2,)), True),
        ((1,), [1], False),
        ([1], [1, 2], False),
        ([1], {1}, False),
        ([1], "1", False),
        ({"a": [1]}, {"a": (1,)}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"1": 2}, {1: 2}, False),
        ({1: 2}, {True: 2}, False),
        ({(1,): 2}, {(True,): 2}, False),
        ({"a": 1}, {"a": 1, "b": 1}, False),
        ({"a": 1, "b": 1}, {"a": 1, "c": 1}, False),
        ({1}, {True}, False),
        ({(1, 2)}, {(1, True)}, False),
        ({1, 2}, {2, 1}, True),
        ({1}, {1.0}, True),
        ({NAN}, {NAN}, True),
        ({1, 2}, {1, 3}, False),
        ({1, 2}, frozenset({1, 2}), False),
        ("a", "a", True),
        ("a b", "a  b", False),
        ("1", b"1", False),
        (b"1", b"1", True),
        (1j, 1j, True),
        (1j, complex(-0.0, 1), True),
        (complex(NAN, 0), complex(NAN, 0), True),
        (1, 1 + 0j, False),
        (None, None, True),
        (None, False, False),
    ],
)
def test_exact(expected: Any, actual: Any, equal: bool) -> None:
    assert values_equal(expected, actual) is equal
    assert values_equal(expected, actual, EXACT) is equal
    assert values_equal([expected], [actual]) is equal
    assert values_equal({"k": expected}, {"k": actual}) is equal


@pytest.mark.parametrize(
    ("expected", "actual", "equal"),
    [
        (0.3, 0.1 + 0.2, True),
        (1, 1.0, True),
        (1_000_000, 1_000_001, True),
        (0, 1e-7, True),
        (0, 1e-5, False),
        ([1.0, "a"], (1.0000001, "a"), True),
        ({"x": [0.1]}, {"x": [0.10000001]}, True),
        (1j, 1.0000001j, True),
        (1.0, 1.001, False),
        (1, True, False),
        ("0.3", "0.30000001", False),
        (1.0, "1.0", False),
        (NAN, 1.0, False),
        (NAN, NAN, True),
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (math.inf, 1e308, False),
        (math.inf, 10**400, False),
        (10**400, math.inf, False),
        (10**400, 1.5, False),
        (10**400, 10**400, True),
        (10**400, 10**400 + 1, False),
    ],
)
def test_float(expected: Any, actual: Any, equal: bool) -> None:
    assert values_equal(expected, actual, FLOAT) is equal


def test_float_takes_the_tolerance_it_is_given() -> None:
    assert values_equal(10, 11, Checker("float", tolerance=1))
    assert values_equal([2.0], [2.01], Checker("float", tolerance=0.01))
    assert not values_equal(1.0, 1.0000001, Checker("float", tolerance=1e-9))
    assert stdout_equal("2.0", "2.01", Checker("float", tolerance=0.01))
    assert not stdout_equal("1.0", "1.0000001", Checker("float", tolerance=1e-9))


@pytest.mark.parametrize(
    ("expected", "actual", "equal"),
    [
        ([1, 2, 2], [2, 1, 2], True),
        ([1, 2, 2], (2, 2, 1.0), True),
        ([1, 2, 2], [2, 1, 1], False),
        ([1, 2, 2], {1, 2}, False),
        ([1, 2], {1, 2}, True),
        ([1, 2], frozenset({2, 1}), True),
        ([1, 2], {1: 0, 2: 0}, False),
        ([1, True], [True, True], False),
        ([[1, 2], {"a": [3]}, None], [None, {"a": (3,)}, (1, 2)], True),
        ([[1, 2]], [[2, 1]], False),
        (["1"], [1], False),
        (["a,b"], ["a", "b"], False),
        (["['a', 'b']"], [["a", "b"]], False),
        ([NAN, {1, 2}, {"b": 1, "a": 2}], [{"a": 2, "b": 1}, NAN, {2, 1}], True),
        ([{1}], [frozenset({1})], False),
        ((1, 2), [2, 1], True),
        ([], (), True),
        ("ab", "ba", False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        (5, 5, True),
    ],
)
def test_unordered(expected: Any, actual: Any, equal: bool) -> None:
    assert values_equal(expected, actual, UNORDERED) is equal


def test_tokens_of_returned_strings() -> None:
    assert values_equal(["1 2\n", 3], [" 1\t2", 3], TOKENS)
    assert not values_equal(["1 2", 3], ["1 2 3", 3], TOKENS)
    assert not values_equal(["12"], ["1 2"], TOKENS)
    assert not values_equal(3, "3", TOKENS)


@given(VALUES, st.sampled_from(CHECKERS), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_what_comes_back_unchanged_is_right(value: Any, checker: Checker | None, rng: random.Random) -> None:
    again = plain.loads(plain.dumps(value))
    assert values_equal(value, again, checker)
    shuffled = rng.sample([value, 1, "x", again], 4)
    assert values_equal([again, "x", value, 1], shuffled, UNORDERED)
    assert not values_equal([again, "x", value, 2], shuffled, UNORDERED) or values_equal(2, value)


@given(VALUES, VALUES, st.sampled_from(CHECKERS))
@settings(max_examples=100, deadline=None)
def test_checkers_agree_with_equality(expected: Any, actual: Any, checker: Checker | None) -> None:
    """Exactly equal values are right for every checker; what Python calls unequal is never exactly equal."""
    exact = values_equal(expected, actual)
    assert not exact or values_equal(expected, actual, checker)
    if exact and "nan" not in repr(actual) and "[" not in repr(expected):  # a list takes a tuple
        assert expected == actual
    assert isinstance(show(actual), str) and len(show(actual)) <= 300


TEXTS: list[tuple[str, str, set[str]]] = [  # expected, printed, the checkers that take it
    ("1\n2\n", "1\n2\n", {"lines", "exact", "tokens", "float", "unordered"}),
    ("1\n2\n", "1\n2", {"lines", "exact", "tokens", "float", "unordered"}),
    ("1\n2\n", "1 \r\n2\n\n", {"lines", "tokens", "float", "unordered"}),
    ("1\n2\n", "1\n2\n\n", {"lines", "tokens", "float", "unordered"}),
    ("1\n2\n", "1\n\n2\n", {"tokens", "float", "unordered"}),
    ("1\n2\n", "2\n1\n", {"unordered"}),
    ("1\n2\n", "1 2\n", {"tokens", "float"}),
    ("1\n2\n", "1\n1\n2\n", set()),
    ("1\n1\n2\n", "1\n2\n2\n", set()),
    ("1\n2\n", "12\n", set()),
    ("1\n2\n", "1\n", set()),
    ("1\n", " 1\n", {"tokens", "float"}),
    ("", "\n", {"lines", "exact", "tokens", "float", "unordered"}),
    ("", " \n\n", {"lines", "tokens", "float", "unordered"}),
    ("", "x", set()),
    ("x", "", set()),
    ("a 0.3", "a 0.30000001", {"float"}),
    ("0.3 a", "0.3 b", set()),
    ("1e3 .5 1.", "1000.0 +0.5 1", {"float"}),
    ("-0", "0", {"float"}),
    ("1000", "1_000", set()),
    ("16", "0x10", set()),
    ("inf", "inf", {"lines", "exact", "tokens", "float", "unordered"}),
    ("inf", "infinity", set()),
    ("nan", "NaN", set()),
    ("nan", "1", set()),
    ("1e400", "1e500", set()),
    ("1e400", "inf", set()),
    ("1e400", "1e400", {"lines", "exact", "tokens", "float", "unordered"}),
    ("1", "١", set()),
    ("1", "True", set()),
    ("1", "1,0", set()),
]


@pytest.mark.parametrize(("expected", "printed", "takers"), TEXTS)
def test_stdout(expected: str, printed: str, takers: set[str]) -> None:
    found = {checker.name if checker else "lines" for checker in CHECKERS if stdout_equal(expected, printed, checker)}
    assert found == takers


@pytest.mark.parametrize(
    ("expected", "printed", "equal"),
    [
        ("3", "3.0", True),
        ("1 2 3\n", " 1  2 3.00", True),
        ("5\n", "\n 5\n\n", True),
        ("a  b", "a b", False),
        ("1 2", "1\n2", False),
        ("2500000.5", "2500000", False),
        ("1000000007 0.5", "1000000008 0.5", False),
        ("12345678901234567890", "12345678901234567891", False),
        ("1e400", "10e399", True),
        ("1", "1e9999999999999999999999", False),
        ("1", "True", False),
        ("nan", "nan", True),
        ("1", "nan", False),
    ],
)
def test_printed_decimals(expected: str, printed: str, equal: bool) -> None:
    assert stdout_equal(expected, printed, Checker("decimal")) is equal


@pytest.mark.parametrize(
    ("expected", "actual", "equal"),
    [
        (True, 1, True),
        ([True, False], [1, 0], True),
        (1, True, True),
        ({"a": [1]}, {"a": (1.0,)}, True),
        (1, 1.0000001, False),
        ("1", 1, False),
        (None, 0, False),
    ],
)
def test_decimals_that_a_call_returned(expected: Any, actual: Any, equal: bool) -> None:
    assert values_equal(expected, actual, Checker("decimal")) is equal


def lines_of(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


@given(OUTPUT, OUTPUT)
@settings(max_examples=300, deadline=None)
def test_stdout_by_its_definition(expected: str, printed: str) -> None:
    for text in (printed, expected + "\n", "\n".join(reversed(expected.split("\n"))), expected.replace(" ", "  ")):
        assert stdout_equal(expected, text) is (lines_of(expected) == lines_of(text))
        assert stdout_equal(expected, text, TOKENS) is (expected.split() == text.split())
        unordered = sorted(filter(None, lines_of(expected))) == sorted(filter(None, lines_of(text)))
        assert stdout_equal(expected, text, UNORDERED) is unordered
        assert stdout_equal(expected, text, FLOAT) or not stdout_equal(expected, text, TOKENS)


def test_any_of_several_answers_is_right() -> None:
    call = TestCase("call", expected=[1, 2], alternatives=(None, [0.5]))
    assert matches(call, (1, 2)) and matches(call, None) and matches(call, [0.5])
    assert not matches(call, [0.5000001]) and not matches(call, [2, 1])
    loose = TestCase("call", expected=[1.0], alternatives=([2.0],), checker=FLOAT)
    assert matches(loose, [2.0000001]) and not matches(loose, [3.0])
    stdio = TestCase("stdio", stdout="YES\n", alternatives=("yes\n", "y e s\n"))
    assert matches(stdio, "YES") and matches(stdio, "yes ") and not matches(stdio, "y\ne\ns")
    tokens = TestCase("stdio", stdout="YES\n", alternatives=("y e s\n",), checker=TOKENS)
    assert matches(tokens, "y\ne\ns") and not matches(tokens, "YE S")


@pytest.mark.parametrize(
    "test",
    [TestCase("code", code="def check(f): pass"), TestCase("call", checker=CODE), TestCase("stdio", checker=CODE)],
)
def test_code_does_not_run_here(test: TestCase) -> None:
    with pytest.raises(ValueError, match="box"):
        matches(test, "")


def deep(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


BIG = 16 * 2**20  # what a program may print
DEEP = {
    "lists": deep(plain.MAX_DEPTH, lambda x: [x]),
    "dicts": deep(plain.MAX_DEPTH, lambda x: {"k": x}),
    "key": {deep(plain.MAX_DEPTH - 1, lambda x: (x,)): 0},
    "sets": deep(plain.MAX_DEPTH, lambda x: frozenset([x, 1])),
    "tuples in a set": {deep(plain.MAX_DEPTH - 1, lambda x: (x,))},
}
HOSTILE_VALUES: dict[str, Any] = {
    **DEEP,
    "integer of a million digits": 1 << 4_000_000,
    "a list of such": [1 << 4_000_000] * 20,
    "its negative": -(1 << 4_000_000),
    "long list": list(range(500_000)),
    "long list of lists": [[i] for i in range(200_000)],
    "list of floats and integers": [float(2**i) if i % 2 else 2**i for i in range(1000)] * 100,
    "list of unhashables": [{"a": [i % 7]} for i in range(50_000)],
    "keys of one hash": {i * (2**61 - 1): 0 for i in range(100)},
    "long string": "1" * BIG,
    "string of spaces": " " * BIG,
    "string of quotes": "'\"\\" * (BIG // 3),
    "bytes": b"\xff" * BIG,
    "infinities": [math.inf, -math.inf, NAN, complex(NAN, math.inf)],
}
RIGHT_VALUES = [0, 0.5, "a b", None, True, 1j, 10**400, [0], [0.5] * 10, {"a": 1}, (1,), {1, 2}, [[0], {"k": 0}]]


@pytest.mark.parametrize("name", HOSTILE_VALUES)
def test_hostile_values(name: str) -> None:
    """Beside every kind of right answer, and beside itself, for every checker: a plain bool, soon."""
    actual = HOSTILE_VALUES[name]
    for checker in CHECKERS:
        start = time.thread_time()
        for expected in RIGHT_VALUES:
            assert values_equal(expected, actual, checker) is False
        assert values_equal(actual, actual, checker) is True
        assert len(show(actual)) <= 300
        assert time.thread_time() - start < 10  # below one second; quadratic time would be hours


HOSTILE_TEXTS = {
    "digits": "1" * BIG,
    "fraction": "0." + "1" * BIG,
    "digits and a letter": "1" * BIG + "x",
    "exponent": "1e" + "9" * BIG,
    "negative exponent": "1" * (BIG // 2) + "e-" + "9" * (BIG // 2),
    "spaces": " " * BIG,
    "spaces and a letter": " " * BIG + "x",
    "lines": "\n" * BIG + "x",
    "lines of spaces": " \t\n" * (BIG // 3) + "x",
    "tokens": "12 " * (BIG // 3),
    "lines of tokens": "12\n" * (BIG // 3),
    "carriage returns": "\r" * BIG,
    "no text": "\ud800" * 1000,
}


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_hostile_text(name: str) -> None:
    actual = HOSTILE_TEXTS[name]
    for checker in CHECKERS:
        start = time.thread_time()
        for expected in ("", "1\n", "a b\nc\n", "0.1 1e5\n1 2 3\n"):
            empty = not expected and not actual.strip() and checker != EXACT
            assert stdout_equal(expected, actual, checker) is empty
        assert len(show(actual)) <= 300
        assert time.thread_time() - start < 10


def test_hostile_number_beside_a_long_one() -> None:
    """A token is parsed only beside a number; a long one must not take quadratic time then."""
    start = time.thread_time()
    assert stdout_equal("0." + "1" * 1000, "0." + "1" * BIG, FLOAT)
    assert not stdout_equal("1" * BIG, "1" * BIG + "1", FLOAT)
    assert not stdout_equal("2", "1." + "0" * BIG + "1", FLOAT)
    assert time.thread_time() - start < 10


def test_show_is_bounded() -> None:
    assert show([1, "a", (2,), {"k": {3}}]) == "[1, 'a', (2,), {'k': {3}}]"
    assert show("x" * 1000) == "'" + "x" * 296 + "..."
    assert show(10**5000) == "an integer of over 4300 digits"
    assert show([1, 10**5000]) == "[1, an integer of over 4300 digits]"
    assert show(list(range(1000))) == repr(list(range(1000)))[:297] + "..."
    assert show([[i, str(i)] for i in range(1000)]) == repr([[i, str(i)] for i in range(1000)])[:297] + "..."
    assert show(NAN) == "nan" and show(()) == "()" and show(frozenset()) == "frozenset()"
