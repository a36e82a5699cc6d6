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
"""Plain data keeps types apart, and what a hostile process writes is refused, or read in bounded time and memory."""

from __future__ import annotations

import ast
import collections
import contextlib
import enum
import json
import math
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_prm.sandbox import plain
from nemo_prm.sandbox.compare import values_equal

HASH_MODULUS = sys.hash_info.modulus  # all multiples of it have the hash 0
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
KEYS = st.recursive(
    st.booleans() | st.integers() | st.text() | st.binary(), lambda inner: st.tuples(inner) | st.frozensets(inner)
)
VALUES = st.recursive(
    SCALARS | st.frozensets(KEYS) | st.sets(KEYS),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("tdszcib") | st.text(), inner, max_size=2),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_round_trip(value: Any) -> None:
    text = plain.dumps(value)
    assert text.isascii() and "\n" not in text
    json.loads(text)
    assert values_equal(value, plain.loads(text)) and values_equal(value, plain.loads(text.encode()))
    assert type(plain.loads(text)) is type(value)


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value = wrap(0)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


WRAPS: dict[str, Callable[[Any], Any]] = {
    "list": lambda x: [x],
    "tuple": lambda x: (x,),
    "value": lambda x: {"k": x},
    "key": lambda x: frozenset([x]),
}
ODD = [
    pytest.param(2**63, id="2**63"),
    -(2**63) - 1,
    pytest.param(10**10_000, id="huge"),
    [math.inf, -math.inf, -0.0],
    "\ud800\n",
    'a string of [[[{{{,,," and more' * 1000,
    {(): {1: ()}},
    [2**70, 1, 2, 3, 4, 5],
    [1, True, 2, 3, 4],
    {f"k{i}": i for i in range(10)},
    {i: str(i) for i in range(20_000)},
    {(i, j): i for i in range(300) for j in range(300)},
    {i << 40 for i in range(50_000)},
    {str(i) for i in range(30_000)},
    {2**i for i in range(3000)},
    list(range(100_000)),
    [(i, [i]) for i in range(5000)],
    *(pytest.param(nested(plain.MAX_DEPTH, wrap), id=f"deep {name}") for name, wrap in WRAPS.items()),
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: f"{type(value).__name__}")
def test_round_trip_of_odd_values(value: Any) -> None:
    again = plain.loads(plain.dumps(value))
    assert again == value and repr(type(again)) == repr(type(value))


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


class Shout(str):
    def __str__(self) -> str:
        return self.upper()


class Deep(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        return iter([99])


class Missing(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return [("x", 99)]


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (Sly(1), 1),
        ([1, 2, 3, 4, Sly(5)], [1, 2, 3, 4, 5]),
        (Colour.RED, 1),
        (Shout("a"), "a"),
        (Deep([1, Deep([2])]), [1, [2]]),
        (Missing({"k": Sly(1)}), {"k": 1}),
        (type("Half", (float,), {"__float__": lambda self: 9.0})(0.5), 0.5),
    ],
)
def test_of_a_subclass_the_content_counts(value: Any, content: Any) -> None:
    again = plain.loads(plain.dumps(value))
    assert again == content and repr(again) == repr(content)


class Impostor:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        return int


