"""A station that runs and runs: memory, file descriptors and latency must not grow."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.bench import small
from deploy.bench.report import Report, Target
from deploy.bench.rig import Held, Rig

MINUTES = 2.0
_CAMERAS, _PRODUCTS, _PARTS_PER_S, _EVERY_PARTS = 2, 3, 40.0, 200
_SAMPLES = 24
_WARM_SHARE = 0.25  # of the time: allocators fill their pools, the outbox its pages
_GROWTH = 0.05  # of what is held, over the whole time
_LATENCY_GROWTH = 0.25  # of the median, over the whole time


@dataclass(frozen=True)
class Trend:
    """A straight line through values at equal steps: its growth from first to last over their mean, with bounds."""

    growth: float
    lowest: float
    highest: float


def trend(values: list[float]) -> Trend:
    """Fit by least squares; the bounds are two of the slope's standard errors either way, about 95 %."""
    steps = np.arange(len(values), dtype=float)
    slope, start = np.polyfit(steps, values, 1)
    left = np.asarray(values) - (start + slope * steps)
    error = np.sqrt((left**2).sum() / max(1, len(values) - 2) / ((steps - steps.mean()) ** 2).sum())
    scale = steps[-1] / np.mean(values)
    return Trend(float(slope * scale), float((slope - 2 * error) * scale), float((slope + 2 * error) * scale))


def run(minutes: float = MINUTES) -> Report:
    """Watch for `minutes`; the growth counts from a quarter of them on, and only what is sure of it is held against."""
    held: list[dict[str, Held]] = []
    descriptors: list[float] = []
    latency_ms: list[float] = []
    frames, faults = 0, 0
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as name:
        folder = Path(name) / "small"
        station = small.station(folder, _CAMERAS, _PRODUCTS, _PARTS_PER_S, _EVERY_PARTS)
        with Rig(station, small.keys(folder)) as rig:
            for number in range(_SAMPLES):
                seen = rig.watch(minutes * 60 / _SAMPLES)
                frames, faults = frames + seen.frames, faults + seen.faults.total()
                if number >= _WARM_SHARE * _SAMPLES:
                    held.append(rig.held())
                    descriptors.append(float(sum(one.descriptors for one in held[-1].values())))
                    latency_ms.append(float(np.median(seen.trigger_to_verdict_ms)))
    # rings and outbox are files of a fixed size, whose pages count as they are first used
    memory = trend([sum(_own(one) for one in now.values()) for now in held])
    slower = trend(latency_ms)
    figures = {
        "minutes": minutes,
        "frames": float(frames),
        "faults": float(faults),
        "memory_mb": sum(one.pss_mb for one in held[-1].values()),
        "memory_in_files_mb": sum(one.files_mb for one in held[-1].values()),
        **{f"{kind}_growth_mb": _own(held[-1][kind]) - _own(held[0][kind]) for kind in sorted(held[0])},
        "memory_growth": memory.growth,
        "memory_growth_at_least": memory.lowest,
        "descriptors": descriptors[-1],
        "descriptors_growth": descriptors[-1] - descriptors[0],
        "latency_p50_ms": latency_ms[-1],
        "latency_growth": slower.growth,
        "latency_growth_at_least": slower.lowest,
    }
    targets = (
        Target("faults", 0.0, at_least=False),
        Target("memory_growth_at_least", _GROWTH, at_least=False),
        Target("descriptors_growth", 0.0, at_least=False),
        Target("latency_growth_at_least", _LATENCY_GROWTH, at_least=False),
    )
    return Report("soak", figures, targets)


def _own(held: Held) -> float:
    return held.pss_mb - held.files_mb
