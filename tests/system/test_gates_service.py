"""A decision process with gates of its own and no PLC, on the belt of tests/belt_coupler.py, as storage hears of it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from belt_coupler import BIN_FULL, EJECTED_SENSOR, ENCODER, GATE_MM, MM_PER_COUNT, TOP_MM_S, WINDOW_MM
from coupler_peers import free_port

from config import bus, station
from config.home import Home, Run
from config.messages import Event, GateReport, Prediction, Predictions, Recorded, Trigger, Verdict, decode

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
ejected = {{ input = {EJECTED_SENSOR}, after_ms = 40, tolerance_ms = 40 }}
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


class Line:
    """A belt's process and a decision process; the test is camera, worker and storage."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        program = Path(__file__).parents[1] / "belt_coupler.py"
        command = [sys.executable, str(program), str(port), "7"]
        self.belt = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        (folder / "station.toml").write_text(STATION.replace("PORT", str(port)))
        (folder / "bracket.toml").write_text(RECIPE)
        (folder / "bundle").touch()
        self.home = Home(folder / "home")
        self.home.make()
        self.home.write_station(station.read(folder / "station.toml"))
        self.home.write_run(Run(run_id="r1"))
        self._log = (folder / "log").open("wb")
        self._bus = bus.Bus()
        self._records = self._bus.bind(zmq.ROUTER, self.home.endpoint("records"))
        self._camera = self._bus.connect(zmq.DEALER, self.home.endpoint("triggers"), "front")
        self._worker = self._bus.connect(zmq.PUSH, self.home.endpoint("predictions"))
        self.heard: dict[str, Verdict | Event | GateReport] = {}
        assert self.belt.stdout is not None
        assert self.belt.stdout.readline() == "ready\n"
        self.begin()

    def begin(self) -> None:
        command = [sys.executable, "-m", "decision", "--home", str(self.home.path)]
        self.process = subprocess.Popen(command, stderr=self._log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

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
        part_id, now_ns = f"belt-r1-{number:08}", int(trigger_ns)
        trigger = Trigger(
            part_id=part_id,
            sequence=number,
            station="belt",
            camera="front",
            views=("front",),
            recipe="bracket",
            trigger_ns=now_ns,
            trigger_time_ns=time.time_ns(),
            deadline_ns=now_ns + 300_000_000,
        )
        prediction = Prediction(
            frame_id=f"{part_id}/front",
            part_id=part_id,
            camera="front",
            score=score,
            map_shape=(8, 8),
            frame_shape=(80, 80, 3),
            bundle_digest="d",
            worker="worker-0",
            batch_size=1,
            received_ns=now_ns,
            started_ns=now_ns,
            finished_ns=now_ns,
        )
        bus.send(self._camera, trigger)
        bus.send(self._worker, Predictions(each=(prediction,)), [np.full((8, 8), score, np.float32).tobytes()])

    def reports(self) -> dict[int, GateReport]:
        found = [one for one in self.heard.values() if isinstance(one, GateReport)]
        return {int(one.part_id.rsplit("-", 1)[1]): one for one in found}

    def alarms(self) -> list[tuple[str, str]]:
        return [(event.name, event.state) for event in self.heard.values() if isinstance(event, Event)]

    def wait(self, until: Callable[[], bool], within_s: float = 20) -> None:
        end_s = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < end_s, (self.process.poll(), self.heard)
            if self._records.poll(4):
                self._hear()

    def _hear(self) -> None:
        peer, *parts = self._records.recv_multipart()
        if parts == [b""]:
            return
        message: Any = decode(parts)[0]
        self.heard[message.record_id] = message
        bus.send(self._records, Recorded(record_ids=(message.record_id,), journalled_ns=0), to=peer)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        self.belt.kill()
        self.belt.communicate()
        self._bus.close()
        self._log.close()
        shutil.rmtree(self.home.runtime, ignore_errors=True)
        assert code == 0


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


def test_a_full_bin_stops_the_line_and_is_an_alarm_as_long_as_it_is_full(line: Line) -> None:
    line.ask("bin full")
    line.wait(lambda: json.loads(line.ask("report"))["line_stop"])
    line.wait(lambda: ("bin_full", "BEGAN") in line.alarms())
    line.ask("bin empty")
    line.wait(lambda: ("bin_full", "ENDED") in line.alarms())
    line.wait(lambda: not json.loads(line.ask("report"))["line_stop"])
