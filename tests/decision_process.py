"""A decision process alone; the test is its camera, its worker and its storage, each over the socket that they have."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from config import bus, station
from config.home import Home, Run
from config.messages import (
    Enlist,
    Event,
    GateReport,
    Prediction,
    Predictions,
    Recorded,
    Trigger,
    Truth,
    Verdict,
    decode,
)

RUN = "r1"


class DecisionProcess:
    """`python -m decision` at a station with one camera, `front`, and a recipe `bracket`."""

    def __init__(self, folder: Path, station_text: str, recipe_text: str) -> None:
        (folder / "station.toml").write_text(station_text)
        (folder / "bracket.toml").write_text(recipe_text)
        (folder / "bundle").touch()
        self.home = Home(folder / "home")
        self.home.make()
        self.home.write_station(station.read(folder / "station.toml"))
        self.home.write_run(Run(run_id=RUN))
        self.name = self.home.read_station().station
        self._log = (folder / "log").open("wb")
        self._bus = bus.Bus()
        self._records = self._bus.bind(zmq.ROUTER, self.home.endpoint("records"))
        self._camera = self._bus.connect(zmq.DEALER, self.home.endpoint("triggers"), "front")
        self._worker = self._bus.connect(zmq.PUSH, self.home.endpoint("predictions"))
        self.heard: dict[str, Verdict | Event | GateReport] = {}  # by storage
        self.begin()

    def begin(self) -> None:
        command = [sys.executable, "-m", "decision", "--home", str(self.home.path)]
        self.process = subprocess.Popen(command, stderr=self._log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        self._bus.close()
        self._log.close()
        shutil.rmtree(self.home.runtime, ignore_errors=True)
        assert code == 0

    def enlist(self) -> None:
        """Be a camera that has a worker, for the next second."""
        bus.send(self._camera, Enlist(camera="front", workers=1))

    def part_id(self, number: int) -> str:
        return f"{self.name}-{RUN}-{number:08}"

    def send(
        self,
        number: int,
        anomaly_map: npt.NDArray[np.float32],
        *,
        trigger_ns: int | None = None,
        deadline_s: float = 5.0,
        truth: Truth | None = None,
    ) -> str:
        """Have a part triggered and scored; return its id."""
        part_id, now_ns = self.part_id(number), trigger_ns or time.monotonic_ns()
        trigger = Trigger(
            part_id=part_id,
            sequence=number,
            station=self.name,
            camera="front",
            views=("front",),
            recipe="bracket",
            trigger_ns=now_ns,
            trigger_time_ns=time.time_ns(),
            deadline_ns=now_ns + round(deadline_s * 1e9),
            truth=truth,
        )
        rows, columns = anomaly_map.shape
        prediction = Prediction(
            frame_id=f"{part_id}/front",
            part_id=part_id,
            camera="front",
            score=float(anomaly_map.max()),
            map_shape=(rows, columns),
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
        return part_id

    def events(self, name: str = "") -> list[Event]:
        return [one for one in self.heard.values() if isinstance(one, Event) and name in {"", one.name}]

    def alarms(self) -> list[tuple[str, str]]:
        return [(event.name, event.state) for event in self.events() if event.state != "HAPPENED"]

    def verdicts(self) -> list[Verdict]:
        return [one for one in self.heard.values() if isinstance(one, Verdict)]

    def reports(self) -> dict[int, GateReport]:
        found = [one for one in self.heard.values() if isinstance(one, GateReport)]
        return {int(one.part_id.rsplit("-", 1)[1]): one for one in found}

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
        if isinstance(message, Verdict | Event | GateReport):
            self.heard[message.record_id] = message
        record_id = getattr(message, "record_id", "")
        bus.send(self._records, Recorded(record_ids=(record_id,), journalled_ns=0), to=peer)
