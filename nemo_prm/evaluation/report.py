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
"""Renders labelled responses, PPO runs and searches as one HTML page that needs nothing else.

Responses, prompts and error texts come from a model and from programs it wrote. They are shown as text, whatever they
hold: Jinja escapes every value, the script puts them into the page as text, never as HTML, and the content security
policy forbids every style and script but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
from collections import Counter
from importlib import resources
from typing import Any, Mapping, NamedTuple, Sequence

from nemo_prm.data.selection import count_labels
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.evaluation.plots import draw_curves, draw_prm
from nemo_prm.evaluation.ppo_runs import PPORun
from nemo_prm.evaluation.report_items import SearchRunFiles, label_items, ppo_items, search_items
from nemo_prm.types import LabelRow, ResponseClass

CLASS_ORDER: tuple[ResponseClass, ...] = ("revised", "correct", "wrong")


class Table(NamedTuple):
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def render(
    rows: Sequence[LabelRow],
    limit: int = 5000,
    summary: Mapping[str, Any] | None = None,
    runs: Sequence[PPORun] = (),
    searches: Sequence[SearchRunFiles] = (),
    prm: Mapping[str, Any] | None = None,
    scores: Mapping[tuple[str, str], Sequence[float]] | None = None,
) -> str:
    """Render the report.

    Args:
        rows: labelled responses; the totals count all of them.
        limit: how many of them can be looked at, chosen by `choose`.
        summary: content of a run's summary.json, shown on top.
        runs: PPO runs, whose curves are drawn side by side.
        searches: search jobs, whose answers can be looked at with all their candidates.
        prm: content of `evaluate_prm`'s results.json.
        scores: of a PRM, for the steps of rows, by (problem_id, response_id).

    Returns:
        An HTML document that refers to nothing outside itself.

    Raises:
        ConfigError: jinja2 is not installed, or, where there is something to draw, matplotlib.
        DataError: `summary` or `prm` is not of its schema.
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
    style, script = ((templates / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    template = environment.from_string((templates / "report.html.j2").read_text(encoding="utf-8"))
    shown = choose(rows, limit)
    items = [*label_items(shown, scores or {}), *ppo_items(runs), *search_items(searches)]
    return template.render(
        title="Process rewards for code, line by line",
        style=Markup(style),
        style_hash=_source_hash(style),
        script=Markup(script),
        script_hash=_source_hash(script),
        data=Markup(as_script_data(items)),
        num_items=len(items),
        tables=[
            *(summary_tables(summary) if summary is not None else []),
            *([cost_table(rows)] if rows else []),
            *(search_tables(searches)),
        ],
        curves=draw_curves(runs) if runs else "",
        runs=runs,
        prm=draw_prm(prm) if prm is not None else "",
        prm_tables=prm_tables(prm) if prm is not None else [],
        totals=totals(rows),
        num_shown=len(shown),
    )


def _source_hash(text: str) -> str:
    """What admits an inline style or script in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def as_script_data(value: Any) -> str:
    """JSON that is safe within a script element; texts are made `visible`."""

    def seen(each: Any) -> Any:
        if isinstance(each, str):
            return visible(each)
        if isinstance(each, Mapping):
            return {name: seen(entry) for name, entry in each.items()}
        return [seen(entry) for entry in each] if isinstance(each, (list, tuple)) else each

    text = json.dumps(seen(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


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


def visible(text: str) -> str:
    """Spell out code points that hide or reorder text (controls, bidirectional overrides), or have no UTF-8 form."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        f"\\u{ord(char):04x}" if char not in "\n\t" and unicodedata.category(char) in hidden else char for char in text
    )


def totals(rows: Sequence[LabelRow]) -> dict[str, int]:
    """Count responses by class and steps by the sign of their label."""
    classes = Counter(row.response_class for row in rows)
    return {
        "responses": len(rows),
        **{name: classes[name] for name in CLASS_ORDER},
        "steps": sum(len(row.labels) for row in rows),
        **count_labels(rows),
    }


def cost_table(rows: Sequence[LabelRow]) -> Table:
    """What labels cost: means of a response of each class."""
    lines = []
    for name in (*CLASS_ORDER, "all"):
        part = [row for row in rows if name in (row.response_class, "all")]
        if part:
            means = [
                sum(getattr(row.cost, what) for row in part) / len(part)
                for what in ("completions", "tokens", "executions", "seconds")
            ]
            lines.append((name, str(len(part)), *(f"{mean:.1f}" for mean in means)))
    heads = ("Class", "Responses", "Completions", "Tokens", "Runs", "Seconds")
    return Table("Cost of a label", heads, lines)


def search_tables(searches: Sequence[SearchRunFiles]) -> list[Table]:
    """Pass@1 of search jobs side by side."""
    lines = []
    for each in searches:
        found = each.results.get("results", {}).get("nemo_prm", {})
        low, high = found.get("pass@1_ci") or (None, None)
        lines.append(
            (
                each.name,
                _percent(found.get("pass@1")),
                f"{_percent(low)} to {_percent(high)}",
                f"{each.results.get('completions_per_problem', float('nan')):.1f}",
                f"{each.results.get('tokens_per_problem', float('nan')):.0f}",
            )
        )
    heads = ("Job", "Pass@1", "95 % interval", "Completions", "Tokens")
    return [Table("Search, per problem", heads, lines)] if lines else []


def prm_tables(prm: Mapping[str, Any]) -> list[Table]:
    """How well the PRM finds bad lines, beside the baselines."""
    names = {"model": "PRM", "constant": "constant", "outcome_only": "outcome only", "perfect_outcome": "true outcome"}
    heads = ("Scores", "AUC", "First-error F1", "Accuracy", "Calibration error")
    try:
        lines = [
            (shown, *(_number(prm[key][what]) for what in ("auc", "first_error_f1", "accuracy", "ece")))
            for key, shown in names.items()
        ]
        matrix = [(truth, *(str(count) for count in row.values())) for truth, row in prm["first_error"].items()]
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"The PRM's results are not of the schema that evaluate_prm writes: {error!r}.") from error
    flagged = ("First bad line", "flagged before it", "at it", "after it", "nowhere")
    return [Table("Lines", heads, lines), Table("First error", flagged, matrix)]


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


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
