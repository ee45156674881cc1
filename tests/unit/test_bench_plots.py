"""The pictures of a bench: what they show is what was measured."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from deploy.bench import plots
from deploy.bench.report import Report, Target

REPORT = Report(
    "gate",
    {"a_p99_ms": 1.0, "b_ratio": 0.5},
    (Target("a_p99_ms", 2.0, at_least=False), Target("b_ratio", 0.95, at_least=True)),
    samples_ms={"idle": [4.0, 1.0, 2.0, 3.0], "loaded": [10.0]},
)


def test_each_target_is_drawn_as_a_share_of_its_bound() -> None:
    (axes,) = plots.targets(REPORT).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.5, 0.5 / 0.95])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a_p99_ms <= 2", "b_ratio >= 0.95"]
    met, missed = (bar.get_facecolor() for bar in axes.patches)
    assert met != missed


def test_times_are_drawn_as_the_share_that_is_as_long() -> None:
    (axes,) = plots.times(REPORT).axes
    idle, loaded = axes.lines
    assert list(zip(idle.get_xdata(), idle.get_ydata(), strict=True)) == [(1, 1), (2, 0.75), (3, 0.5), (4, 0.25)]
    assert list(loaded.get_xdata()) == [10]


def test_only_what_there_is_gets_written(tmp_path: Path) -> None:
    written = plots.write(REPORT, tmp_path / "new")
    assert [path.name for path in written] == ["gate_targets.png", "gate_times.png"]
    assert all(cv2.imread(str(path)).std() > 1 for path in written)
    assert plots.write(Report("soak", {"x": 1.0}), tmp_path) == []
