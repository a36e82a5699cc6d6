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
"""Plain data: the restricted values that may leave or enter the process of a candidate program.

None, bool, int, float, complex, str, bytes, list, tuple, dict, set and frozenset, nested; everything else is refused.
Lists stay JSON lists; what JSON cannot say is an object of one letter: {"t": [...]} is a tuple, {"d": [[key, value],
...]} a dict, {"s": [...]} a set, {"z": [...]} a frozenset, {"c": [real, imaginary]} a complex number, {"b": "00ff"}
bytes, {"i": "0x..."} an integer beyond 64 bits. Reading it runs nobody's code.

The text may come from a hostile process. The time and memory to read it are in proportion to its length: sizes and
depth are bounded, and so are keys made to collide, which would build a dict in quadratic time.

This file is loaded on both sides; it must import nothing but the standard library, and little of that.
"""

from __future__ import annotations

import collections
import json
import re
import time
from typing import Any, Callable, Collection, Iterable

MAX_DEPTH = 200  # containers inside each other
MAX_NODES = 1_000_000
MAX_INT_DIGITS = 1_000_000  # hexadecimal
MAX_SAME_HASH = 100  # keys of one hash in a dict or set; each is compared with all before it
MAX_TABLE_S = 2.0  # of CPU time for all dicts and sets of a value; a million keys take a tenth of it

# Subclasses that programs return in good faith; they count by content. A subclass with other manners is refused.
_BY_CONTENT = (collections.Counter, collections.OrderedDict, collections.defaultdict)
_STRING = re.compile('"[^"]*"?')  # where there are no escapes
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_TEXT = frozenset({str, bytes})  # hashed by SipHash, so that nobody makes many collide
_INTS, _STRS = frozenset({int}), frozenset({str})
_LEAST, _MOST = -(2**63), 2**63 - 1
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_FEW_KEYS = MAX_SAME_HASH  # so few cannot do much harm, even in many dicts
_PIECE = 1000  # keys
_LONG_WAY = 2_000_000  # steps through a table, for all keys of a piece
_SHORT = 10_000  # characters; they hold too few keys to be worth counting
_BAD = (ValueError, TypeError, LookupError, RecursionError)  # what reading bad text raises
_quote: Callable[[str], str] = json.JSONEncoder().encode


class NotPlainError(ValueError):
    """A value that plain data cannot say, or text that is no plain data."""


class TooLargeError(NotPlainError):
    """A value that is nested too deeply, or too large."""


def dumps(value: Any) -> str:
    """Write a value as one line of ASCII.

    Raises:
        NotPlainError: the value or a part of it is of another type, nested too deeply, or too large.
    """
    try:
        text = _write(value, 0, [MAX_NODES])
    except RecursionError:  # the caller is deep down already
        raise TooLargeError("a value nested too deeply") from None
    _check_size(text)
    return text


def loads(text: str | bytes) -> Any:
    """Read what `dumps` wrote.

    Raises:
        NotPlainError: the text was not written by `dumps`.
    """
    try:
        text = text if isinstance(text, str) else text.decode("ascii")
        nested = text[:1] in ("[", "{")
        if not (nested and "{" in text):
            value = _scan(text, _JSON)
        elif len(text) <= _SHORT:
            value = _scan(text, _OBJECTS)
        else:
            left_s = [MAX_TABLE_S]
            value = _scan(text, json.JSONDecoder(object_pairs_hook=lambda pairs: _object(pairs, left_s)))
        if nested and text.count("[") + text.count("{") > MAX_DEPTH:  # or it cannot be that deep
            _check_depth(value)
        return value
    except _BAD as error:
        raise NotPlainError(f"not plain data: {error}") from None


def parse(text: str | bytes) -> Any:
    """Parse JSON from a process that may be hostile: as `json.loads`, but within the bounds of plain data.

    Raises:
        NotPlainError: the text is not JSON in ASCII, or too large.
    """
    try:
        return _scan(text if isinstance(text, str) else text.decode("ascii"), _JSON)
    except _BAD as error:
        raise NotPlainError(f"not JSON: {error}") from None


def _scan(text: str, decoder: json.JSONDecoder) -> Any:
    _check_size(text)
    value, end = decoder.raw_decode(text)
    if end != len(text):
        raise ValueError("more than one value")
    return value


def _write(value: Any, depth: int, left: list[int]) -> str:
    """Write a node; `left` is what remains of MAX_NODES."""
    kind = type(value)
    if kind is str:
        return _quote(value)
    if kind is int:
        return repr(value) if _LEAST <= value <= _MOST else _big(value)
    if kind is bool:
        return "true" if value else "false"
    if value is None:
        return "null"
    if kind is float:
        text = repr(value)
        return _NOT_FINITE.get(text, text)
    if kind is list:
        return f"[{','.join(_parts(value, depth, left))}]"
    if kind is tuple or (isinstance(value, tuple) and hasattr(kind, "_fields")):  # a namedtuple
        return f'{{"t":[{",".join(_parts(tuple(tuple.__iter__(value)), depth, left))}]}}'
    if kind is dict or kind in _BY_CONTENT:
        keys, values = _parts(dict.keys(value), depth, left), _parts(dict.values(value), depth, left)
        return f'{{"d":[{",".join([f"[{k},{v}]" for k, v in zip(keys, values)])}]}}'
    if kind is set or kind is frozenset:
        parts = _parts(value, depth, left)
        return f'{{"{"s" if kind is set else "z"}":[{",".join(parts)}]}}'
    if kind is bytes:
        return f'{{"b":"{value.hex()}"}}'
    if kind is complex:
        return f'{{"c":[{_write(value.real, depth, left)},{_write(value.imag, depth, left)}]}}'
    for base in _BASES:  # of a subclass it is the content that counts, whatever its methods say
        if issubclass(kind, base):
            return _write(_BASES[base](value), depth, left)
    raise NotPlainError(f"a value of type {kind.__name__}")


