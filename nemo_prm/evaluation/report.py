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
"""The report: one self-contained HTML file that shows labelled responses line by line.

Responses, prompts and error texts come from a model and from programs it wrote. They are shown as text, whatever they
hold: Jinja escapes every value, the page has no script, and its content security policy forbids all but its own style.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections import Counter
from importlib import resources
from typing import Any, Mapping, NamedTuple, Sequence

from nemo_prm.errors import ConfigError, DataError
from nemo_prm.evaluation.ppo_runs import PPORun, draw_curves
from nemo_prm.types import LabelRow, ResponseClass

CLASS_ORDER: tuple[ResponseClass, ...] = ("revised", "correct", "wrong")


class Line(NamedTuple):
    """One line of a response as shown; `label` is None where no step covers it (a fence, text around the code)."""

    text: str
    label: float | None
    mark: str
    style: str  # CSS class


class Card(NamedTuple):
    row: LabelRow
    lines: list[Line]


class Table(NamedTuple):
    caption: str
    heads: tuple[str, str]
    rows: list[tuple[str, str]]


def render(
    rows: Sequence[LabelRow],
    limit: int = 12,
    summary: Mapping[str, Any] | None = None,
    runs: Sequence[PPORun] = (),
) -> str:
    """Render the report.

    Args:
        rows: labelled responses; the totals count all of them.
        limit: responses shown, chosen by `choose`.
        summary: content of a run's summary.json, shown on top.
        runs: PPO runs, whose curves are drawn side by side.

    Returns:
        An HTML document that refers to nothing outside itself.

    Raises:
        ConfigError: jinja2 is not installed, or, where there are runs, matplotlib.
        DataError: `summary` is not of the summary's schema.
    """
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise ConfigError("The report needs jinja2; install it with: pip install 'nemo-prm[report]'.") from error

    templates = resources.files("nemo_prm.evaluation") / "templates"
    environment = jinja2.Environment(
        autoescape=True,  # after `finalize`
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (templates / "report.css").read_text(encoding="utf-8")
    template = environment.from_string((templates / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        title="Process labels of code, line by line",
        style=Markup(style),
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        summary=summary_tables(summary) if summary is not None else [],
        curves=draw_curves(runs) if runs else "",
        runs=runs,
        totals=totals(rows),
        cards=[Card(row, lines_of(row)) for row in choose(rows, limit)],
    )


def choose(rows: Sequence[LabelRow], limit: int) -> list[LabelRow]:
    """Pick `limit` rows: half revised, the rest half correct and half wrong, each problem once before any twice.

    Where a class has too few rows the others fill in. The order is revised, correct, wrong.
    """
    seen: Counter[str] = Counter()
    by_class: dict[ResponseClass, list[tuple[int, LabelRow]]] = {name: [] for name in CLASS_ORDER}
    for row in rows:
        by_class[row.response_class].append((seen[row.problem_id], row))
        seen[row.problem_id] += 1
    ordered = {
        name: [row for _, row in sorted(entries, key=lambda entry: entry[0])] for name, entries in by_class.items()
    }
    revised = limit - limit // 2
    quota = {"revised": revised, "correct": (limit - revised + 1) // 2, "wrong": (limit - revised) // 2}
    counts = {name: min(quota[name], len(ordered[name])) for name in CLASS_ORDER}
    for name in CLASS_ORDER:
        counts[name] += min(limit - sum(counts.values()), len(ordered[name]) - counts[name])
    return [row for name in CLASS_ORDER for row in ordered[name][: counts[name]]]


def lines_of(row: LabelRow) -> list[Line]:
    """Cut the response into its lines, each with the label of the step that covers its first code point."""
    lines, start = [], 0
    step = 0
    for text in row.response.removesuffix("\n").split("\n"):
        while step < len(row.steps) and row.steps[step].end <= start:
            step += 1
        covered = step < len(row.steps) and row.steps[step].start <= start
        lines.append(_line(text, row.labels[step] if covered else None))
        start += len(text) + 1
    return lines


def _line(text: str, label: float | None) -> Line:
    if label is None:
        return Line(text, None, "", "")
    if label == 0:
        return Line(text, label, "0", "zero")
    sign, style = ("+", "pos") if label > 0 else ("−", "neg")
    return Line(text, label, sign if abs(label) == 1 else f"{sign}{abs(label):.2f}", style)


def visible(text: str) -> str:
    """Spell out code points that hide or reorder text (controls, bidirectional overrides), or have no UTF-8 form."""
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        f"\\u{ord(char):04x}" if char not in "\n\t" and unicodedata.category(char) in hidden else char for char in text
    )


def totals(rows: Sequence[LabelRow]) -> dict[str, int]:
    """Count responses by class and steps by the sign of their label."""
    classes = Counter(row.response_class for row in rows)
    labels = [label for row in rows for label in row.labels]
    return {
        "responses": len(rows),
        **{name: classes[name] for name in CLASS_ORDER},
        "steps": len(labels),
        "positive": sum(label > 0 for label in labels),
        "negative": sum(label < 0 for label in labels),
        "neutral": sum(label == 0 for label in labels),
    }


def summary_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Lay out `stages`, `labels`, `pass_at_1` and `versions` of a summary.json; what is missing is left out."""
    names = {"policy": "Policy", "rl": "RL without PRM", "rl_prm": "RL with PRM"}
    try:
        tables = [
            Table(
                "Pass@1 on held-out problems",
                ("Model", "Pass@1"),
                [(names.get(key, key), _percent(value)) for key, value in summary.get("pass_at_1", {}).items()],
            ),
            Table(
                "Labels",
                ("Class", "Count"),
                [(key.replace("_", " "), str(value)) for key, value in summary.get("labels", {}).items()],
            ),
            Table(
                "Stages",
                ("Stage", "Seconds"),
                [(_stage_name(stage), f"{stage['seconds']:.1f}") for stage in summary.get("stages", [])],
            ),
            Table(
                "Versions",
                ("Package", "Version"),
                [(key, str(value)) for key, value in summary.get("versions", {}).items()],
            ),
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"The summary is not of the schema that a run writes to summary.json: {error!r}.") from error
    return [table for table in tables if table.rows]


def _stage_name(stage: Mapping[str, Any]) -> str:
    return f"{stage['name']} (reused)" if stage.get("reused") else str(stage["name"])


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.1f} %"
