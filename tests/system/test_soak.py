"""A station that runs holds no more from minute to minute; here for seconds, `make soak` for minutes or hours."""

from __future__ import annotations

import pytest

from deploy.bench import soak


def test_growth_is_told_with_its_bounds() -> None:
    flat = soak.trend([10.0, 10.2, 9.9, 10.1, 9.8, 10.0])
    assert flat.lowest < 0 < flat.highest
    leak = soak.trend([10.0, 10.1, 10.3, 10.4, 10.6, 10.7])
    assert leak.growth == pytest.approx(0.07, abs=0.01)
    assert leak.lowest > 0.05


def test_nothing_grows_while_the_line_runs() -> None:
    report = soak.run(minutes=0.3)
    assert report.reached, report.as_text()
    assert report.figures["frames"] > 1000, report.as_text()
