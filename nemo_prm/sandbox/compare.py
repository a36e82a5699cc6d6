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
"""Whether an answer is the expected one; runs on the trusted side, on plain data and text alone."""

from __future__ import annotations

import math
from typing import Any

from nemo_prm.types import Checker

TOLERANCE = 1e-6  # relative or absolute, for the checker `approx`


def values_equal(expected: Any, actual: Any, checker: Checker | None = None) -> bool:
    """Compare the return value of a call.

    `exact` (and None): types must agree, so True is not 1; NaN equals NaN. Two exceptions: 1 equals 1.0, as in an
    assertion, and since JSON has no tuples an expected list accepts a tuple of the same elements. Dicts and sets
    compare without order; keys of a problem file are strings, so {1: 2} is not {"1": 2}. `approx`: numbers within
    `TOLERANCE`.

    Args:
        expected: from the problem.
        actual: plain data that came out of the candidate's process.
        checker: name of the comparison.
    """
    if isinstance(expected, (list, tuple)):
        kinds = (list, tuple) if isinstance(expected, list) else (tuple,)
        return (
            type(actual) in kinds
            and len(expected) == len(actual)
            and all(values_equal(x, y, checker) for x, y in zip(expected, actual))
        )
    if isinstance(expected, dict):
        if type(actual) is not dict or len(expected) != len(actual):
            return False
        typed = {(type(key), key): value for key, value in actual.items()}
        return all((type(k), k) in typed and values_equal(v, typed[type(k), k], checker) for k, v in expected.items())
    if isinstance(expected, (set, frozenset)):
        return type(actual) is type(expected) and {(type(x), x) for x in expected} == {(type(x), x) for x in actual}
    if type(expected) in (int, float) and type(actual) in (int, float):
        if _is_nan(expected) or _is_nan(actual):
            return _is_nan(expected) and _is_nan(actual)
        if expected == actual or checker != "approx":
            return bool(expected == actual)
        try:
            return math.isclose(expected, actual, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        except OverflowError:  # an integer beyond the range of float
            return False
    return type(expected) is type(actual) and bool(expected == actual)


def stdout_equal(expected: str, actual: str) -> bool:
    """Compare what a program printed: line by line, white space at line ends and empty lines at the end ignored."""
    return _lines(expected) == _lines(actual)


def show(value: Any, limit: int = 300) -> str:
    """Return a bounded repr for a verdict."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "an integer of over 4300 digits"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _is_nan(value: Any) -> bool:
    return type(value) is float and math.isnan(value)
