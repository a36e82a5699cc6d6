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

None, bool, int, float, str, list, tuple, dict, set and frozenset, nested; everything else is refused. Lists stay JSON
lists; what JSON cannot say is an object of one letter: {"t": [...]} is a tuple, {"d": [[key, value], ...]} a dict,
{"s": [...]} a set, {"z": [...]} a frozenset, {"i": "0x..."} an integer beyond 64 bits. Reading it runs nobody's code.

This file is loaded on both sides; it must import nothing but the standard library.
"""

from __future__ import annotations

import collections
import json
from typing import Any

MAX_DEPTH = 200
MAX_NODES = 1_000_000

# Subclasses that programs return in good faith; they count by content. A subclass with other manners is refused.
_BY_CONTENT = (collections.Counter, collections.OrderedDict, collections.defaultdict)


class NotPlainError(ValueError):
    """A value that plain data cannot say, or text that is no plain data."""


def dumps(value: Any) -> str:
    """Write a value as one line of ASCII.

    Raises:
        NotPlainError: the value or a part of it is of another type, nested too deeply, or too large.
    """
    return json.dumps(_encode(value, 0, [MAX_NODES]))


def loads(text: str | bytes) -> Any:
    """Read what `dumps` wrote.

    Raises:
        NotPlainError: the text was not written by `dumps`.
    """
    try:
        return _decode(json.loads(text), 0)
    except (ValueError, RecursionError) as error:
        raise NotPlainError(f"not plain data: {error}") from None


def _encode(value: Any, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if depth > MAX_DEPTH or budget[0] < 0:
        raise NotPlainError("a value nested too deeply or too large")
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else {"i": hex(value)}
    if kind is list:
        return [_encode(item, depth + 1, budget) for item in value]
    if kind is dict or kind in _BY_CONTENT:
        pairs = [[_encode(k, depth + 1, budget), _encode(v, depth + 1, budget)] for k, v in dict.items(value)]
        return {"d": pairs}
    if kind is tuple or (isinstance(value, tuple) and hasattr(kind, "_fields")):  # a namedtuple
        return {"t": [_encode(item, depth + 1, budget) for item in tuple.__iter__(value)]}
    if kind is set or kind is frozenset:
        return {"s" if kind is set else "z": [_encode(item, depth + 1, budget) for item in value]}
    raise NotPlainError(f"a value of type {kind.__name__}")


def _decode(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotPlainError("nested too deeply")
    if isinstance(value, list):
        return [_decode(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise NotPlainError("an object of several keys")
    tag, body = next(iter(value.items()))
    if tag == "i" and isinstance(body, str):
        return int(body, 16)
    if not isinstance(body, list):
        raise NotPlainError("an object without a list")
    try:
        if tag == "d":
            return {_decode(k, depth + 1): _decode(v, depth + 1) for k, v in body}
        items = [_decode(item, depth + 1) for item in body]
        return {"t": tuple, "s": set, "z": frozenset}[tag](items)
    except (TypeError, KeyError) as error:  # an unhashable key, a pair that is none, an unknown letter
        raise NotPlainError(str(error)) from None
