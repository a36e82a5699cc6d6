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
"""docs/study.md: tables and plots of the results, written by the study itself."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence

from nemo_prm.config import StudyConfig
from nemo_prm.study.arms import ARMS, TABLES, Table
from nemo_prm.study.results import SETTINGS, Row, final
from nemo_prm.study.stages import Cell
from nemo_prm.study.statistics import Mean, mean

DIFFICULTIES = ("easy", "medium", "hard")
MONITORS = (
    "lines_per_response",
    "comment_share",
    "blank_share",
    "repeated_share",
    "line_rewards",
    "praised_failures",
    "score_outcome_correlation",
    "init_policy_kl",
)
BOTH, SAFEGUARDS = "both", ("no_normalisation", "no_neutral")
QUESTIONS = {  # an arm, and what it is compared with
    "DenseReward and ValueInit against neither": (BOTH, "rl"),
    "With GAE's lambda 0.95, DenseReward and affine ValueInit against neither": (
        "affine_short_credit",
        "rl_short_credit",
    ),
}


def write_page(path: Path, results: Mapping[Cell, Row], config: StudyConfig) -> None:
    """Write the page, and its plots into the folder of its name.

    Args:
        path: of the page.
        results: rows by arm and seed.
        config: the settings.
    """
    by_arm: dict[str, dict[int, Row]] = {}
    for cell, row in sorted(results.items()):
        by_arm.setdefault(cell.arm, {})[cell.seed] = row
    sections = [_head(by_arm, config)]
    for table in TABLES:
        rows = {name: by_arm[name] for name in table.arms if name in by_arm}
        if table.reference in rows and len(rows) > 1:
            sections.append(_table(table, rows))
    if any(arm in by_arm and reference in by_arm for arm, reference in QUESTIONS.values()):
        sections.append(_lengths(by_arm))
    sections.append(_monitors(by_arm))
    figures = path.with_suffix("")
    figures.mkdir(parents=True, exist_ok=True)
    _draw(figures, by_arm)
    sections.append(
        f"## Curves\n\n![Pass@1 of every arm]({figures.name}/arms.svg)\n\n"
        f"![pass rate of the rollouts]({figures.name}/pass_rate.svg)\n\n"
        f"Every row behind this page, with Pass@1 by problem and the curves of its run: "
        f"[{figures.name}/results.jsonl]({figures.name}/results.jsonl)."
    )
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _head(by_arm: Mapping[str, Mapping[int, Row]], config: StudyConfig) -> str:
    shown = ", ".join(f"`{name}={getattr(config, name)}`" for name in SETTINGS if name != "policy")
    text = (
        "# Study\n\n"
        "Written by `python scripts/study.py` from the runs in its `results.jsonl`; do not edit. The tables of PSGPO "
        "(arXiv 2410.17621) at small scale: the embedded policy, the embedded problems, "
        f"{config.steps} PPO steps for every arm. A policy is measured on held-out problems "
        f"({config.evaluate_samples} samples each, temperature 0.2, top-p 0.95).\n\n"
        f"Settings: {shown}. An interval is Student's 95 % interval over seeds; a difference is taken seed by seed."
    )
    for question, (arm, reference) in QUESTIONS.items():
        if arm in by_arm and reference in by_arm:
            text += f"\n\n**{_verdict(question, by_arm[arm], by_arm[reference])}**"
    return text


def _verdict(question: str, arm: Mapping[int, Row], reference: Mapping[int, Row]) -> str:
    gain = difference(arm, reference, _pass_at_1)
    if gain.num_values < 2:
        return f"{question}: one seed says nothing."
    points = f"{100 * gain.value:+.1f} points of Pass@1 ({_interval(gain)}, {gain.num_values} seeds)"
    if not gain.excludes_zero():
        return f"{question}: {points}. The interval holds zero: no effect is shown."
    return f"{question}: {points}. The interval excludes zero."


def _table(table: Table, rows: Mapping[str, Mapping[int, Row]]) -> str:
    lines = [
        f"## {table.title}\n\n{table.source}.\n",
        "| | seeds | Pass@1, % | difference, points | 95 % interval | easy | medium | hard "
        "| first explained variance |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, seeds in rows.items():
        title = table.arms[name] or ARMS[name].title
        overall = mean([_pass_at_1(row) for row in seeds.values()])
        gain = difference(seeds, rows[table.reference], _pass_at_1)
        compared = ("", "") if name == table.reference else (f"{100 * gain.value:+.1f}", _interval(gain))
        parts = [_percent(mean([_share(row, d) for row in seeds.values()]).value) for d in DIFFICULTIES]
        fits = [row["curves"].get("explained_variance", [None])[0] for row in seeds.values()]
        known = [value for value in fits if value is not None]
        fit = f"{mean(known).value:.2f}" if known else ""
        cells = [title, str(len(seeds)), _with_spread(overall), *compared, *parts, fit]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _lengths(by_arm: Mapping[str, Mapping[int, Row]]) -> str:
    lines = [
        "## By length\n\nPSGPO, Figure 3. Difficulty is the number of operations, so hard problems have the longest "
        "solutions.\n",
        "| | problems | neither, % | with the PRM, % | gain, points | 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for name, reference in QUESTIONS.values():
        arm, without = by_arm.get(name, {}), by_arm.get(reference, {})
        for difficulty in DIFFICULTIES:
            gain = difference(arm, without, partial(_share, difficulty=difficulty))
            means = [
                _percent(mean([_share(row, difficulty) for row in rows.values()]).value) for rows in (without, arm)
            ]
            if all(means):
                title = ARMS[name].title
                lines.append(
                    f"| {title} | {difficulty} | {' | '.join(means)} | {100 * gain.value:+.1f} | {_interval(gain)} |"
                )
    return "\n".join(lines)


def _monitors(by_arm: Mapping[str, Mapping[int, Row]]) -> str:
    lines = [
        "## What the monitors see\n\nAt the last step, mean over seeds; [ppo.md](ppo.md) says what they are.\n",
        "| | " + " | ".join(name.replace("_", " ") for name in MONITORS) + " |",
        "|---|" + "---|" * len(MONITORS),
    ]
    for name, seeds in by_arm.items():
        found = [final(list(seeds.values()), monitor) for monitor in MONITORS]
        cells = [f"{mean(values).value:.3g}" if values else "" for values in found]
        lines.append(f"| {ARMS[name].title} | " + " | ".join(cells) + " |")
    without = {name: by_arm[name] for name in SAFEGUARDS if name in by_arm and BOTH in by_arm}
    if without:
        lines.append(
            f"\nWithout a safeguard, against {ARMS[BOTH].title} seed by seed; the differences whose 95 % interval "
            f"excludes zero, of {len(MONITORS)} monitors:\n"
        )
    for name, seeds in without.items():
        moved = []
        for monitor in MONITORS:
            gain = difference(seeds, by_arm[BOTH], partial(_last, monitor=monitor))
            if gain.excludes_zero():
                moved.append(
                    f"{monitor.replace('_', ' ')} {gain.value:+.3g} ({gain.low:+.3g} to {gain.high:+.3g}, "
                    f"{gain.num_values} seeds)"
                )
        lines.append(f"- {ARMS[name].title}: {'; '.join(moved) or 'none'}")
    return "\n".join(lines)


def _share(row: Row, difficulty: str) -> float:
    return _number(row["by_difficulty"].get(difficulty))


def _pass_at_1(row: Row) -> float:
    return _number(row["pass_at_1"])


def _number(value: float | None) -> float:
    """NaN where nothing is known: no sample has a verdict."""
    return math.nan if value is None else float(value)


def _last(row: Row, monitor: str) -> float:
    return next(iter(final([row], monitor)), math.nan)


def difference(arm: Mapping[int, Row], reference: Mapping[int, Row], value: Callable[[Row], float]) -> Mean:
    """Mean of arm minus reference over the seeds that both have."""
    return mean([value(arm[seed]) - value(reference[seed]) for seed in sorted(arm.keys() & reference.keys())])


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f}"


def _interval(found: Mean) -> str:
    return "" if found.num_values < 2 else f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"


def _with_spread(found: Mean) -> str:
    return _percent(found.value) + ("" if found.num_values < 2 else f" ± {100 * (found.high - found.value):.1f}")


def _draw(folder: Path, by_arm: Mapping[str, Mapping[int, Row]]) -> None:
    """arms.svg: Pass@1 of each arm, seeds as dots; pass_rate.svg: the rollouts' pass rate by step."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    def save(figure: Any, name: str) -> None:
        with matplotlib.rc_context({"svg.hashsalt": "study", "svg.fonttype": "none"}):  # the same file each time
            FigureCanvasSVG(figure).print_svg(folder / name, metadata={"Date": None})

    names = [name for name in ARMS if name in by_arm]
    figure = Figure(figsize=(8, 0.9 + 0.35 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = [100 * _pass_at_1(row) for row in by_arm[name].values()]
        axes.plot(values, [place] * len(values), "o", color="0.6", markersize=4)
        found = mean(values)
        axes.errorbar(
            found.value,
            place,
            xerr=None if found.num_values < 2 else found.high - found.value,
            fmt="D",
            color="C0",
            markersize=5,
            capsize=3,
        )
    axes.set_yticks(range(len(names)), [ARMS[name].title for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("Pass@1, % (grey: seeds; blue: mean and 95 % interval)")
    save(figure, "arms.svg")

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name in TABLES[0].arms:
        curves = [row["curves"]["pass_rate"] for row in by_arm.get(name, {}).values() if "pass_rate" in row["curves"]]
        if curves:
            axes.plot(list(_mean_curve(curves)), label=ARMS[name].title)
    axes.set_xlabel("PPO step")
    axes.set_ylabel("pass rate of the rollouts, %, mean over seeds")
    if axes.lines:
        axes.legend()
    save(figure, "pass_rate.svg")


def _mean_curve(curves: Sequence[Sequence[float | None]]) -> Iterable[float]:
    for values in zip(*curves):
        yield 100 * mean([value for value in values if value is not None]).value
