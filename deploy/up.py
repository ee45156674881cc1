"""`andon up`: everything of one station under one supervisor, until Ctrl-C or for a number of parts."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from config.errors import ConfigurationError, StoreError
from config.home import Home, Run, default_path
from deploy import people, registry, stations
from deploy.child import Program
from deploy.lock import HomeLock
from deploy.logbook import Logbook
from deploy.releasing import Releasing
from deploy.rooms import check_rooms
from deploy.servers import (
    DATABASE_VARIABLE,
    REDIS_VARIABLE,
    Postgres,
    Server,
    Valkey,
    external_database,
    external_redis,
)
from deploy.summary import Summary, Tally
from deploy.supervisor import Supervisor
from storage.migrate import migrate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from config.station import Station

Result = TypeVar("Result")

_INTERRUPTED = 130
_LOOKING = 10  # nice: who looks on gives way to the line
_READY_WITHIN_S = 60.0
_START_IN_NS = 200_000_000
_PROGRESS_NS = 2_000_000_000
_LOOK_NS = 250_000_000  # once the last part is through, so that the end is not waited for
_LOOK_SHARE = 50  # looking takes at most a fiftieth of the time, however many parts a run of weeks has
_DRAIN_NS = 90_000_000_000  # after the last part's deadline, for verdicts on their way through outages


def up(arguments: argparse.Namespace) -> int:
    """Run a station; return the exit code: 0 only if every trigger has its verdict and every verdict is recorded."""
    began_ns = time.monotonic_ns()
    check_rooms()
    home = Home(arguments.home or default_path())
    home.make()
    with HomeLock(home.path) as lock:
        logbook = Logbook(home.log)
        lock.tell(doing="starting")
        _check_disk(home)
        _sweep(home)
        if arguments.images:
            station = _station_for_images(arguments, home, logbook)
        else:
            station = stations.read(arguments.station)
        station = stations.place(station, arguments.port)
        if arguments.parts is not None and station.simulation is None:
            raise ConfigurationError("--parts needs a simulated line: the station file has no [simulation]")
        demo = not arguments.images and stations.is_demo(arguments.station)
        run = Run(run_id=f"{time.time_ns() // 1_000_000:x}", parts=arguments.parts, demo=demo)
        home.write_station(station)
        home.write_run(run)
        home.versions().begin(run.run_id, station)
        page = f"http://{station.console.host}:{station.console.port}/"
        lock.tell(station=station.station, console=page)
        supervisor = Supervisor(home.runtime, logbook)
        summary = None
        database_url = None
        try:
            database_url = _start(supervisor, home, station, run, logbook)
            if database_url is not None and not supervisor.stop_requested:
                _insist(supervisor, partial(people.first, home, database_url, logbook))
                setup_s = (time.monotonic_ns() - began_ns) / 1e9
                logbook.say(f"station {station.station!r} is running: console at {page}  (Ctrl-C stops)")
                if demo:
                    logbook.show("this is the demo: its line, cameras, parts and PLC are simulated")
                home.write_start(run, time.monotonic_ns() + _START_IN_NS)
                tally = Tally(home, station, run, database_url)
                releasing = Releasing(home, database_url, logbook)
                _watch(supervisor, tally, releasing, logbook)
                supervisor.stop(servers=False)  # every trigger has its verdict then, and storage what was said of it
                summary = _sum_up(supervisor, tally, setup_s, logbook)
                tally.close()
        finally:
            if database_url is not None:
                _say_stopped(home, station, run, database_url, logbook)
            supervisor.stop()
            logbook.say("stopped")
        if summary is None:
            return _INTERRUPTED
        return _conclude(summary, arguments)


def _start(supervisor: Supervisor, home: Home, station: Station, run: Run, logbook: Logbook) -> str | None:
    """Start servers, then daemons; return the database's URL, None when stopped before it was ready."""
    servers: list[Server] = []
    if os.environ.get(DATABASE_VARIABLE):
        database_url = external_database(os.environ[DATABASE_VARIABLE])
    else:
        servers.append(postgres := Postgres(home.path))
        database_url = postgres.url
    if os.environ.get(REDIS_VARIABLE):
        redis_url = external_redis(os.environ[REDIS_VARIABLE])
    else:
        servers.append(valkey := Valkey(home.path))
        redis_url = valkey.url
    supervisor.start([Program.of_server(server) for server in servers], _READY_WITHIN_S)
    if supervisor.stop_requested:
        return None
    _insist(supervisor, lambda: migrate(database_url))
    logbook.say("database schema is current")
    for warning in _insist(supervisor, lambda: registry.register(home, database_url)):
        logbook.say(warning, "warning")
    _insist(supervisor, lambda: registry.started(home, station, run, database_url))
    environment = {
        **os.environ,
        DATABASE_VARIABLE: database_url,
        REDIS_VARIABLE: redis_url,
        "ORT_DISABLE_TELEMETRY": "1",
        "OPENCV_LOG_LEVEL": "ERROR",
        "PYTHONUNBUFFERED": "1",
    }

    def daemon(name: str, module: str, *extra: str, stops: int = 1, niceness: int = 0) -> Program:
        command = [sys.executable, "-m", module, "--home", str(home.path), *extra]
        return Program(name, lambda: command, lambda: environment, stops=stops, niceness=niceness)

    trust = [part for key in stations.DEMO_KEYS for part in ("--trust", str(key))]
    first = [
        daemon("storage", "storage", stops=2),
        daemon("decision", "decision"),
        daemon("console", "deploy.console", niceness=_LOOKING),
    ]
    if station.opcua:
        first.append(daemon("opcua", "decision.vision", niceness=_LOOKING))
    if station.report:
        first.append(daemon("report", "storage.report", niceness=_LOOKING))
    if station.simulation:
        first.insert(0, daemon("plc-simulator", "deploy.plc"))
    first += [
        daemon(f"worker-{number}", "inference", "--worker", str(number), *trust)
        for number in range(station.workers.count)
    ]
    supervisor.start(first, _READY_WITHIN_S)
    last = [daemon(f"camera-{camera.name}", "ingest", "--camera", camera.name, stops=0) for camera in station.cameras]
    last.append(daemon("teacher", "deploy.teacher", stops=0))
    supervisor.start(last, _READY_WITHIN_S)
    return database_url


