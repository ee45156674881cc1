"""A station at half load: from trigger to verdict, less what the session alone takes for a picture at the same pace.

The session alone is measured in turns with the station, which is stopped (SIGSTOP) meanwhile.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from config.errors import ServiceError
from config.station import CameraSection, SimulationSection, Station, WorkersSection
from deploy import stations
from deploy.bench.rig import Rig, Seen
from inference.bundle import Bundle
from inference.engine import Engine
from inference.keys import TrustStore

_TURNS = 5
_STATION_S = 4.0  # of a turn
_BARE_S = 2.0
_CATCH_UP_S = 1.5  # after the station was stopped
_LOAD = 0.5
_POINTS = {"p50": 50.0, "p99": 99.0}
_PICTURES = 8

Pixels = npt.NDArray[np.uint8]


def measure() -> tuple[dict[str, float], dict[str, list[float]]]:
    """Run the demo's first product at half of what a worker can judge, and return figures and the times behind them.

    Raise ServiceError if a part is a FAULT.
    """
    demo = stations.read(None)
    ((camera, view),) = demo.read_recipes()[demo.recipe].views.items()
    bundle = Bundle.open(view.bundle, TrustStore.load(extra=stations.DEMO_KEYS))
    engine = Engine(bundle)
    picture = bundle.golden_frames[0][None]
    for _ in range(_PICTURES):
        engine.run(picture)
    period_s = float(np.median(_run_paced(engine, picture, 1.0, 0.0))) / 1e3 / _LOAD
    bare_ms, seen = [], Seen()
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as name:
        station = _station(demo, camera, Path(name), bundle.golden_frames[0], 1 / period_s)
        with Rig(station) as rig:
            for _ in range(_TURNS):  # the machine is faster and slower from minute to minute
                with rig.stopped():
                    bare_ms += _run_paced(engine, picture, _BARE_S, period_s)
                rig.watch(_CATCH_UP_S)
                seen.extend(rig.watch(_STATION_S))
    if seen.faults:
        raise ServiceError(f"parts were not judged at half load: {dict(seen.faults)}")
    times_ms = {"trigger to verdict": seen.trigger_to_verdict_ms, "bare session": bare_ms}
    return _told(seen, bare_ms, period_s), times_ms


def _told(seen: Seen, bare_ms: list[float], period_s: float) -> dict[str, float]:
    told = {"half_load_parts_per_s": 1 / period_s, "half_load_parts": float(len(seen.trigger_to_verdict_ms))}
    told["half_load_bare_runs"] = float(len(bare_ms))
    beside_ms = [whole - own for whole, own in zip(seen.trigger_to_verdict_ms, seen.inference_ms, strict=True)]
    for point, share in _POINTS.items():
        whole, bare = np.percentile(seen.trigger_to_verdict_ms, share), np.percentile(bare_ms, share)
        told[f"trigger_to_verdict_{point}_ms"] = float(whole)
        told[f"bare_inference_{point}_ms"] = float(bare)
        told[f"station_inference_{point}_ms"] = float(np.percentile(seen.inference_ms, share))
        told[f"trigger_to_worker_{point}_ms"] = float(np.percentile(seen.trigger_to_worker_ms, share))
        told[f"inferred_to_verdict_{point}_ms"] = float(np.percentile(seen.inferred_to_verdict_ms, share))
        told[f"beside_inference_{point}_ms"] = float(np.percentile(beside_ms, share))  # part by part
        told[f"overhead_{point}_ms"] = float(whole - bare)
    return told


def _run_paced(engine: Engine, picture: Pixels, seconds: float, period_s: float) -> list[float]:
    """Return how long each run of the session took, in ms; one is begun every `period_s`."""
    took_ms = []
    begin = time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        engine.run(picture)
        took_ms.append((time.perf_counter() - now) * 1e3)
        time.sleep(max(0.0, now + period_s - time.perf_counter()))
    return took_ms


def _station(demo: Station, camera: str, folder: Path, golden: Pixels, rate_per_s: float) -> Station:
    """Return the demo with one product, one worker, and pictures that cost next to nothing to play."""
    noise = np.random.default_rng(0)
    for number in range(_PICTURES):
        pixels = np.clip(golden + noise.normal(0, 2, golden.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.bmp"), pixels)
    options: dict[str, object] = {"path": str(folder), "channels": golden.shape[2]}
    return demo.model_copy(
        update={
            "recipes": {demo.recipe: demo.recipes[demo.recipe]},
            "cameras": (CameraSection(name=camera, type="folder", options=options),),
            "workers": WorkersSection(),
            "simulation": SimulationSection(
                rate_per_s=round(rate_per_s, 2), products=(demo.recipe,), gate_travel_s=1.0
            ),
        }
    )
