from __future__ import annotations

import numpy as np
import pytest

from storage.drift import beyond
from storage.query.charts import Subgroups

HOURS = np.arange(24 * 7)


def measured(levels: np.ndarray, frames: float = 14_400.0, within: float = 2.0) -> Subgroups:
    parts = np.full(len(levels), frames)
    return Subgroups(parts, levels * parts, (levels**2 + within**2) * parts)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, len(HOURS))


def test_light_that_comes_and_goes_with_the_day_is_no_drift() -> None:
    heard = 0
    for seed in range(8):
        levels = 120 + 3 * np.sin(2 * np.pi * HOURS / 24 + seed) + noise(seed)
        heard += sum(beyond(measured(levels[:end])) is not None for end in range(30, len(levels), 6))
    assert heard < 0.02 * 8 * (len(HOURS) - 30) / 6


@pytest.mark.parametrize("change", [np.where(HOURS > 120, -6.0, 0.0), -np.clip(HOURS - 60, 0, None) * 0.08])
def test_a_lamp_that_fails_or_ages_is_heard_of(change: np.ndarray) -> None:
    for seed in range(5):
        levels = 120 + noise(seed)
        assert beyond(measured(levels)) is None
        found = beyond(measured(levels + change))
        assert found is not None
        value, low, _ = found
        assert value < low < 120


def test_nothing_is_said_of_too_little() -> None:
    assert beyond(measured(np.full(5, 120.0))) is None
    assert beyond(measured(np.array([120.0] * 12 + [80.0]))) is None
    assert beyond(measured(np.zeros(0))) is None
