"""From trigger to gate: the decision process alone under each condition, then the whole station as it stands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from config.errors import ServiceError
from config.home import Home
from config.station import DecisionSection
from deploy import stations
from deploy.bench.observer import libmodbus
from deploy.bench.punctual import CONDITIONS, DECISION_PRIORITY, Condition, Measured, fifo_allowed, measure
from deploy.bench.report import Report, Target

_PARTS = 4000  # under each condition
_STATION_PARTS = 200
_POINTS = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


def run() -> Report:
    """Measure all conditions that this machine allows, then the demo station at its own pace (about half load)."""
    figures: dict[str, float] = {}
    samples: dict[str, list[float]] = {}
    notes = []
    conditions = [condition for condition in CONDITIONS if fifo_allowed() or not condition.fifo]
    if len(conditions) < len(CONDITIONS):
        notes.append("SCHED_FIFO is not allowed here (CAP_SYS_NICE, or ulimit -r 70): measured without")
    for condition in conditions:
        measured = measure(condition, _PARTS, libmodbus())
        figures |= _figures(condition.suffix, measured)
        samples |= {f"{name}{condition.suffix}": values for name, values in measured.intervals_ms.items()}
        notes.append(f"PLC side{condition.suffix.replace('_', ' ')}: {measured.observer}")
    for condition in conditions:
        if not condition.loaded:  # it loads the machine itself
            figures |= _station(condition)
    targets = [
        Target("verdict_to_plc_p99_ms", 2.0, at_least=False),
        Target("verdict_to_plc_p99_loaded_fifo_ms", 3.0, at_least=False),
        Target("overhead_p99_ms", 3.0, at_least=False),
    ]
    return Report("gate", figures, tuple(one for one in targets if one.figure in figures), tuple(notes), samples)


def _figures(suffix: str, measured: Measured) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, values_ms in measured.intervals_ms.items():
        points = np.percentile(values_ms, list(_POINTS.values()))
        figures |= {f"{name}_{at}{suffix}_ms": float(value) for at, value in zip(_POINTS, points, strict=True)}
    figures[f"verdict_misses_per_million{suffix}"] = 1e6 * measured.misses / measured.parts
    figures[f"garbage_longest{suffix}_ms"] = measured.garbage_us / 1000
    figures[f"garbage_in_path{suffix}"] = measured.garbage_in_path
    figures[f"page_faults_per_part{suffix}"] = measured.faults_per_part
    return figures


def _station(condition: Condition) -> dict[str, float]:
    """Run the demo station; the whole of it, so beside inference, servers and a PLC simulator in Python."""
    demo = stations.read(None)
    priority = DECISION_PRIORITY if condition.fifo else 0
    demo = demo.model_copy(update={"decision": DecisionSection(realtime_priority=priority)})
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the servers' account must be able to enter
        file = folder / "station.json"
        file.write_text(demo.model_dump_json(exclude_none=True), encoding="utf-8")
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "deploy", "up", "--home", str(folder / "home"), "--station", str(file)),
                *("--parts", str(_STATION_PARTS), "--json", "--port", "0"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        shutil.rmtree(Home(folder / "home").runtime, ignore_errors=True)
    if ended.returncode:
        raise ServiceError(f"the station ended with {ended.returncode}:\n{ended.stderr}")
    summary = json.loads(ended.stdout.splitlines()[-1])
    latency = summary["latency_ms"]
    gate, inference = latency["trigger_to_gate"], latency["inference"]
    figures = {}
    for at in ("p50", "p99"):
        figures[f"station_trigger_to_verdict_{at}"] = latency["trigger_to_verdict"][at]
        figures[f"trigger_to_gate_{at}"] = gate[at]
        figures[f"inference_{at}"] = inference[at]
        figures[f"overhead_{at}"] = gate[at] - inference[at]
    misses = 1e6 * (summary["late"] + summary["missing"]) / summary["triggers"]
    return {
        **{f"{name}{condition.suffix}_ms": value for name, value in figures.items()},
        f"misses_per_million{condition.suffix}": misses,
    }
