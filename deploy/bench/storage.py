"""How soon a record is on disk, and how fast the journal reaches PostgreSQL beside a bare COPY of the same rows.

The real storage process with its real servers, in a state folder of their own. Verdicts as a line with one camera
sends them: one in thirty is a REJECT with a region, a map and, while latency is measured, a crop beside it.
"""

from __future__ import annotations

import gc
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from io import StringIO
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Self

import numpy as np
import psycopg
import zmq
from sqlalchemy import create_engine, func
from sqlalchemy import select as select_rows
from sqlalchemy.pool import NullPool

from config import bus
from config.courier import Courier
from config.errors import ServiceError
from config.home import Home, Run
from config.messages import (
    Evidence,
    GateCommand,
    Judgement,
    Reason,
    Recorded,
    Region,
    Verdict,
    View,
    encode,
)
from deploy import stations
from deploy.bench.report import Report, Target
from deploy.child import Program
from deploy.logbook import Logbook
from deploy.servers import DATABASE_VARIABLE, REDIS_VARIABLE, Postgres, Valkey
from deploy.supervisor import Supervisor
from storage import schema
from storage.incoming import TYPES
from storage.intake import copy_statement
from storage.journal import Journal
from storage.migrate import migrate
from storage.rows import Row, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table

    from config.messages import AnyMessage

_RATE_PER_S = 1000
_SECONDS = 10
_WARM_UP = 500  # verdicts: the first partition, the first connection
_ROUNDS = 3
_VERDICTS = 60_000  # of a round
_BATCH = 5_000  # verdicts of a transaction, about what the writer takes
_REJECT_EVERY = 30
_CROP_EVERY = 10
_CROP_BYTES = 20_000
_MAP = (28, 28)
_JOURNAL_MB = 4096
_WAIT_S = 120.0
_S = 1_000_000_000


def run() -> Report:
    """Measure both, the COPY and the journal's way in turns."""
    with _Station() as station:
        journalled_ms, acknowledged_ms = station.record()
        copied, written = [], []
        for number in range(_ROUNDS):
            copied.append(station.copy(f"copy{number}"))
            written.append(station.drain(f"drain{number}"))
    figures = {
        **_spread("record", journalled_ms),
        **_spread("acknowledged", acknowledged_ms),
        "copy_verdicts_per_s": median(copied),
        "verdicts_per_s": median(written),
        "ratio_to_copy": median(one / other for one, other in zip(written, copied, strict=True)),
    }
    targets = (
        Target("record_p99_ms", 5, at_least=False),
        Target("verdicts_per_s", 20_000, at_least=True),
        Target("ratio_to_copy", 0.5, at_least=True),
    )
    return Report("storage", figures, targets)


def _spread(name: str, values_ms: Sequence[float]) -> dict[str, float]:
    points = np.percentile(values_ms, [50, 99, 99.9, 100])
    return {f"{name}_{at}_ms": float(value) for at, value in zip(("p50", "p99", "p99.9", "max"), points, strict=True)}


