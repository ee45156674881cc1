"""How long a what-if takes over 2,000 parts, in process: `python tests/bench/whatif.py`.

Parts as the line leaves them (maps of what did not pass and of one PASS in twenty), and the worst case: a map of every
part, most of them with regions above the threshold that is tried. CPU time of the one thread, medians of 15 tries.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from config.home import Home
from config.messages import Judgement
from config.recipe import Recipe
from decision.rules import Rules
from deploy.judging import Judging, Recalled
from storage.query.recent import RecentPart, RecentView

PARTS, CELLS, FRAME = 2000, 64, (1024, 1024, 3)
DIGEST = "sha256:d"
SQUARE = ((100, 100), (500, 100), (500, 600), (100, 600))


def recipe(reject_above: float, review_above: float, **more: object) -> Recipe:
    said = {"bundle": "b", "review_above": review_above, "reject_above": reject_above, **more}
    return Recipe.model_validate({"product": "p", "job": 1, "views": {"front": said}})


def parts(rng: np.random.Generator, *, every_map: bool) -> list[RecentPart]:
    made = []
    for number in range(PARTS):
        anomaly_map = np.abs(rng.normal(1.0, 0.2, (CELLS, CELLS))).astype(np.float32)
        if number % 8 == 0:
            row, column = rng.integers(4, CELLS - 4, 2)
            anomaly_map[row - 3 : row + 3, column - 2 : column + 2] += rng.uniform(1, 4)
        top = float(anomaly_map.max())
        verdict = Judgement.REJECT if top > 3 else Judgement.REVIEW if top > 2.4 else Judgement.PASS
        kept = every_map or verdict is not Judgement.PASS or number % 20 == 0
        half = anomaly_map.astype(np.float16) if kept else None
        view = RecentView("front", verdict, top, DIGEST, FRAME, half)
        good = None if number % 3 else number % 8 != 0
        now = datetime.now(UTC)
        made.append(RecentPart(f"p{number}", number, now, "p", verdict, (), "sha256:r", (view,), good, None))
    return made


def took(recalled: Recalled, draft: Recipe) -> tuple[float, float]:
    cpu, wall = [], []
    for _ in range(15):
        began = time.thread_time_ns(), time.perf_counter_ns()
        recalled.judge(draft)
        cpu.append((time.thread_time_ns() - began[0]) / 1e6)
        wall.append((time.perf_counter_ns() - began[1]) / 1e6)
    return statistics.median(cpu), statistics.median(wall)


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(7)
    then = recipe(3.0, 2.4)
    Rules.load(then)
    zones = [{"name": "z", "polygon_px": SQUARE, "review_above": 2.0, "reject_above": 2.2}]
    drafts = {
        "threshold moved": recipe(2.8, 2.2),
        "zone added": recipe(3.0, 2.4, zones=zones),
        "exclusion added": recipe(3.0, 2.4, zones=[{"name": "x", "polygon_px": SQUARE, "exclude": True}]),
        "minimum area": recipe(3.0, 2.4, minimum_defect_area_px=2000),
        "threshold among the noise": recipe(3.0, 1.4),
    }
    for every_map in (False, True):
        stored = parts(rng, every_map=every_map)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.thread_time_ns()
        recalled = Judging(Home(Path("/nonexistent"))).recall(stored, lambda _: then)
        ready = (time.thread_time_ns() - began) / 1e6
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        told = "a map of every part" if every_map else "maps as the line keeps them"
        sys.stdout.write(f"{told}: made ready in {ready:.0f} ms CPU, {grown:.0f} MiB\n")
        for name, draft in drafts.items():
            cpu_ms, wall_ms = took(recalled, draft)
            untold = sum(one.verdict is None for one in recalled.judge(draft))
            sys.stdout.write(f"  {name:28} {cpu_ms:7.1f} ms CPU {wall_ms:7.1f} ms wall, {untold} cannot be told\n")


if __name__ == "__main__":
    main()
