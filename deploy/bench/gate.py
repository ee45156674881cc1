"""From trigger to gate through the whole station, beside the time that inference alone takes in the same run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from config.errors import ServiceError
from deploy.bench.report import Report, Target

_PARTS = 200


def run() -> Report:
    """Run the demo station at its own pace (about half load of one core) and read its summary."""
    with tempfile.TemporaryDirectory(prefix="andon-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the servers' account must be able to enter
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "deploy", "up", "--home", str(folder / "home")),
                *("--parts", str(_PARTS), "--json", "--port", "0"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode:
        raise ServiceError(f"the station ended with {ended.returncode}:\n{ended.stderr}")
    summary = json.loads(ended.stdout.splitlines()[-1])
    latency = summary["latency_ms"]
    figures = {
        "trigger_to_verdict_p50_ms": latency["trigger_to_verdict"]["p50"],
        "trigger_to_verdict_p99_ms": latency["trigger_to_verdict"]["p99"],
        "trigger_to_gate_p50_ms": latency["trigger_to_gate"]["p50"],
        "trigger_to_gate_p99_ms": latency["trigger_to_gate"]["p99"],
        "inference_p50_ms": latency["inference"]["p50"],
        "inference_p99_ms": latency["inference"]["p99"],
        "misses_per_million": 1e6 * (summary["late"] + summary["missing"]) / summary["triggers"],
    }
    figures["overhead_p50_ms"] = figures["trigger_to_gate_p50_ms"] - figures["inference_p50_ms"]
    figures["overhead_p99_ms"] = figures["trigger_to_gate_p99_ms"] - figures["inference_p99_ms"]
    return Report("gate", figures, (Target("overhead_p99_ms", 3.0, at_least=False),))
