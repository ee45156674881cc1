"""What a frame costs, and what is held, with more cameras and with more products hot: small pictures, small bundles.

The frames a second stay the same, so that what grows is only what is there. Beside it, what one of the demo's bundles
holds.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config.errors import ServiceError
from config.station import Station
from deploy import stations
from deploy.bench import small
from deploy.bench.report import Report, Target
from deploy.bench.rig import Held, Rig, Seen

CAMERAS = (1, 4, 16)
PRODUCTS = (1, 10, 50)
_FRAMES_PER_S = 64
_EVERY_PARTS = 40  # the line changes over, so that many products are in use
_WATCH_S = 6.0
_FLAT = 1.15
_HOT = 6  # of the demo's bundles


@dataclass(frozen=True)
class _Point:
    seen: Seen
    held: dict[str, Held]


def run() -> Report:
    """Measure with one product and more and more cameras, then with one camera and more and more products."""
    figures: dict[str, float] = {}
    by_cameras = {count: _measure(count, 1, _FRAMES_PER_S / count) for count in CAMERAS}
    by_products = {count: _measure(1, count, _FRAMES_PER_S) for count in PRODUCTS}
    as_slow = _measure(1, 1, _FRAMES_PER_S / CAMERAS[-1])
    for what, points in (("cameras", by_cameras), ("products", by_products)):
        for count, point in points.items():
            figures |= _told(f"{count}_{what}", point)
        least, most = min(points), max(points)
        figures[f"cost_ratio_{most}_{what}"] = _ratio(points[most].seen, points[least].seen)
    # the same parts a second, so that what each process costs while it waits has as few frames to be shared among
    figures[f"cost_ratio_{CAMERAS[-1]}_cameras_same_parts"] = _ratio(by_cameras[CAMERAS[-1]].seen, as_slow.seen)
    more = CAMERAS[-1] - CAMERAS[0]
    figures["memory_per_camera_mb"] = _grown("camera", by_cameras, more)
    figures["memory_per_small_product_mb"] = _grown("worker", by_products, PRODUCTS[-1] - PRODUCTS[0])
    figures["memory_per_demo_product_mb"] = _demo_product_mb()
    targets = [Target(f"cost_ratio_{counts[-1]}_{what}", _FLAT, at_least=False) for what, counts in _AXES]
    return Report("scaling", figures, tuple(targets))


_AXES = (("cameras", CAMERAS), ("products", PRODUCTS))


def _measure(cameras: int, products: int, parts_per_s: float) -> _Point:
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as name:
        folder = Path(name)
        every = _EVERY_PARTS if products > 1 else 0
        station = small.station(folder / "small", cameras, products, parts_per_s, every)
        with Rig(station, small.keys(folder / "small")) as rig:
            seen = rig.watch(_WATCH_S)
            _insist(seen.faults)
            return _Point(seen, rig.held())


def _insist(faults: Counter[str]) -> None:
    if faults:
        raise ServiceError(f"parts were not judged: {dict(faults)}")


def _told(name: str, point: _Point) -> dict[str, float]:
    p50, p99 = np.percentile(point.seen.trigger_to_verdict_ms, (50, 99))
    told = {
        f"{name}_frames": float(point.seen.frames),
        f"{name}_cpu_ms_per_frame": point.seen.cpu_ms_per_frame,
        f"{name}_trigger_to_verdict_p50_ms": float(p50),
        f"{name}_trigger_to_verdict_p99_ms": float(p99),
    }
    return told | {f"{name}_{kind}_pss_mb": held.pss_mb for kind, held in sorted(point.held.items())}


def _ratio(more: Seen, fewer: Seen) -> float:
    return more.cpu_ms_per_frame / fewer.cpu_ms_per_frame


def _grown(kind: str, points: dict[int, _Point], more: int) -> float:
    return (points[max(points)].held[kind].pss_mb - points[min(points)].held[kind].pss_mb) / more


def _demo_product_mb() -> float:
    """Return what a worker holds for each bundle of the demo's size, every bucket of it warm."""
    demo = stations.read(None)
    sizes = {count: _worker_mb(demo, count) for count in (1, _HOT)}
    return (sizes[_HOT] - sizes[1]) / (_HOT - 1)


def _worker_mb(demo: Station, count: int) -> float:
    """Return what a worker holds with `count` bundles, each a file of its own."""
    recipe = demo.read_recipes()[demo.recipe]
    ((camera, view),) = recipe.views.items()
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as name:
        recipes = {}
        for number in range(count):
            bundle, file = Path(name) / f"{number}.andon", Path(name) / f"{number}.json"
            bundle.write_bytes(view.bundle.read_bytes())
            views = {camera: view.model_copy(update={"bundle": bundle})}
            file.write_text(recipe.model_copy(update={"views": views, "job": number + 1}).model_dump_json(), "utf-8")
            recipes[demo.recipe if number == 0 else f"other{number}"] = file
        simulation = demo.simulation.model_copy(update={"products": (demo.recipe,)}) if demo.simulation else None
        workers = demo.workers.model_copy(update={"count": 1})
        with Rig(demo.model_copy(update={"recipes": recipes, "simulation": simulation, "workers": workers})) as rig:
            return rig.held()["worker"].pss_mb
