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
"""Label rows as lines of a label store.

A line is an object with "schema": 1 and the fields of `LabelRow`, in which `steps` are [start, end, kind], `probes`
[num_steps, num_completions, num_passed], `derivations` [num_steps, completion, pass_rate, feedback], `cost` and
`verdict` objects, and a number that was not measured is null.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Iterable, Mapping, cast, get_args

from nemo_prm.data.fields import Fields
from nemo_prm.data.jsonl import PathLike, read_jsonl
from nemo_prm.errors import DataError
from nemo_prm.metrics import finite_or_null
from nemo_prm.types import (
    Cost,
    Derivation,
    FinishReason,
    LabelRow,
    Level,
    Probe,
    ResponseClass,
    Status,
    Step,
    StepKind,
    Verdict,
)

SCHEMA = 1


def read_label_rows(path: PathLike) -> list[LabelRow]:
    """Read a label store, or a file of `select_data`; it may hold no row.

    Raises:
        DataError: no such file, or a line that is no label row.
    """
    return [label_row_from_json(value, where) for where, value in read_jsonl(path)]


def label_row_to_json(row: LabelRow) -> dict[str, Any]:
    """Return the line of `row`."""
    return {
        "schema": SCHEMA,
        **{field.name: getattr(row, field.name) for field in dataclasses.fields(row)},
        "steps": [[step.start, step.end, step.kind] for step in row.steps],
        "labels": [int(label) if label == int(label) else label for label in row.labels],
        "probes": [[probe.num_steps, probe.num_completions, probe.num_passed] for probe in row.probes],
        "audit": [[probe.num_steps, probe.num_completions, probe.num_passed] for probe in row.audit],
        "derivations": [list(dataclasses.astuple(derivation)) for derivation in row.derivations],
        "cost": dataclasses.asdict(row.cost),
        "verdict": None if row.verdict is None else verdict_to_json(row.verdict),
    }


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict's fields; a number that was not measured is null."""
    fields: dict[str, Any] = finite_or_null(dataclasses.asdict(verdict))
    return fields


def label_row_from_json(value: Mapping[str, Any], where: str) -> LabelRow:
    """Check and convert one line; `where` names it in messages."""
    row = Fields(where, value)
    if row.get("schema") != SCHEMA:
        raise row.error("schema", f"must be {SCHEMA}, found {value['schema']!r}: made by another version")
    response = row.text("response")
    steps = _steps(row, len(response))
    labels = row.items("labels")
    if len(labels) != len(steps):
        raise row.error("labels", f"must hold one label per step, found {len(labels)} for {len(steps)}")
    for label in labels:
        if isinstance(label, bool) or not isinstance(label, (int, float)) or not -1 <= label <= 1:
            raise row.error("labels", f"must lie in [-1, 1], found {label!r}")
    cost = Fields(where, row.mapping("cost"), "cost.")
    return LabelRow(
        problem_id=row.filled("problem_id"),
        response_id=row.filled("response_id"),
        checkpoint=row.text("checkpoint"),
        prompt=row.text("prompt"),
        response=response,
        steps=steps,
        labels=tuple(map(float, labels)),
        response_class=cast(ResponseClass, row.choice("response_class", get_args(ResponseClass))),
        probes=tuple(Probe(*numbers) for numbers in _integers(row, "probes", 3)),
        audit=tuple(Probe(*numbers) for numbers in _integers(row, "audit", 3, [])),
        derivations=_derivations(row, len(steps)),
        cost=Cost(
            cost.integer("completions"), cost.integer("tokens"), cost.integer("executions"), cost.number("seconds")
        ),
        seed=row.integer("seed"),
        generator=row.text("generator"),
        sandbox=row.text("sandbox"),
        difficulty=row.optional_text("difficulty"),
        verdict=None if row.get("verdict", None) is None else verdict_from_json(row.mapping("verdict"), where),
        finish_reason=cast(FinishReason, row.choice("finish_reason", get_args(FinishReason), "stop")),
        version=row.text("version", ""),
        settings_sha256=row.text("settings_sha256", ""),
    )


def _steps(row: Fields, length: int) -> tuple[Step, ...]:
    steps: list[Step] = []
    for item in row.items("steps"):
        if not (isinstance(item, list) and len(item) == 3 and item[2] in get_args(StepKind)):
            raise row.error("steps", f"must hold [start, end, kind], found {item!r}")
        start, end = item[:2]
        if not (type(start) is type(end) is int and (steps[-1].end if steps else 0) <= start < end <= length):
            raise row.error("steps", f"must follow one another within the response, found {item!r}")
        steps.append(Step(start, end, cast(StepKind, item[2])))
    return tuple(steps)


def _derivations(row: Fields, num_steps: int) -> tuple[Derivation, ...]:
    found = []
    for item in row.items("derivations", []):
        if not (
            isinstance(item, list)
            and len(item) == 4
            and type(item[0]) is int
            and 1 <= item[0] <= num_steps
            and type(item[1]) is type(item[3]) is str
            and type(item[2]) in (int, float)
            and 0 <= item[2] <= 1
        ):
            raise row.error("derivations", f"must hold [num_steps, completion, pass_rate, feedback], found {item!r}")
        found.append(Derivation(item[0], item[1], float(item[2]), item[3]))
    return tuple(found)


def _integers(row: Fields, key: str, count: int, *default: list[list[int]]) -> list[list[int]]:
    for item in row.items(key, *default):
        if not (isinstance(item, list) and len(item) == count and all(type(x) is int and x >= 0 for x in item)):
            raise row.error(key, f"must hold lists of {count} counts, found {item!r}")
    return row.items(key, *default)


def verdict_from_json(fields: Mapping[str, Any], where: str) -> Verdict:
    """The inverse of `verdict_to_json`; `where` names its line in messages."""
    value = Fields(where, fields, "verdict.")
    peak_mib = value.get("peak_mib", None)
    return Verdict(
        status=cast(Status, value.choice("status", get_args(Status))),
        num_tests=value.integer("num_tests"),
        num_passed=value.integer("num_passed"),
        failing_test=None if value.get("failing_test", None) is None else value.integer("failing_test"),
        expected=value.optional_text("expected"),
        actual=value.optional_text("actual"),
        message=value.text("message"),
        seconds=value.number("seconds"),
        peak_mib=float("nan") if peak_mib is None else value.number("peak_mib"),
        sandbox=value.text("sandbox"),
        level=cast(Level, value.choice("level", ("", *get_args(Level)), "")),
    )


def check_distinct(stores: Iterable[tuple[str, Iterable[LabelRow]]]) -> None:
    """Refuse label stores (path, rows) that hold a response twice, which would count it twice in training."""
    seen: dict[tuple[str, str], str] = {}
    for path, entries in stores:
        for row in entries:
            key = (row.problem_id, row.response_id)
            if key in seen:
                raise DataError(
                    f"{path}: response {row.response_id!r} of {row.problem_id!r} is already in {seen[key]}."
                )
            seen[key] = path