def _insist(supervisor: Supervisor, action: Callable[[], Result]) -> Result:
    """Do what needs the database; a server that dies meanwhile is started again and waited for."""
    ends_ns = time.monotonic_ns() + round(_READY_WITHIN_S * 1e9)
    while True:
        try:
            return action()
        except StoreError:
            if supervisor.stop_requested or time.monotonic_ns() > ends_ns:
                raise
        supervisor.turn()


def _say_stopped(home: Home, station: Station, run: Run, database_url: str, logbook: Logbook) -> None:
    try:
        registry.stopped(home, station, run, database_url)
    except StoreError as error:
        logbook.say(f"the audit trail will not tell that the station stopped: {error}", "warning")


def _watch(supervisor: Supervisor, tally: Tally, releasing: Releasing, logbook: Logbook) -> None:
    """Turn until the last part is recorded, or for ever; say now and then how far it is."""
    look_ns = show_ns = 0

    def done() -> bool:
        nonlocal look_ns, show_ns
        releasing.look(time.monotonic_ns())
        now_ns = time.monotonic_ns()
        if now_ns < look_ns:
            return False
        line = tally.look(now_ns)
        took_ns = time.monotonic_ns() - now_ns
        pace_ns = _LOOK_NS if tally.all_triggered(now_ns) else _PROGRESS_NS
        look_ns = now_ns + max(pace_ns, _LOOK_SHARE * took_ns)
        if now_ns >= show_ns:
            show_ns = now_ns + _PROGRESS_NS
            logbook.show(line)
        return tally.complete(now_ns) or tally.hopeless(now_ns, _DRAIN_NS)

    supervisor.run(done)


def _sum_up(supervisor: Supervisor, tally: Tally, setup_s: float, logbook: Logbook) -> Summary | None:
    """Return the run's summary; None where it is interrupted and was too long to be summed up at once."""
    try:
        return tally.summary(setup_s, supervisor.restarts, seen=not supervisor.stop_requested)
    except StoreError as error:
        if not supervisor.stop_requested:
            raise
        logbook.say(f"no summary of the run: {error}", "warning")
        return None


def _conclude(summary: Summary, arguments: argparse.Namespace) -> int:
    if arguments.json:
        sys.stdout.write(json.dumps(summary.as_json()) + "\n")
    else:
        sys.stdout.write(summary.as_text() + "\n")
    sys.stdout.flush()
    return 0 if summary.whole else 1


def _station_for_images(arguments: argparse.Namespace, home: Home, logbook: Logbook) -> Station:
    """Make a station for a folder of images, with the bundle named or one fitted on its good images first."""
    from deploy.teaching import inference_s, obtain_bundle  # noqa: PLC0415 - onnxruntime (and torch) only where asked for

    path, bundle = obtain_bundle(home, arguments.images, arguments.bundle, stations.DEMO_KEYS, logbook)
    return stations.for_images(home, arguments.images, path, bundle, inference_s(bundle))


def _check_disk(home: Home) -> None:
    free_mb = shutil.disk_usage(home.path).free / 1e6
    if free_mb < 300:  # noqa: PLR2004 - PostgreSQL's first files, a journal segment and a log
        raise ConfigurationError(f"{home.path}: only {free_mb:.0f} MB of disk are free: 300 MB are needed to start")


def _sweep(home: Home) -> None:
    """Remove what a dead run left in the runtime folder; the outbox stays, it may hold verdicts."""
    for pattern in ("*.ring", "*.sock", "notify-*", "*.cursor"):
        for leftover in home.runtime.glob(pattern):
            leftover.unlink(missing_ok=True)
