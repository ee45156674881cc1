"""A PLC that leads, over real Modbus TCP: decision, camera and worker are real processes, and get killed."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from leading_plc import ACK, BUSY, COMPLETED, ERROR, EXPOSURE_COMPLETE, READY, VALID, LeadingPlc

from config import station
from config.home import Home, Run

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
STATION = """
station = "led"
recipe = "bracket"
recipes = {{ bracket = "bracket.toml", cap = "cap.toml" }}
cameras = [{{ name = "front", type = "simulated" }}]
simulation = {{ products = ["bracket"] }}

[plc]
type = "modbus"
trigger = "plc"
options.port = {port}
"""
BRACKET, CAP = 1, 2  # jobs


class Led:
    """A station that the PLC leads, without storage: nothing of that stands between trigger and result."""

    def __init__(self, folder: Path, port: int) -> None:
        for file in DEMO.iterdir():
            if file.suffix in {".toml", ".andon"}:
                shutil.copy(file, folder / file.name)
        for file in folder.glob("*.toml"):  # in time, however busy this machine is
            file.write_text(file.read_text().replace("deadline_ms = 800", "deadline_ms = 2500"))
        path = folder / "station.toml"
        path.write_text(STATION.format(port=port))
        self.home = Home(folder / "home")
        self.home.make()
        self.home.write_station(station.read(path))
        run = Run(run_id="r1")
        self.home.write_run(run)
        self.home.write_start(run, time.monotonic_ns())
        self._log = (folder / "log").open("wb")
        self.processes = {name: self._begin(name) for name in ("inference", "ingest", "decision")}

    def _begin(self, room: str) -> subprocess.Popen[bytes]:
        extra = {"inference": ["--trust", str(DEMO / "demo.pub")], "ingest": ["--camera", "front"], "decision": []}
        command = [sys.executable, "-m", room, "--home", str(self.home.path), *extra[room]]
        return subprocess.Popen(command, stderr=self._log)

    def kill(self, room: str) -> None:
        self.processes[room].kill()
        self.processes[room].wait()
        self.processes[room] = self._begin(room)

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(10) for process in self.processes.values()]
        self._log.close()
        shutil.rmtree(self.home.runtime, ignore_errors=True)
        assert codes == [0, 0, 0]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LeadingPlc, Led]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    plc = LeadingPlc(port, BRACKET)
    plc.start()
    led = Led(tmp_path_factory.mktemp("led"), port)
    try:
        plc.wait(lambda: plc.on(READY), 30)
        yield plc, led
    finally:
        led.stop()
        plc.stop()


def assert_each_once(plc: LeadingPlc) -> None:
    """Every trigger that was acknowledged has one result, no other has any."""
    program = plc.program
    counted = Counter(result.part for result in program.results)
    assert set(counted.values()) <= {1}, counted
    assert set(counted) == set(program.acked)
    assert set(program.acked).isdisjoint(program.refused)
    assert program.torn == []


def test_every_part_is_taken_exposed_judged_and_handed_over_by_its_own_number(line) -> None:
    plc, _ = line
    plc.wants = 40
    plc.wait(plc.all_handed_over, 30)
    assert_each_once(plc)
    assert sorted(plc.program.acked) == list(range(1, 41))
    verdicts = Counter(result.verdict for result in plc.program.results)
    assert verdicts[4] == 0, "no FAULT"
    assert verdicts[1] > 20
    assert verdicts[2] > 0
    assert all((result.command == 1) == (result.verdict == 1) for result in plc.program.results)
    assert plc.program.refused == {}
    plc.wait(lambda: plc.on(READY) and not plc.on(BUSY | VALID | ACK | ERROR))
    assert plc.on(EXPOSURE_COMPLETE)
    assert not plc.on(COMPLETED), "it has toggled 40 times"
    waits_ms = sorted(1000 * wait_s for wait_s in plc.program.acked.values())
    print(f"trigger to ack, seen by the PLC: p50 {waits_ms[20]:.1f} ms, max {waits_ms[-1]:.1f} ms")  # noqa: T201 - asked for with -s
    assert waits_ms[20] < 50
    assert sorted(plc.program.exposed_s) == list(range(1, 41))


def test_a_job_that_is_not_known_is_refused_and_the_next_one_is_echoed(line) -> None:
    plc, _ = line
    plc.job = 77
    plc.wait(lambda: plc.words[3] == 77)
    assert plc.words[2] == 0
    assert not plc.on(READY)
    plc.job = CAP
    plc.wait(lambda: plc.words[2] == CAP and plc.words[3] == 0)
    plc.wait(lambda: plc.on(READY) and not plc.on(ERROR))
    plc.job = BRACKET
    plc.wait(lambda: plc.words[2] == BRACKET and plc.on(READY))


def test_killed_in_mid_run_the_decision_stage_goes_on_where_it_was(line) -> None:
    plc, led = line
    unheard = 0
    for _ in range(2):
        before = len(plc.program.acked)
        plc.wants = 25
        plc.wait(lambda before=before: len(plc.program.acked) >= before + 8)
        led.kill("decision")
        time.sleep(0.02)  # some cycles of the PLC: what it sees now is the dead process's last word
        heartbeat = plc.words[0]
        unheard += 1 + int(plc.wait(lambda heartbeat=heartbeat: plc.words[0] != heartbeat) / plc.patience_s)
        plc.wait(plc.all_handed_over, 20)
    assert_each_once(plc)
    assert len(plc.program.refused) <= unheard, "the triggers that rose while nobody looked"


def test_a_killed_camera_gives_a_fault_for_what_it_had_and_for_nothing_else(line) -> None:
    plc, led = line
    before = len(plc.program.results)
    plc.wants = 40
    plc.wait(lambda: len(plc.program.results) >= before + 5)
    led.kill("ingest")
    had = set(plc.program.acked) - {result.part for result in plc.program.results}
    plc.wait(plc.all_handed_over, 20)
    assert_each_once(plc)
    faults = {result.part for result in plc.program.results[before:] if result.verdict == 4}
    assert len(faults - had) <= 3, "those whose trigger nobody answered before the camera was known to be away"
    assert plc.program.number not in faults


def test_a_plc_whose_program_stands_still_for_a_while_misses_nothing(line) -> None:
    plc, _ = line
    plc.wants = 30
    acked = len(plc.program.acked)
    plc.wait(lambda: len(plc.program.acked) >= acked + 5)
    plc.frozen = True
    time.sleep(0.8)  # the station takes its connection down after half a second, and makes it again
    plc.frozen = False
    plc.wait(plc.all_handed_over, 20)
    assert_each_once(plc)
    assert len(plc.program.acked) >= acked + 28


def test_a_plc_that_starts_cold_in_mid_run_learns_where_the_station_is(line) -> None:
    plc, led = line
    plc.wants = 30
    acked = len(plc.program.acked)
    plc.wait(lambda: len(plc.program.acked) >= acked + 5)
    plc.start_cold()
    plc.wait(plc.all_handed_over, 20)
    former, program = plc.former[-1], plc.program
    assert program.acked
    assert min(program.acked) > max(former.acked), "no number is used twice in a run"
    counted = Counter(result.part for result in program.results)
    assert set(counted.values()) == {1}
    # what was on its way when the PLC went off is told to the new program; nothing is lost
    told = {result.part for result in former.results} | set(counted)
    assert told >= set(former.acked) | set(program.acked)
    assert led.processes["decision"].poll() is None
