"""`andon worker`: inference workers of this machine for a station that runs on another one, until Ctrl-C.

The station file of that machine, its recipes and their bundles must be here as they are there: which bundle has scored
stands in every prediction, and where the recipe names its digest another one is a FAULT.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError

from config import files
from config import station as station_file
from config.errors import ConfigurationError
from config.home import Home, Run, default_path
from config.station import Station, WorkersSection
from deploy import stations
from deploy.child import Program
from deploy.lock import HomeLock
from deploy.logbook import Logbook
from deploy.rooms import check_rooms
from deploy.supervisor import Supervisor

if TYPE_CHECKING:
    import argparse

_READY_WITHIN_S = 300.0  # a hundred bundles may have to be loaded and measured
_ANYWHERE = ("tcp://0.0.0.0:", "tcp://*:", "tcp://[::]:")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9-]+")


def work(arguments: argparse.Namespace) -> int:
    """Run the workers; return the exit code."""
    check_rooms()
    home = Home(arguments.home or default_path())
    home.make()
    with HomeLock(home.path) as lock:
        logbook = Logbook(home.log)
        station = remote(station_file.read(arguments.station), arguments.device)
        home.write_station(station)
        home.write_run(Run(run_id="worker"))
        lock.tell(doing=f"working for station {station.station!r}")
        machine = _NOT_IN_NAMES.sub("-", arguments.name or socket.gethostname())[:32]
        trust = [part for key in stations.DEMO_KEYS for part in ("--trust", str(key))]
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}

        def worker(name: str) -> Program:
            command = [sys.executable, "-m", "inference", "--home", str(home.path), "--worker", name, *trust]
            return Program(f"worker-{name}", lambda: command, lambda: environment)

        supervisor = Supervisor(home.runtime, logbook)
        try:
            supervisor.start([worker(f"{machine}-{number}") for number in range(arguments.count)], _READY_WITHIN_S)
            logbook.say(f"working for station {station.station!r} at {station.endpoints['predictions']} (Ctrl-C stops)")
            supervisor.run(lambda: False)
        finally:
            supervisor.stop()
            logbook.say("stopped")
    return 0


def remote(found: Station, device: str | None) -> Station:
    """Return the station as workers of other machines see it; raise ConfigurationError where it takes none."""
    if found.workers.listen is None or found.workers.listen.startswith(_ANYWHERE):
        raise ConfigurationError(
            f"station {found.station!r}: workers.listen must name the address of the station's machine, such as "
            f'"tcp://10.0.0.1:5600", not {found.workers.listen!r}'
        )
    said = found.workers.model_dump() | {"count": 1, "listen": None} | ({"device": device} if device else {})
    try:
        workers = WorkersSection.model_validate(said)
    except ValidationError as error:
        raise ConfigurationError(f"--device {device}: {files.explain(error)}") from error
    return found.model_copy(update={"workers": workers, "endpoints": found.remote_endpoints()})