def _copy(connection: Connection, table: Table, found: Sequence[Row]) -> None:
    """Copy rows as psycopg's manual shows it."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - what the URL's driver makes
    with driver.cursor() as cursor, cursor.copy(copy_statement(table, table.name)) as copy:
        copy.set_types(TYPES[table])
        for row in found:
            copy.write_row(row)


class _Station:
    """Servers and a storage process, in a folder that the servers' account may enter."""

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="andon-bench-"))
        self._folder.chmod(0o755)
        self._home = Home(self._folder / "home")
        self._home.make()
        station = stations.read(None)
        storage = station.storage.model_copy(update={"journal_limit_mb": _JOURNAL_MB})
        self._home.write_station(station.model_copy(update={"simulation": None, "storage": storage}))
        self._home.write_run(Run(run_id="record"))
        self._name = station.station
        postgres, valkey = Postgres(self._home.path), Valkey(self._home.path)
        self._supervisor = Supervisor(self._home.runtime, Logbook(self._home.log, StringIO()))
        self._supervisor.start([Program.of_server(postgres), Program.of_server(valkey)], _WAIT_S)
        migrate(postgres.url)
        self._engine = create_engine(postgres.url, poolclass=NullPool)
        self._environment = {**os.environ, DATABASE_VARIABLE: postgres.url, REDIS_VARIABLE: valkey.url}
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.stop()
        shutil.rmtree(self._folder)
        shutil.rmtree(self._home.runtime, ignore_errors=True)

    def record(self) -> tuple[list[float], list[float]]:
        """Send at an even rate; return how long after its call each record was on disk, and known to be, in ms."""
        made = [_made(self._name, "record", number, crops=True) for number in range(_RATE_PER_S * _SECONDS + _WARM_UP)]
        process = self._start()
        sender = _Sender(self._home)
        try:
            sender.send(made[:_WARM_UP])
            sender.journalled_ms.clear()
            sender.acknowledged_ms.clear()
            sender.send(made[_WARM_UP:])
            self._await("record", len(made))
        finally:
            sender.bus.close()
            self._stop(process)
        return sender.journalled_ms, sender.acknowledged_ms

    def copy(self, run: str) -> float:
        """Return verdicts/s of COPY alone: rows that are made already, straight into the same tables."""
        batches: list[dict[Table, list[Row]]] = []
        for number in range(_VERDICTS):
            if number % _BATCH == 0:
                batches.append(defaultdict(list))
            for message, payload in _made(self._name, run, number, crops=False):
                for table, row in rows([bytes(part) for part in encode(message, payload)], number):
                    batches[-1][table].append(row)
        gc.collect()
        with self._engine.connect() as connection:
            began_ns = time.monotonic_ns()
            for batch in batches:
                with connection.begin():
                    for table, found in batch.items():
                        _copy(connection, table, found)
            return _VERDICTS / ((time.monotonic_ns() - began_ns) / _S)

    def drain(self, run: str) -> float:
        """Return verdicts/s of the storage process, which finds them in its journal when it starts.

        By PostgreSQL's own clock, from the first transaction's begin to the last one's, so without the last one.
        """
        journal = Journal(self._home.journal, _JOURNAL_MB << 20, 0, Counter())
        waiting: list[list[bytes | memoryview]] = []
        for number in range(_VERDICTS):
            waiting += [encode(*one) for one in _made(self._name, run, number, crops=False)]
            if len(waiting) >= _BATCH:
                journal.append(waiting)
                waiting = []
        journal.append(waiting)
        journal.close()
        process = self._start()
        self._await(run, _VERDICTS)
        self._stop(process)
        verdict = schema.verdict.c
        begins = select_rows(verdict.recorded_at, func.count().label("parts")).where(verdict.run == run)
        with self._engine.connect() as connection:
            found = connection.execute(begins.group_by(verdict.recorded_at).order_by(verdict.recorded_at)).all()
        seconds = (found[-1].recorded_at - found[0].recorded_at).total_seconds()
        return float(sum(batch.parts for batch in found[:-1]) / seconds)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "storage", "--home", str(self._home.path)]
        return subprocess.Popen(command, env=self._environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    @staticmethod
    def _stop(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(10)

    def _await(self, run: str, count: int) -> None:
        """Wait until PostgreSQL has the last part, asking seldom: the question is not what is measured."""
        last = schema.verdict.c.part_id == f"{self._name}-{run}-{count - 1:08}"
        until_ns = time.monotonic_ns() + round(_WAIT_S * _S)
        while time.monotonic_ns() < until_ns:
            with self._engine.connect() as connection:
                if connection.execute(select_rows(schema.verdict.c.part_id).where(last)).one_or_none():
                    return
            time.sleep(0.2)
        raise ServiceError(f"storage did not write {count} verdicts within {_WAIT_S:g} s")


class _Sender:
    """A peer of storage that sends at an even rate and takes every answer at once."""

    def __init__(self, home: Home) -> None:
        self.bus = bus.Bus()
        self._socket = self.bus.connect(zmq.DEALER, home.endpoint("records"), "bench")
        self._courier = Courier(self._socket)
        self._receiver = bus.Receiver(self._socket, self._answered, Counter())
        self._sent_ns: dict[str, int] = {}
        self.journalled_ms: list[float] = []
        self.acknowledged_ms: list[float] = []

    def send(self, made: Sequence[Sequence[tuple[Verdict | Evidence, list[bytes]]]]) -> None:
        """Send each at its time and wait for the last answer."""
        gc.collect()
        gc.disable()  # this side's pauses are not the question
        wakes = int(self._socket.getsockopt(zmq.FD))
        began_ns = time.monotonic_ns()
        for number, step in enumerate(made):
            due_ns = began_ns + number * _S // _RATE_PER_S
            while (now_ns := time.monotonic_ns()) < due_ns:
                if not self._take():
                    select.select([wakes], [], [], (due_ns - now_ns) / _S)  # poll() knows whole milliseconds only
            for message, payload in step:
                now_ns = time.monotonic_ns()
                self._sent_ns[message.record_id] = now_ns
                self._courier.send(message.record_id, encode(message, payload), now_ns)
        until_ns = time.monotonic_ns() + round(_WAIT_S * _S)
        while self._courier:
            self._socket.poll(20)
            self._take()
            self._courier.tick(time.monotonic_ns())
            if time.monotonic_ns() > until_ns:
                raise ServiceError(f"storage did not answer for {len(self._courier)} records within {_WAIT_S:g} s")
        gc.enable()

    def _take(self) -> bool:
        if not self._socket.poll(0):
            return False
        self._receiver()
        return True

    def _answered(self, message: AnyMessage, *_: object) -> None:
        now_ns = time.monotonic_ns()
        if isinstance(message, Recorded):
            for record_id in self._courier.recorded(message):
                sent_ns = self._sent_ns[record_id]
                self.journalled_ms.append((message.journalled_ns - sent_ns) / 1e6)
                self.acknowledged_ms.append((now_ns - sent_ns) / 1e6)


_NOISE = np.random.default_rng(0)
_CROP = _NOISE.bytes(_CROP_BYTES)  # JPEGs do not deflate either
_SCORES = _NOISE.random(_MAP, np.float32).astype(np.float16).tobytes()


def _made(station: str, run: str, number: int, *, crops: bool) -> list[tuple[Verdict | Evidence, list[bytes]]]:
    now_ns, time_ns = time.monotonic_ns(), time.time_ns()
    rejected = number % _REJECT_EVERY == 0
    judgement = Judgement.REJECT if rejected else Judgement.PASS
    reasons = (Reason.ABOVE_THRESHOLD,) if rejected else ()
    region = Region(x_px=40, y_px=50, width_px=30, height_px=20, area_px=500, score=3.2)
    view = View(
        camera="top",
        verdict=judgement,
        reasons=reasons,
        score=3.2 if rejected else 1.0 + number % 97 / 97,
        review_above=2.0,
        reject_above=2.5,
        bundle_digest=f"sha256:{'0' * 64}",
        frame_shape=(320, 320, 3),
        map_shape=_MAP if rejected else None,
        regions=(region,) if rejected else (),
        worker="worker-0",
        batch_size=1,
        received_ns=now_ns,
        started_ns=now_ns,
        finished_ns=now_ns,
    )
    verdict = Verdict(
        part_id=f"{station}-{run}-{number:08}",
        sequence=number,
        station=station,
        line="1",
        recipe="bracket",
        recipe_version=1,
        recipe_digest=f"sha256:{'0' * 64}",
        product="bracket",
        verdict=judgement,
        reasons=reasons,
        views=(view,),
        gate=GateCommand.REJECT if rejected else GateCommand.PASS,
        trigger_ns=now_ns,
        trigger_time_ns=time_ns,
        deadline_ns=now_ns,
        judged_ns=now_ns,
    )
    made: list[tuple[Verdict | Evidence, list[bytes]]] = [(verdict, [_SCORES] if rejected else [])]
    if crops and number % _CROP_EVERY == 0:
        crop = Evidence(
            part_id=verdict.part_id,
            trigger_time_ns=time_ns,
            camera="top",
            purpose="crop",
            region=0,
            width_px=128,
            height_px=128,
        )
        made.append((crop, [_CROP]))
    return made
