"""The storage process as its peers see it, for system tests: started, fed by couriers, killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy
import zmq
from live_picture import LivePictureReader
from live_servers import Servers, state_folder
from redis import Redis
from sqlalchemy import func, select
from sqlalchemy.pool import NullPool

from config import bus
from config.courier import Courier
from config.home import Home, Run
from config.messages import (
    AnyMessage,
    Event,
    Evidence,
    GateCommand,
    GateReport,
    Health,
    Judgement,
    Reason,
    Recorded,
    Region,
    Truth,
    Verdict,
    View,
    encode,
)
from config.station import CameraSection, PlcSection, Station, StorageSection
from storage import intake
from storage.incoming import Incoming
from storage.query.service import QueryService
from storage.rows import rows
from storage.schema import metadata

RUN = "r1"
JPEG = b"\xff\xd8" + bytes(range(256)) * 40 + b"\xff\xd9"
MS = 1_000_000
RecordMessage = Verdict | GateReport | Evidence | Event


def verdict(number: int, judgement: Judgement = Judgement.PASS, **changes: object) -> tuple[Verdict, list[bytes]]:
    """Return a verdict on one view with a map, and a region if it is a REJECT."""
    now_ns = time.monotonic_ns()
    score = 3.0 if judgement is Judgement.REJECT else 1.0
    region = Region(x_px=1, y_px=2, width_px=3, height_px=4, area_px=11, score=3.0)
    reasons = (Reason.ABOVE_THRESHOLD,) if judgement is Judgement.REJECT else ()
    view = View(
        camera="top",
        verdict=judgement,
        reasons=reasons,
        score=score,
        review_above=2.0,
        reject_above=2.5,
        bundle_digest="0" * 64,
        frame_shape=(64, 64, 3),
        map_shape=(8, 8),
        regions=(region,) if judgement is Judgement.REJECT else (),
        worker="w0",
        batch_size=1,
        received_ns=now_ns,
        started_ns=now_ns + MS,
        finished_ns=now_ns + 4 * MS,
    )
    fields: dict[str, Any] = {
        "part_id": f"st-{RUN}-{number:08}",
        "sequence": number,
        "station": "st",
        "line": "1",
        "recipe": "demo",
        "recipe_version": 1,
        "recipe_digest": "sha256:r",
        "product": "bracket",
        "verdict": judgement,
        "reasons": reasons,
        "views": (view,),
        "gate": GateCommand.PASS if judgement is Judgement.PASS else GateCommand.REJECT,
        "trigger_ns": now_ns - 10 * MS,
        "trigger_time_ns": time.time_ns(),
        "deadline_ns": now_ns + 90 * MS,
        "judged_ns": now_ns,
        "truth": Truth(good=True),
    }
    return Verdict(**(fields | changes)), [np.full((8, 8), number % 2000, np.float16).tobytes()]


def store(url: str, *records: tuple[RecordMessage, list[bytes]]) -> None:
    """Put records into a database as the writer does."""
    incoming = Incoming()
    for message, payload in records:
        incoming.add(rows([bytes(part) for part in encode(message, payload)], 0))
    with sqlalchemy.create_engine(url, poolclass=NullPool).begin() as connection:
        intake.take(connection, incoming)


class Sender:
    """A peer of storage: one DEALER with its courier."""

    def __init__(self, home: Home, name: str) -> None:
        self.bus = bus.Bus()
        self.socket = self.bus.connect(zmq.DEALER, home.endpoint("records"), name)
        self.courier = Courier(self.socket)
        self._receiver = bus.Receiver(self.socket, self._handle, Counter())
        self.sent_ns: dict[str, int] = {}
        self.delays_ms: list[float] = []

    def send(self, message: RecordMessage, payload: list[bytes]) -> None:
        """Give a record to the courier."""
        now_ns = time.monotonic_ns()
        self.sent_ns[message.record_id] = now_ns
        self.courier.send(message.record_id, encode(message, payload), now_ns)

    def take(self, wait_ms: int) -> None:
        if self.socket.poll(wait_ms):
            self._receiver()
        self.courier.tick(time.monotonic_ns())

    def finish(self, within_s: float = 20) -> None:
        until_s = time.monotonic() + within_s
        while len(self.courier):
            assert time.monotonic() < until_s, f"{len(self.courier)} records were never acknowledged"
            self.take(20)

    def _handle(self, message: AnyMessage, *_: object) -> None:
        assert isinstance(message, Recorded)
        now_ns = time.monotonic_ns()
        for record_id in self.courier.recorded(message):
            self.delays_ms.append((now_ns - self.sent_ns[record_id]) / MS)


class Storage:
    """The storage process of one state folder, with a database of its own."""

    def __init__(self, folder: Path, database: str, redis: str, **limits: object) -> None:
        self.home = Home(folder / "home")
        self.home.make()
        station = Station(
            station="st",
            recipes={"demo": Path("demo.toml")},
            recipe="demo",
            cameras=(CameraSection(name="top", type="simulated"),),
            plc=PlcSection(type="modbus"),
            storage=StorageSection.model_validate(limits),
        )
        self.home.write_station(station)
        self.home.write_run(Run(run_id=RUN))
        self.environment = {**os.environ, "ANDON_DATABASE_URL": database, "ANDON_REDIS_URL": redis}
        self.database = database
        self.query = QueryService(database)
        self.live = LivePictureReader(redis, "st")
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "storage.log"
        self._senders: list[Sender] = []

    def sender(self, name: str = "decision") -> Sender:
        """Make a peer that brings records; closed with the rest."""
        self._senders.append(Sender(self.home, name))
        return self._senders[-1]

    def start(self) -> None:
        """Start the process and wait until it says that it is ready."""
        begin = len(self.lines())
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "storage", "--home", str(self.home.path)],
                env=self.environment,
                stderr=log,
            )
        until(lambda: any(line["event"] == "ready" for line in self.lines()[begin:]), self.said)

    def fail(self) -> int:
        """Start a process that is to end by itself; return its exit code."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "storage", "--home", str(self.home.path)]
            return subprocess.run(command, env=self.environment, stderr=log, check=False, timeout=20).returncode

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def events(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def stop(self) -> float:
        """Stop it in order; return how many seconds that took."""
        assert self.process is not None
        begin_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        self.process = None
        assert code == 0, self.said()
        return time.monotonic() - begin_s

    def health(self) -> Health | None:
        return next((health for health in self.live.health() if health.service == "storage"), None)

    def stored(self, table: str = "verdict") -> int:
        engine = sqlalchemy.create_engine(self.database, poolclass=NullPool)
        with engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(metadata.tables[table])).scalar_one()

    def close(self) -> None:
        self.kill()
        for sender in self._senders:
            sender.bus.close()
        self.query.close()
        self.live.close()


def until(condition: Callable[[], object], said: Callable[[], str] = str, within_s: float = 15) -> None:
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, said()
        time.sleep(0.02)


@contextlib.contextmanager
def storage(
    servers: Servers, *, postgres_up: bool = True, migrated: bool = True, **limits: object
) -> Iterator[Storage]:
    Redis.from_url(servers.valkey.url).flushall()
    database = servers.database(migrated=migrated)
    if not postgres_up:
        servers.postgres.stop()
    with state_folder() as folder:
        made = Storage(folder, database, servers.valkey.url, **{"free_disk_mb": 0} | limits)
        try:
            yield made
        finally:
            made.close()
            servers.drop(database)