REFUSED = [
    Impostor(),
    bytearray(b"x"),
    object(),
    range(3),
    iter([]),
    {1: object()},
    loop(),
    wide(),
    [0] * (plain.MAX_NODES + 1),
    pytest.param(1 << (4 * plain.MAX_INT_DIGITS), id="integer"),
    *(pytest.param(nested(plain.MAX_DEPTH + 1, wrap), id=f"deep {name}") for name, wrap in WRAPS.items()),
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_everything_else_is_refused(value: Any) -> None:
    with pytest.raises(plain.NotPlainError):
        plain.dumps(value)


def test_containers_of_the_standard_library_count_by_content() -> None:
    point = collections.namedtuple("point", "x y")
    value = [collections.Counter("aab"), collections.OrderedDict(a=1), collections.defaultdict(int, b=2), point(1, 2)]
    assert plain.loads(plain.dumps(value)) == [{"a": 2, "b": 1}, {"a": 1}, {"b": 2}, (1, 2)]


FORGED = r"""
{ {} {"x":[]} {"t":1} {"t":"ab"} {"i":"q"} {"i":1} {"i":"0x1","i":"0x2"} {"t":[],"s":[]} {"t":[],"t":[]} {"d":[1]}
{"d":[[[],1]]} {"d":[[1,2,3]]} {"d":[[1,2],[1,3]]} {"d":[[1,2],[true,3]]} {"d":{"a":1}} {"s":[[]]} {"s":[{"d":[]}]}
{"s":[1,1]} {"z":[1,1.0]} {"b":"0"} {"b":"zz"} {"b":[]} {"c":[1.0]} {"c":[1,2]} {"c":[1.0,"x"]} {"c":[1.0,2.0,3.0]}
[1]] 1,2 nan None undefined 01 'x' é
"""


@pytest.mark.parametrize("text", ["", " ", "1\n", "\ufeff1", *FORGED.split()])
def test_forged_text_is_refused(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(plain.NotPlainError):
            plain.loads(form)


@given(JSON | st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_is_refused_or_read(value: Any) -> None:
    for text in (json.dumps(value), value if isinstance(value, str) else ""):
        with contextlib.suppress(plain.NotPlainError):
            plain.loads(text)


def joined(unit: Callable[[int], str], count: int, form: str = "[%s]") -> str:
    return form % ",".join(map(unit, range(count)))


SAME_HASH = '{"i":"%x"}'
HOSTILE = {
    "brackets": lambda: "[" * 16_000_000,
    "empty lists": lambda: joined(lambda i: "[]", 5_000_000),
    "empty tuples": lambda: joined(lambda i: '{"t":[]}', 1_800_000),
    "numbers": lambda: joined(lambda i: "1.5", 4_000_000),
    "long digits": lambda: "9" * 5000,
    "long integer": lambda: '{"i":"%s"}' % ("f" * 16_000_000),
    "too deep": lambda: "[" * 201 + "]" * 201,
    "far too deep": lambda: "[" * 100_000 + "]" * 100_000,
    "many keys in an object": lambda: joined(lambda i: f'"{i}":1', 300_000, "{%s}"),
    "set of one hash": lambda: joined(lambda i: SAME_HASH % (i * HASH_MODULUS), 300_000, '{"s":[%s]}'),
    "dict of one hash": lambda: joined(lambda i: f"[{SAME_HASH % (i * HASH_MODULUS)},0]", 300_000, '{"d":[%s]}'),
    "tuples of one hash": lambda: joined(
        lambda i: '{"t":["a",%s]}' % (SAME_HASH % (i * HASH_MODULUS)), 300_000, '{"s":[%s]}'
    ),
    "many sets of one hash": lambda: joined(
        lambda i: joined(lambda j: SAME_HASH % (j * HASH_MODULUS), 500, '{"s":[%s]}'), 1000
    ),
    "a string without an end": lambda: "{" + "," * 3_000_001 + '"' + '\\"' * 1_000_000,
    "more keys than nodes": lambda: joined(str, 1_100_000, '{"s":[%s]}'),
    "keys that are no pairs": lambda: joined(lambda i: "1", 100_000, '{"d":[%s]}'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_in_bounded_time(name: str) -> None:
    text = HOSTILE[name]()
    start = time.thread_time()
    with pytest.raises(plain.NotPlainError):
        plain.loads(text)
    assert time.thread_time() - start < 10  # about one second; the attacks take minutes where they work


READABLE = {
    "many sets": lambda: joined(lambda i: joined(str, 1000, '{"s":[%s]}'), 900),
    "many sets of a hundred to a hash": lambda: joined(
        lambda i: joined(lambda j: SAME_HASH % (j * HASH_MODULUS), 100, '{"s":[%s]}'), 3000
    ),
    "keys of 100 to a hash": lambda: joined(
        lambda i: SAME_HASH % (1 + i % 199 + i // 199 * HASH_MODULUS), 19_900, '{"s":[%s]}'
    ),
    "lists": lambda: joined(lambda i: "[]", 1_400_000),
    "long integers": lambda: joined(lambda i: '{"i":"%s"}' % ("f" * 1_000_000), 16),
    "integers of 4300 digits": lambda: joined(lambda i: "9" * 4300, 3500),
    "long fraction": lambda: "1." + "1" * 16_000_000,
    "string of brackets": lambda: '"%s"' % ("[,{" * 5_000_000),
    "strings": lambda: joined(lambda i: '"abcdefghi"', 1_200_000),
}


@pytest.mark.parametrize("name", READABLE)
def test_text_at_the_bounds_is_read_in_bounded_time(name: str) -> None:
    text = READABLE[name]()
    start = time.thread_time()
    plain.loads(text)
    assert time.thread_time() - start < 10


@pytest.mark.parametrize("read", [plain.loads, plain.parse])
def test_memory_is_bounded(read: Callable[[str], Any]) -> None:
    """16 MiB of empty lists would take 700 MiB as objects."""
    for text in (HOSTILE["empty lists"](), READABLE["lists"]()):
        tracemalloc.start()
        with contextlib.suppress(plain.NotPlainError):
            read(text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 300 * 2**20


def test_parse_reads_json_as_it_stands() -> None:
    value = {"t": [1, {"x": None}], "value": plain.dumps({"a": (1, 2)})}
    assert plain.parse(json.dumps(value)) == plain.parse(json.dumps(value).encode()) == value
    for text in ("", "{", "1 2", "[" * 100_000, "9" * 5000, "é".encode()):
        with pytest.raises(plain.NotPlainError):
            plain.parse(text)


def test_imports_little() -> None:
    """It is loaded in the process of a candidate, and when that starts."""
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(Path(plain.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    assert found == {"__future__", "collections", "json", "re", "time", "typing"}  # json has imported re
