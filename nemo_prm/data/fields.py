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
"""Taking typed fields out of a parsed JSON object, with messages that name file, line and field."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

from nemo_prm.data.jsonl import json_type
from nemo_prm.errors import DataError

_REQUIRED = object()


class Fields:
    """The fields of one JSON object; every getter raises `DataError` for a missing or ill-typed one.

    Args:
        where: position for messages, such as `problems.jsonl:3`.
        value: the parsed object.
        path: prefix of field names in messages, such as `tests[2].`.
    """

    def __init__(self, where: str, value: Mapping[str, Any], path: str = "") -> None:
        self.where, self.value, self.path = where, value, path
        self.seen: set[str] = set()

    def error(self, key: str, text: str) -> DataError:
        return DataError(f"{self.where}: `{self.path}{key}` {text}.")

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        """Return the raw value; an absent key is an error unless there is a default."""
        self.seen.add(key)
        if key in self.value:
            return self.value[key]
        if default is _REQUIRED:
            raise self.error(key, "is missing")
        return default

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"must be a string, found {json_type(value)}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise self.error(key, "holds a lone surrogate, which is no valid text") from None
        return value

    def filled(self, key: str, default: Any = _REQUIRED) -> str:
        value = self.text(key, default)
        if not value:
            raise self.error(key, "must not be empty")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self.get(key, None) is None else self.text(key)

    def choice(self, key: str, choices: Sequence[str], default: Any = _REQUIRED) -> Any:
        value = self.get(key, default)
        if value not in choices:
            raise self.error(key, f"must be one of {', '.join(choices)}, found {value!r}")
        return value

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, f"must be a number, found {json_type(value)}")
        return float(value)

    def positive(self, key: str, default: Any = _REQUIRED, maximum: float = math.inf) -> float:
        value = self.number(key, default)
        if not (math.isfinite(value) and value > 0):
            raise self.error(key, f"must be a finite number over 0, found {value}")
        if value > maximum:
            raise self.error(key, f"must be at most {maximum:g}, found {value:g}")
        return value

    def integer(self, key: str, default: Any = _REQUIRED, minimum: int = 0, maximum: float = math.inf) -> int:
        value = self.get(key, default)
        if isinstance(value, float) and value.is_integer():  # 256.0: JSON has but one kind of number
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"must be an integer, found {json_type(value)}")
        if value < minimum:
            raise self.error(key, f"must be at least {minimum}, found {value}")
        if value > maximum:
            raise self.error(key, f"must be at most {maximum}, found {value}")
        return value

    def items(self, key: str, default: Any = _REQUIRED) -> list[Any]:
        value = self.get(key, default)
        if not isinstance(value, list):
            raise self.error(key, f"must be a list, found {json_type(value)}")
        return value

    def mapping(self, key: str, default: Any = _REQUIRED) -> dict[str, Any]:
        value = self.get(key, default)
        if not isinstance(value, dict):
            raise self.error(key, f"must be an object, found {json_type(value)}")
        return value

    def objects(self, key: str, default: Any = _REQUIRED) -> list[Fields]:
        """Return the elements of a list of objects."""
        found = []
        for i, value in enumerate(self.items(key, default)):
            if not isinstance(value, dict):
                raise self.error(f"{key}[{i}]", f"must be an object, found {json_type(value)}")
            found.append(Fields(self.where, value, f"{self.path}{key}[{i}]."))
        return found

    def unknown(self) -> dict[str, Any]:
        """Return what no getter has asked for."""
        return {key: value for key, value in self.value.items() if key not in self.seen}

    def refuse_unknown(self) -> None:
        for key in self.unknown():
            raise self.error(key, f"is not a known key here; known are {', '.join(sorted(self.seen))}")
