"""A decision process with gates of its own and no PLC, on the belt of tests/belt_coupler.py, as storage hears of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
from belt_coupler import BIN_FULL, EJECTED_SENSOR, ENCODER, GATE_MM, MM_PER_COUNT, PULSE_NS, TOP_MM_S, WINDOW_MM
from coupler_peers import free_port
from decision_process import DecisionProcess

STATION = f"""
station = "belt"
recipe = "bracket"
recipes = {{ bracket = "bracket.toml" }}
cameras = [{{ name = "front", type = "simulated" }}]

[io]
type = "modbus"
line_stop_output = 1
[io.options]
port = PORT
timeout_ms = 500
counters = [{{ address = {ENCODER}, bits = 16 }}]

[encoder]
mm_per_count = {MM_PER_COUNT}
top_speed_mm_s = {TOP_MM_S}

[[gates]]
name = "reject"
output = 0
distance_mm = {GATE_MM}
window_mm = {WINDOW_MM}
ejected = {{ input = {EJECTED_SENSOR}, pulse_ms = {PULSE_NS / 1e6}, after_ms = 40, tolerance_ms = 40 }}
bin_full_input = {BIN_FULL}
bin_full_stops_line = true
"""
RECIPE = """
product = "bracket"
job = 1
[views.front]
bundle = "bundle"
review_above = 1.0
reject_above = 2.0
"""


class Line(DecisionProcess):
    """That station on a belt's process."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        program = Path(__file__).parents[1] / "belt_coupler.py"
        command = [sys.executable, str(program), str(port), "7"]
        self.belt = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.belt.stdout is not None
        assert self.belt.stdout.readline() == "ready\n"
        super().__init__(folder, STATION.replace("PORT", str(port)), RECIPE)

    def ask(self, line: str) -> str:
        assert self.belt.stdin is not None
        assert self.belt.stdout is not None
        self.belt.stdin.write(line + "\n")
        self.belt.stdin.flush()
        return self.belt.stdout.readline()

    def fates(self) -> dict[int, str]:
        return {int(number): fate for number, fate in json.loads(self.ask("report"))["fates"].items()}

    def travel(self, distance_mm: float) -> None:
        end_mm = float(self.ask("way")) + distance_mm
        self.wait(lambda: float(self.ask("way")) >= end_mm)

    def part(self, number: int, score: float) -> None:
        """Put a part before the camera, and let it be scored."""
        _, trigger_ns, _ = self.ask(f"part {number}").split()
        self.send(number, np.full((8, 8), score, np.float32), trigger_ns=int(trigger_ns), deadline_s=0.3)

    def stop(self) -> None:
        self.belt.kill()
        self.belt.communicate()
        super().stop()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    if find_library("modbus") is None:
        pytest.skip("libmodbus is not installed (Debian: libmodbus5): the gates were NOT tried on a belt")
    made = Line(tmp_path)
    yield made
    made.stop()


def test_through_a_kill_nothing_unjudged_passes_and_every_part_has_its_report(line: Line) -> None:
    scores = {number: 3.0 if number % 3 == 0 else 0.5 for number in range(1, 19)}
    line.part(1, scores[1])  # nobody knows where this one is: the encoder has never been read
    line.wait(lambda: len(line.reports()) == 1)
    line.travel(3 * WINDOW_MM)
    for number in range(2, 19):
        line.part(number, scores[number])
        line.travel(1.5 * WINDOW_MM)
        if number == 8:
            line.kill()
            line.begin()
    line.wait(lambda: len(line.fates()) == 18)
    line.wait(lambda: len(line.reports()) == 18)
    fates, reports = line.fates(), line.reports()
    assert [number for number, fate in fates.items() if fate == "passed" and scores[number] > 1] == []
    assert fates[1] == "ejected"
    assert "passed" in fates.values()
    for number, report in reports.items():
        assert report.outcome in {None, fates[number].upper()}
    assert any(report.outcome == "PASSED" for report in reports.values())
    assert any(report.outcome == "EJECTED" for report in reports.values())
    line.wait(lambda: ("gate_missed", "BEGAN") in line.alarms())
    overkill = {line.part_id(number) for number, fate in fates.items() if fate == "ejected" and scores[number] < 1}
    faults = {verdict.part_id for verdict in line.verdicts() if verdict.verdict == "FAULT"}

    def untold() -> set[str]:
        """Return good parts that were ejected and of which no event says why."""
        told = {event.detail.partition(":")[0].removeprefix("part ") for event in line.events("good_part_held_back")}
        return overkill - faults - told

    line.wait(lambda: not untold())


def test_a_full_bin_stops_the_line_and_is_an_alarm_as_long_as_it_is_full(line: Line) -> None:
    line.ask("bin full")
    line.wait(lambda: json.loads(line.ask("report"))["line_stop"])
    line.wait(lambda: ("bin_full", "BEGAN") in line.alarms())
    line.ask("bin empty")
    line.wait(lambda: ("bin_full", "ENDED") in line.alarms())
    line.wait(lambda: not json.loads(line.ask("report"))["line_stop"])
