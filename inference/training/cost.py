"""What a bundle's graph costs a worker: time for a frame and memory, measured in a process of its own.

`python -m inference.training.cost CHANNELS HEIGHT_PX WIDTH_PX THREADS < model.onnx` prints a `Cost` in JSON. What the
asking process has loaded (torch, images, other sessions) would be in the figures else.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from config.errors import DeviceError
from inference.bundle import Bundle
from inference.engine import Session

BATCH = 16
_REPEATS, _REPEATS_OF_BATCH = 15, 3
_TIMEOUT_S = 300


class Cost(BaseModel):
    """Milliseconds an image, alone and in a batch of 16, and bytes that the session adds to its process.

    Time is the clock's, or the processor's where that is less: another process had the core in between. The memory is
    that of graph, weights and buffers after frames one by one; the runtime's own libraries don't count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ms_per_image: float
    ms_per_image_of_16: float
    resident_bytes: int


def cost(bundle: Bundle, threads: int) -> Cost:
    """Measure a bundle on frames of the size that it was trained on; raise DeviceError where it does not run."""
    manifest = bundle.manifest
    shape = (manifest.channels, manifest.frame_height_px, manifest.frame_width_px)
    path = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-m", "inference.training.cost", *map(str, (*shape, threads))],
        input=bundle.model,
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": path},
    )
    try:
        return Cost.model_validate_json(done.stdout)
    except ValidationError as error:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no answer"])[-1]
        raise DeviceError(f"{bundle.title}: its cost cannot be measured: {last}") from error


def _measure(model: bytes, channels: int, height_px: int, width_px: int, threads: int) -> Cost:
    frames = np.random.default_rng(0).integers(0, 256, (BATCH, height_px, width_px, channels), np.uint8)
    gc.collect()
    before = _resident_bytes()
    session = Session(model, 1 if channels == 1 else 3, threads)
    session.infer(frames[:1])
    alone_ms = median(_timed_ms(session, frames[index % BATCH][None]) for index in range(_REPEATS))
    gc.collect()
    resident_bytes = max(0, _resident_bytes() - before)
    session.infer(frames)
    together_ms = median(_timed_ms(session, frames) for _ in range(_REPEATS_OF_BATCH)) / BATCH
    return Cost(ms_per_image=alone_ms, ms_per_image_of_16=together_ms, resident_bytes=resident_bytes)


def _timed_ms(session: Session, frames: np.ndarray) -> float:
    clock_ns, processor_ns = time.perf_counter_ns(), time.process_time_ns()
    session.infer(frames)
    return min(time.perf_counter_ns() - clock_ns, time.process_time_ns() - processor_ns) / 1e6


def _resident_bytes() -> int:
    """Return what this process alone has in memory (`VmRSS`, proc(5))."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    import onnxruntime  # noqa: F401 - its libraries are in memory before the first reading

    sys.stdout.write(_measure(sys.stdin.buffer.read(), *map(int, sys.argv[1:5])).model_dump_json())