_BASES: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    list: lambda value: list(list.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
}


def _parts(values: Collection[Any], depth: int, left: list[int]) -> Iterable[str]:
    """Write the nodes in a container."""
    left[0] -= len(values)
    if depth >= MAX_DEPTH or left[0] < 0:
        raise TooLargeError("a value nested too deeply or too large")
    if len(values) > 3:  # many are mostly of one kind
        kinds = set(map(type, values))
        if kinds == _INTS and min(values) >= _LEAST and max(values) <= _MOST:
            return map(repr, values)
        if kinds == _STRS:
            return map(_quote, values)
    return [_write(value, depth + 1, left) for value in values]


def _big(value: int) -> str:
    if value.bit_length() > 4 * MAX_INT_DIGITS:
        raise TooLargeError("an integer of too many digits")
    return f'{{"i":"{hex(value)}"}}'


def _object(pairs: list[tuple[str, Any]], left_s: list[float] | None = None) -> Any:
    """Make the value that an object stands for; what is in it has been made already."""
    if len(pairs) != 1:
        raise ValueError("an object of several keys")
    ((tag, body),) = pairs
    if tag in ("i", "b"):
        if type(body) is not str:
            raise TypeError("an object without a string")
        if tag == "b":
            return bytes.fromhex(body)
        if len(body) > MAX_INT_DIGITS + len("-0x"):
            raise ValueError("an integer of too many digits")
        return int(body, 16)
    if type(body) is not list:
        raise TypeError("an object without a list")
    if tag == "t":
        return tuple(body)
    if tag == "c":
        real, imaginary = body
        if type(real) is not float or type(imaginary) is not float:
            raise TypeError("a complex number of other parts than floats")
        return complex(real, imaginary)
    make: Callable[[list[Any]], Any] = {"d": dict, "s": set, "z": frozenset}[tag]
    if left_s is not None and len(body) > _FEW_KEYS:
        _check_table(body, {} if tag == "d" else set(), left_s)
    value = make(body)
    if len(value) != len(body):
        raise ValueError("a key or an element twice")
    return value


def _check_table(body: list[Any], table: dict[Any, Any] | set[Any], left_s: list[float]) -> None:
    """Refuse keys that were chosen to collide, with which building a dict takes quadratic time.

    Keys of one hash are counted. Keys of different hashes can collide too, on their way through the table; whether
    they do is found out by building it in `table`, which grows as the real one will, in pieces that are the smaller
    the longer such a way can be. `left_s` is what remains of the CPU time for that.
    """
    if len(body) > MAX_NODES:
        raise TooLargeError("a value too large")
    keys = [key for key, _ in body] if isinstance(table, dict) else body
    if set(map(type, keys)) <= _TEXT:
        return
    hashes = sorted(map(hash, keys))
    if any(map(int.__eq__, hashes, hashes[MAX_SAME_HASH:])):
        raise TooLargeError("a dict or set of too many keys of one hash")
    start = 0
    while start < len(body):
        piece = min(_PIECE, _LONG_WAY // (start + 1) + 1)
        before = time.thread_time()
        table.update(body[start : start + piece])
        left_s[0] -= time.thread_time() - before
        if left_s[0] < 0:
            raise TooLargeError("a dict or set of keys that collide")
        start += piece


def _check_size(text: str) -> None:
    """Refuse more brackets and commas than `MAX_NODES` nodes have; in memory each is up to 50 times as large."""
    if len(text) > 3 * MAX_NODES and text[0] in "[{" and sum(map(text.count, ",[{")) > 3 * MAX_NODES:
        # What is in strings counts for nothing. Nobody has looked yet whether the text is JSON: each step is linear.
        text = _STRING.sub("", text.replace("\\\\", "").replace('\\"', ""))
        if sum(map(text.count, ",[{")) > 3 * MAX_NODES:
            raise TooLargeError("a value too large")


def _check_depth(value: Any) -> None:
    """Refuse what `dumps` would not have written; level by level, for a call per node would take long."""
    level = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            part
            for node in level
            for part in ((*node, *node.values()) if isinstance(node, dict) else node)
            if type(part) in _CONTAINERS
        ]
    if level:
        raise ValueError("nested too deeply")


_JSON = json.JSONDecoder()
_OBJECTS = json.JSONDecoder(object_pairs_hook=_object)
