"""The engines that are installed, at each thread count and bucket, beside a bare `session.run` in the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from config.errors import MissingExtraError, ServiceError
from deploy import stations
from deploy.bench.report import Report, Target, machine
from inference.bundle import Bundle
from inference.engine import Engine
from inference.engines.onnxruntime import onnx_runtime
from inference.images import Frame
from inference.keys import TrustStore

Run = Callable[[Frame], object]

_DEVICES = ("cpu", "openvino:cpu")
_BUCKETS = (1, 2, 4, 8, 16)
_RUNS_S = 40.0  # of all settings together
_RESIDENT_BUCKETS = (1, 2, 4)
_RESIDENT_BUNDLES = 4


class _Setting(NamedTuple):
    device: str
    threads: int
    bucket: int

    @property
    def name(self) -> str:
        """Return the first words of a figure's name."""
        return f"{self.device.replace(':', '_')}_threads_{self.threads}_bucket_{self.bucket}"

    def __str__(self) -> str:
        return f"device {self.device!r}, {self.threads} thread(s), bucket {self.bucket}"


class _Table(Report):
    def as_text(self) -> str:
        """Return a line for each setting."""
        told = [figure.removesuffix("_p50_ms") for figure in self.figures if figure.endswith("_p50_ms")]
        names = ("p50_ms", "p99_ms", "to_bare", "runs")
        lines = [f"{self.bench}  ({machine()})", f"  {'':36}" + "".join(f"{name:>10}" for name in names)]
        for setting in told:
            values = (self.figures[f"{setting}_{name}"] for name in names)
            lines.append(f"  {setting:36}" + "".join(f"{value:10.4g}" for value in values))
        lines += [f"  {name:36}{value:10.4g}" for name, value in self.figures.items() if name.endswith("_mb")]
        for target in self.targets:
            verdict = "met" if target.met(self.figures) else "MISSED"
            lines.append(f"  target {target.figure} <= {target.bound:g}: {verdict}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def run() -> Report:
    """Measure a bundle of the demo: milliseconds a frame, ratio to the bare session, megabytes a bundle."""
    bundle = _bundle()
    frames = np.stack([np.roll(bundle.golden_frames[0], 7 * place, axis=1) for place in range(_BUCKETS[-1])])
    figures: dict[str, float] = {}
    medians_ms: dict[_Setting, float] = {}
    threads, devices = _thread_counts(), _installed(bundle)
    for count in threads:
        runs = {"bare": _bare(bundle, count)} | {device: Engine(bundle, count, device).run for device in devices}
        for bucket in _BUCKETS:
            taken_ms = _in_turns(runs, frames[:bucket], _RUNS_S / len(threads) / len(_BUCKETS))
            for device in devices:
                setting = _Setting(device, count, bucket)
                each_ms = taken_ms[device] / bucket
                medians_ms[setting] = float(np.median(each_ms))
                figures[f"{setting.name}_p50_ms"] = medians_ms[setting]
                figures[f"{setting.name}_p99_ms"] = float(np.percentile(each_ms, 99))
                figures[f"{setting.name}_to_bare"] = float(np.median(taken_ms[device] / taken_ms["bare"]))
                figures[f"{setting.name}_runs"] = len(each_ms)
    figures |= {f"{device.replace(':', '_')}_resident_mb": _resident_mb(device) for device in devices}
    best = min(medians_ms, key=lambda setting: medians_ms[setting])
    alone = min((setting for setting in medians_ms if setting.bucket == 1), key=lambda setting: medians_ms[setting])
    return _Table(
        "inference",
        figures,
        (Target("cpu_threads_1_bucket_1_to_bare", 1.05, at_least=False),),
        (
            f"{bundle.title}, frames of {'x'.join(map(str, frames.shape[1:]))}, milliseconds a frame",
            "to_bare: time over that of ONNX Runtime's session.run on the CPU with as many threads, in turns",
            "p99: of fewer than 100 runs it is nearly the longest",
            f"most frames a second: {best}: {medians_ms[best]:.2f} ms a frame",
            f"soonest verdict: {alone}: {medians_ms[alone]:.2f} ms",
            f"resident_mb: what each of {_RESIDENT_BUNDLES} more bundles adds, buckets {_RESIDENT_BUCKETS} warm",
        ),
    )


def _bundle() -> Bundle:
    station = stations.read(None)
    view = next(iter(station.read_recipes()[station.recipe].views.values()))
    return Bundle.open(view.bundle, TrustStore.load(extra=stations.DEMO_KEYS))


def _thread_counts() -> list[int]:
    """Return 1, 2, 4 … and as many as there are cores."""
    cores = len(os.sched_getaffinity(0))
    return sorted({1 << power for power in range(cores.bit_length()) if 1 << power <= cores} | {cores})


def _installed(bundle: Bundle) -> list[str]:
    devices = []
    for device in _DEVICES:
        try:
            Engine(bundle, device=device)
        except MissingExtraError:
            continue
        devices.append(device)
    return devices


def _bare(bundle: Bundle, threads: int) -> Run:
    runtime = onnx_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
    return lambda frames: session.run(None, {"frames": frames})


def _in_turns(runs: Mapping[str, Run], frames: Frame, budget_s: float) -> dict[str, NDArray[np.float64]]:
    """Return each one's milliseconds, run by run, one of each in turn until the time is spent."""
    for run in runs.values():
        run(frames)
    taken_ms: dict[str, list[float]] = {name: [] for name in runs}
    ends_s = time.perf_counter() + budget_s
    while time.perf_counter() < ends_s:
        for name, run in runs.items():
            started_s = time.perf_counter()
            run(frames)
            taken_ms[name].append((time.perf_counter() - started_s) * 1e3)
    return {name: np.array(values, np.float64) for name, values in taken_ms.items()}


def _resident_mb(device: str) -> float:
    """Return what one more bundle adds to a process, in megabytes (PSS), once its buckets are warm."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bench.inference", device],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"the process whose memory was to be measured failed: {done.stderr[-300:]}")
    return float(done.stdout)


def _add_bundles(device: str) -> float:
    bundle = _bundle()
    first = Engine(bundle, device=device)
    first.warm(_RESIDENT_BUCKETS)
    before_mb = _pss_mb()
    engines = [Engine(bundle, device=device) for _ in range(_RESIDENT_BUNDLES)]
    for engine in engines:
        engine.warm(_RESIDENT_BUCKETS)
    return (_pss_mb() - before_mb) / len(engines)


def _pss_mb() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3


if __name__ == "__main__":
    sys.stdout.write(f"{_add_bundles(sys.argv[1])}\n")
