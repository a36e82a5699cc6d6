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
"""Plots of the report as data URLs of SVG: the same numbers give the same bytes; grey text suits dark and light."""

from __future__ import annotations

import base64
import io
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from nemo_prm.errors import ConfigError, DataError
from nemo_prm.evaluation.ppo_runs import CURVES, PPORun

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # Okabe and Ito: for all eyes
GREY = "#808080"  # legible on white and on black


def draw_curves(runs: Sequence[PPORun]) -> str:
    """A small plot of each curve that a run has, runs side by side; empty where there is none.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    names = [name for name in CURVES if any(run.curves.get(name) for run in runs)]
    if not names:
        return ""
    rows = -(-len(names) // 3)
    with _style():
        figure = _figure(9, 1.9 * rows + 0.5)
        all_axes = list(figure.subplots(rows, 3, squeeze=False).flat)
        for axes, name in zip(all_axes, names):
            for run, colour in zip(runs, COLOURS * len(runs)):
                curve = run.curves.get(name, {})
                axes.plot(list(curve), list(curve.values()), color=colour, marker=".", markersize=3)
            axes.patch.set_alpha(0)
            axes.set_title(CURVES[name], fontsize=9)
        for axes in all_axes[len(names) :]:
            axes.set_visible(False)
        shown = [run.name.replace("$", r"\$") for run in runs]  # no mathematics
        figure.legend(all_axes[0].get_lines(), shown, loc="outside lower center", ncols=4, frameon=False)
        return _as_url(figure)


def draw_prm(results: Mapping[str, Any]) -> str:
    """ROC curve and reliability of a PRM, from `evaluate_prm`'s results.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: not of its schema.
    """
    try:
        roc = [(float(x), float(y)) for x, y in results["roc"]]
        bins = [(b["predicted"], b["observed"], b["lines"]) for b in results["reliability"] if b["lines"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"The PRM's results are not of the schema that evaluate_prm writes: {error!r}.") from error
    with _style():
        figure = _figure(9, 4.2)
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
            axes.patch.set_alpha(0)
            axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        left.plot([x for x, _ in roc], [y for _, y in roc], color=COLOURS[0])
        left.set(xlabel="bad lines scored at least as high", ylabel="good lines scored at least as high")
        left.set_title("ROC", fontsize=9)
        _draw_bins(right, bins)
        right.set_title("Reliability", fontsize=9)
        return _as_url(figure)


def draw_reliability(path: Path, bins: Sequence[Mapping[str, float]]) -> None:
    """Write a plot of the chance that lines were said to have against the share that was good (SVG).

    Args:
        path: of the file.
        bins: as dicts of `nemo_prm.evaluation.step_metrics.Bin`.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    with _style():
        figure = _figure(4.5, 4.5)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        _draw_bins(axes, [(each["predicted"], each["observed"], int(each["lines"])) for each in bins if each["lines"]])
        path.write_bytes(_as_svg(figure))


def _draw_bins(axes: Any, bins: Sequence[tuple[float, float, int]]) -> None:
    """Predicted chance against observed share, with the number of lines beside each point."""
    axes.plot([p for p, _, _ in bins], [o for _, o, _ in bins], color=COLOURS[0], marker="o", markersize=4)
    for predicted, observed, count in bins:
        axes.annotate(str(count), (predicted, observed), xytext=(4, -10), fontsize=7, textcoords="offset points")
    axes.set(xlabel="predicted chance that a line is good", ylabel="share of good lines")


@contextmanager
def _style() -> Iterator[None]:
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError("Plots need matplotlib; install it with: pip install 'nemo-prm[report]'.") from error
    settings = {
        "svg.hashsalt": "report",  # the same file each time
        "svg.fonttype": "none",
        "text.color": GREY,
        "axes.labelcolor": GREY,
        "axes.edgecolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "font.size": 8,
    }
    with matplotlib.rc_context(settings):
        yield


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)  # the page's colour shows through
    return figure


def _as_svg(figure: Any) -> bytes:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    content = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None})
    return content.getvalue()


def _as_url(figure: Any) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(_as_svg(figure)).decode()
