"""What a bench measured, as pictures: each target beside its bound, and how often a time was exceeded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from deploy.bench.report import Report, machine
from inference.training import figures

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

_WIDTH_IN, _BAR_IN, _CURVES_IN = 8.0, 0.3, 4.2


def write(report: Report, folder: Path) -> list[Path]:
    """Write the pictures of a report into a folder as PNG, and return them; raise MissingExtraError as figures do."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in _figures(report):
        path = folder / f"{name}.png"
        path.write_bytes(figures.png(figure))
        written.append(path)
    return written


def _figures(report: Report) -> Iterator[tuple[str, Figure]]:
    if report.targets:
        yield f"{report.bench}_targets", targets(report)
    if report.samples_ms:
        yield f"{report.bench}_times", times(report)


def targets(report: Report) -> Figure:
    """Draw each figure that has a target as a multiple of its bound."""
    figure, axes = figures.new(_WIDTH_IN, 1.2 + _BAR_IN * len(report.targets))
    shares = [report.figures[target.figure] / target.bound for target in report.targets]
    colours = [figures.COLOURS[2 if target.met(report.figures) else 1] for target in report.targets]
    signs = [">=" if target.at_least else "<=" for target in report.targets]
    names = [f"{one.figure} {sign} {one.bound:g}" for one, sign in zip(report.targets, signs, strict=True)]
    bars = axes.barh(names, shares, color=colours)
    axes.bar_label(bars, [f" {report.figures[target.figure]:.3g}" for target in report.targets], fontsize="small")
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel="measured, as a multiple of the bound (green: met)")
    axes.set_title(f"{report.bench}: {machine()}", fontsize="small")
    return figure


def times(report: Report) -> Figure:
    """Draw which share of the measured times is longer than so many milliseconds: the tail is what matters."""
    figure, axes = figures.new(_WIDTH_IN, _CURVES_IN)
    for index, (name, values_ms) in enumerate(report.samples_ms.items()):
        ordered = np.sort(values_ms)
        longer = 1 - np.arange(len(ordered)) / len(ordered)
        colour, style = figures.COLOURS[index % len(figures.COLOURS)], "-" if index < len(figures.COLOURS) else ":"
        axes.step(ordered, longer, where="pre", color=colour, linestyle=style, label=f"{name} (n={len(ordered)})")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True, which="major", linewidth=0.3)
    axes.set(xlabel="ms", ylabel="share of times at least as long")
    axes.set_title(f"{report.bench}: {machine()}", fontsize="small")
    axes.legend(fontsize="x-small", frameon=False)
    return figure
