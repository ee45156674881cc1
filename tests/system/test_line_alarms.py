"""Too many rejects, seen from outside of a real decision process: at the PLC by Modbus TCP, and as storage hears it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from leading_plc import LeadingPlc

from config import bus, events, station
from config.home import Home, Run
from config.messages import Event, Judgement, Prediction, Predictions, Reason, Recorded, Trigger, Truth, Verdict, decode

LINE_STOP = 4  # its register, as the manual has it
STATION = """
station = "alarmed"
recipe = "bracket"
recipes = {{ bracket = "bracket.toml" }}
cameras = [{{ name = "front", type = "simulated" }}]
plc = {{ type = "modbus", options = {{ port = {port} }} }}
"""
RECIPE = """
product = "bracket"
job = 1
version = 12
review_gate = "PASS"
alarms = { consecutive_rejects = 3, stop_line = true }

[views.front]
bundle = "bundle"
review_above = 1.0
reject_above = 2.0
reject_from_defects = 2

[[views.front.zones]]
name = "rim"
polygon_px = [[0, 0], [39, 0], [39, 79], [0, 79]]
reject_above = 1.5
"""
GOOD, GRAY, IN_RIM, MANY, BAD = {}, {(0, 6): 1.7}, {(0, 0): 1.7}, {(0, 4): 1.5, (4, 6): 1.5}, {(4, 4): 3.0}


class Line:
    """A decision process; the test is its camera, worker and storage, each over the socket that they have."""

    def __init__(self, folder: Path, port: int) -> None:
        (folder / "station.toml").write_text(STATION.format(port=port))
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
        self.heard: dict[str, Verdict | Event] = {}
        self.parts = 0
        self.begin()

    def begin(self) -> None:
        command = [sys.executable, "-m", "decision", "--home", str(self.home.path)]
        self.process = subprocess.Popen(command, stderr=self._log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def part(self, cells: dict[tuple[int, int], float], *, challenge: bool = False) -> Verdict:
        """Send a part with these values in its map, and return its verdict as storage gets it."""
        self.parts += 1
        part_id, now_ns = f"alarmed-r1-{self.parts:08}", time.monotonic_ns()
        trigger = Trigger(
            part_id=part_id,
            sequence=self.parts,
            station="alarmed",
            camera="front",
            views=("front",),
            recipe="bracket",
            trigger_ns=now_ns,
            trigger_time_ns=time.time_ns(),
            deadline_ns=now_ns + 5_000_000_000,
            truth=Truth(good=False, challenge=True) if challenge else None,
        )
        anomaly_map = np.zeros((8, 8), np.float32)
        for place, value in cells.items():
            anomaly_map[place] = value
        prediction = Prediction(
            frame_id=f"{part_id}/front",
            part_id=part_id,
            camera="front",
            score=float(anomaly_map.max()),
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
        bus.send(self._worker, Predictions(each=(prediction,)), [anomaly_map.tobytes()])
        self.wait(lambda: f"verdict:{part_id}" in self.heard)
        found = self.heard[f"verdict:{part_id}"]
        assert isinstance(found, Verdict)
        return found

    def alarms(self) -> list[tuple[str, str]]:
        return [(event.name, event.state) for event in self.heard.values() if isinstance(event, Event)]

    def wait(self, until: Callable[[], bool], within_s: float = 10) -> None:
        end_s = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < end_s, (self.process.poll(), self.heard)
            if self._records.poll(20):
                peer, *parts = self._records.recv_multipart()
                if parts == [b""]:
                    continue
                message, _ = decode(parts)
                if isinstance(message, Verdict | Event):
                    self.heard[message.record_id] = message
                record_id = getattr(message, "record_id", "")
                bus.send(self._records, Recorded(record_ids=(record_id,), journalled_ns=0), to=peer)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        self._bus.close()
        self._log.close()
        shutil.rmtree(self.home.runtime, ignore_errors=True)
        assert code == 0


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Line, LeadingPlc]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    plc = LeadingPlc(port, 1)
    plc.start()
    line = Line(tmp_path, port)
    try:
        yield line, plc
    finally:
        line.stop()
        plc.stop()


def test_rejects_in_a_row_stop_the_line_through_a_kill_until_a_part_is_passed(made: tuple[Line, LeadingPlc]) -> None:
    line, plc = made
    rules = [line.part(cells) for cells in (GOOD, GRAY, IN_RIM, MANY)]
    assert [one.verdict for one in rules] == [Judgement.PASS, Judgement.REVIEW, Judgement.REJECT, Judgement.REJECT]
    assert rules[2].reasons == (Reason.ABOVE_THRESHOLD, Reason.IN_ZONE)
    assert rules[3].reasons == (Reason.TOO_MANY_DEFECTS, Reason.GRAY_ZONE)
    assert {one.recipe_version for one in rules} == {12}
    assert len({one.recipe_digest for one in rules}) == 1
    line.part(BAD, challenge=True)
    assert plc.words[LINE_STOP] == 0, "two rejects; a challenge part does not count"
    line.part(BAD)
    line.wait(lambda: plc.words[LINE_STOP] == 1)
    line.wait(lambda: line.alarms() == [("consecutive_rejects", "BEGAN")])

    line.kill()
    plc.start_cold()
    line.begin()
    line.wait(lambda: plc.words[LINE_STOP] == 1)  # it is known from the outbox, no part had to come
    line.wait(lambda: line.alarms() == [("consecutive_rejects", "BEGAN")] * 2)

    line.part(GRAY)  # passed at the gate, as the recipe wants it
    line.wait(lambda: plc.words[LINE_STOP] == 0)
    line.wait(lambda: len(line.alarms()) == 3)
    *_, began, ended = (event for event in line.heard.values() if isinstance(event, Event))
    assert (ended.state, ended.event_id) == ("ENDED", events.end_of(began.event_id))
    assert (began.service, began.severity) == ("decision", "ALARM")
    assert began.detail == "3 parts in a row were rejected; recipe bracket"
