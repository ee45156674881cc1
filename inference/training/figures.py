"""The figures of reports, as matplotlib draws them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from config.errors import MissingExtraError
from inference.training.evaluation import Evaluation
from inference.training.selection import TradeOff

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind tell apart; good parts are always the first
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
_BINS = 40
_LETTER_PT, _LINE_PT = 5.0, 8.0  # of small letters


def scores(evaluation: Evaluation) -> Figure:
    """Draw how the scores of good and of bad parts lie, and where the thresholds are."""
    figure, axes = new(7.0, 3.2)
    kinds = sorted({image.kind for image in evaluation.images}, key=lambda kind: (kind != "good", kind))
    values = [[image.score for image in evaluation.images if image.kind == kind] for kind in kinds]
    edges = np.histogram_bin_edges(np.concatenate(values), _BINS)
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(kinds))]
    axes.hist(values, edges.tolist(), stacked=True, color=colours, label=kinds)
    for above, name, style in ((evaluation.review_above, "review", "--"), (evaluation.reject_above, "reject", "-")):
        axes.axvline(above, color="black", linestyle=style, linewidth=1, label=f"{name} above {above:.4g}")
    axes.set(xlabel="score", ylabel="parts")
    axes.legend(fontsize="small", frameon=False)
    return figure


def roc(evaluation: Evaluation) -> Figure:
    """Draw the ROC curve, and the point on it that the thresholds choose."""
    figure, axes = new(4.0, 3.6)
    good = np.sort([image.score for image in evaluation.images if image.good])
    bad = np.sort([image.score for image in evaluation.images if not image.good])
    levels = np.unique(np.concatenate([good, bad]))[::-1]
    false = np.concatenate([[0.0], 1 - np.searchsorted(good, levels, "left") / max(1, len(good)), [1.0]])
    found = np.concatenate([[0.0], 1 - np.searchsorted(bad, levels, "left") / max(1, len(bad)), [1.0]])
    axes.plot(false, found, color=COLOURS[0])
    chosen = (evaluation.false_rejects.rate, 1 - evaluation.escapes.rate)
    axes.plot(*chosen, "o", color=COLOURS[1], label="as calibrated")
    axes.set(xlabel="false rejects", ylabel="defects found", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(fontsize="small", frameon=False, loc="lower right")
    return figure


def trade_off(found: TradeOff, cost: str) -> Figure:
    """Draw accuracy against `cost` (with its unit): full dots are beaten by none, the trend is dashed."""
    figure, axes = new(6.4, 4.0)
    front = [point for point in sorted(found.points, key=lambda point: point.cost) if point.name in found.pareto]
    beaten = [point for point in found.points if point.name not in found.pareto]
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    costs = [point.cost for point in found.points]
    axes.xaxis.set_minor_formatter("{x:g}" if max(costs) < 10 * min(costs) else "")
    axes.margins(x=0.12)
    axes.step([p.cost for p in front], [100 * p.accuracy for p in front], where="post", color=COLOURS[0], linewidth=1)
    for points, filled, label in ((front, COLOURS[0], "beaten by none"), (beaten, "none", "beaten")):
        places = [p.cost for p in points], [100 * p.accuracy for p in points]
        axes.plot(*places, "o", color=COLOURS[0], markerfacecolor=filled, label=label)
    if found.trend:
        ends = [min(costs), max(costs)]
        heights = [100 * found.trend.at(end) for end in ends]
        axes.plot(ends, heights, "--", color=COLOURS[1], linewidth=1, label="trend")
    label_points(axes, [p.name for p in found.points], [(p.cost, 100 * p.accuracy) for p in found.points])
    axes.set(xlabel=cost, ylabel="image AUROC, %")
    axes.legend(fontsize="small", frameon=False, loc="best")
    return figure


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG, the same bytes for the same figure."""
    import matplotlib as mpl  # noqa: PLC0415 - belongs to an extra, as in `new`

    drawn = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "andon", "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue()


def png(figure: Figure, dots_per_inch: int = 110) -> bytes:
    """Return a figure as PNG."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return drawn.getvalue()


def new(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    """Return an empty figure and its axes; raise MissingExtraError where matplotlib is absent."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - belongs to an extra
    except ImportError as error:
        raise MissingExtraError("the figures of a report", "train", error) from error
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def label_points(axes: Axes, names: Sequence[str], places: Sequence[tuple[float, float]]) -> None:
    """Write names beside points; where it is crowded, below one another with a line to the point."""
    axes.autoscale_view()
    written: list[tuple[float, float, float]] = []  # left, right and height of each name, in points
    for name, place in sorted(zip(names, places, strict=True), key=lambda one: (-one[1][1], one[1][0])):
        left, height = axes.transData.transform(place) * 72 / axes.figure.dpi
        right, down = left + _LETTER_PT * len(name), 0.0
        while any(left < end and start < right and abs(height - down - at) < _LINE_PT for start, end, at in written):
            down += _LINE_PT
        written.append((left, right, height - down))
        line = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.5"} if down else None
        offset = (6, 3 - down)
        axes.annotate(name, place, xytext=offset, textcoords="offset points", fontsize="x-small", arrowprops=line)
