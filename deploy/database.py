"""The station's database for a command: the running station's, one named by ANDON_DATABASE_URL, or started for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

from config.errors import ConfigurationError
from config.home import Home
from deploy.child import Program
from deploy.lock import HomeLock
from deploy.logbook import Logbook
from deploy.servers import DATABASE_VARIABLE, Postgres, external_database
from deploy.supervisor import Supervisor
from storage.migrate import migrate

_READY_WITHIN_S = 60.0


@contextmanager
def database(home: Home, doing: str) -> Iterator[str]:
    """Give the URL of the station's database for the time of a `with` block.

    Where no station runs, the embedded server runs for that time, under the state folder's lock; `doing` tells a second
    one who holds it. Raise ConfigurationError where there is no state folder or another command holds it, StoreError
    where the server does not answer.
    """
    if os.environ.get(DATABASE_VARIABLE):
        yield external_database(os.environ[DATABASE_VARIABLE])
        return
    if not (home.path / "postgres").is_dir():
        raise ConfigurationError(
            f"{home.path}: no station has run here: name its state folder with --home, or its database with "
            f"{DATABASE_VARIABLE}"
        )
    server = Postgres(home.path)
    if server.ready():
        yield server.url
        return
    home.make()
    with HomeLock(home.path) as lock:
        lock.tell(doing=doing)
        with running(server, home):
            migrate(server.url)
            yield server.url


@contextmanager
def running(server: Postgres, home: Home) -> Iterator[None]:
    """Run the embedded server for the time of a `with` block; the caller holds the lock of `home`."""
    supervisor = Supervisor(home.runtime, Logbook(home.log, StringIO()))
    try:
        supervisor.start([Program.of_server(server)], _READY_WITHIN_S)
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            signal.signal(number, handler)  # from here on the command is what is interrupted
        yield
    finally:
        supervisor.stop()
