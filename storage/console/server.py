"""The console's process: uvicorn in our hands, so that ports, signals and readiness are as in every other daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
import zmq

from config import bus
from config.errors import ConfigurationError, MissingExtraError
from config.home import Home
from config.log import logger
from config.messages import Health
from config.oidc import SECRET
from config.service import Service, notify
from config.station import ConsoleSection
from storage.addresses import database_url, redis_url
from storage.alarms import Alarms
from storage.console.admission import Admission
from storage.console.app import make_app
from storage.console.begun import BegunSignIns
from storage.console.board import Keeper
from storage.console.claims import Claims
from storage.console.context import Console, Judging
from storage.console.exports import Exports
from storage.console.golden import Golden
from storage.console.live import LiveFeed
from storage.console.memory import settle
from storage.console.trials import Trials
from storage.console.wanted import Exporting
from storage.events import EventService
from storage.ledger import Ledger
from storage.library import Library
from storage.live import LiveImages
from storage.picks import Picks
from storage.proposals import Proposals
from storage.query.desk import Desk
from storage.query.recent import RecentParts
from storage.query.service import QueryService
from storage.reviews import Reviews
from storage.roster import Roster
from storage.sessions import Sessions
from storage.shadows import Shadows
from storage.store import connect
from storage.teaching import Teaching
from storage.tokens import Tokens

if TYPE_CHECKING:
    from storage.console.oidc import Provider  # its library is an extra

_ALIVE_S = 0.5
_LEAVE_S = 0.15  # for answers on their way; browsers ask again
_BACKLOG = 256
_MB = 1_000_000


class ConsoleServer(Service):
    """Serve the console until told to stop; PostgreSQL and Redis may come and go meanwhile."""

    def __init__(self, home: Home, judging: Judging, exporting: Exporting) -> None:
        super().__init__("console", home)
        self._judging = judging
        self._exporting = exporting

    def run(self) -> None:
        """Serve; the loop is asyncio's, since that is what uvicorn turns in."""
        station = self.home.read_station()
        products = sorted({recipe.product for recipe in self.home.read_recipes().values()})
        database, redis = database_url(), redis_url()
        ledger = Ledger(database, self.home.path, "people")
        sessions = Sessions(ledger)
        query = QueryService(database, connect(station.storage.images, station.station))
        library = Library(database, self.home.path)
        console = Console(
            home=self.home,
            run=self.home.read_run(),
            database=database,
            station=station,
            products=tuple(products),
            feed=LiveFeed(station, redis, self.counters),
            live=LiveImages(redis, station.station),
            query=query,
            events=EventService(database),
            alarms=Alarms(database, self.home.path),
            golden=Golden(library),
            reviews=Reviews(database, self.home.path),
            desk=Desk(query),
            claims=Claims(),
            picks=Picks(database, self.home.path),
            roster=Roster(ledger),
            sessions=sessions,
            tokens=Tokens(ledger),
            admission=Admission(sessions, self.counters),
            provider=_provider(station.console, self.counters),
            begun=BegunSignIns(),
            counters=self.counters,
            judging=self._judging,
            library=library,
            proposals=Proposals(database, self.home.path),
            trials=Trials(RecentParts(database, query), library, self._judging),
            teaching=Teaching(database, self.home),
            shadows=Shadows(database),
            exports=Exports(
                self._exporting, ledger, self.home.path / "exports-under-way", 2 * station.storage.free_disk_mb * _MB
            ),
        )
        listening = _listen(station.console)
        settle()
        logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
        self._health = self.bus.connect(zmq.PUSH, self.home.endpoint("health"))
        # Neither closed nor emptied: a thread that waits for PostgreSQL would be waited for in turn.
        asyncio.new_event_loop().run_until_complete(self._serve(console, listening))
        self.bus.close()

    async def _serve(self, console: Console, listening: socket.socket) -> None:
        told_to_stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
        settings = uvicorn.Config(
            make_app(console),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=30,
        )
        server = _Server(settings)
        serving = asyncio.create_task(server.serve([listening]))
        tasks = {
            serving,
            asyncio.create_task(console.feed.run()),
            asyncio.create_task(Keeper(console.station, console.feed, console.query, console.alarms).run()),
            asyncio.create_task(self._stay_alive(server.listens)),
            waiting := asyncio.create_task(told_to_stop.wait()),
        }
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        console.feed.close()
        server.should_exit = True
        await asyncio.wait([serving], timeout=_LEAVE_S)
        for task in ended - {waiting}:
            task.result()  # none of the others ends but by its error

    async def _stay_alive(self, listens: asyncio.Event) -> None:
        """Say that the console is ready once it listens, and from then on that it is alive."""
        await listens.wait()
        self.state = "READY"
        notify("READY=1")
        logger().info("ready")
        while True:
            notify("WATCHDOG=1")
            health = Health(
                service=self.name,
                state=self.state,
                pid=os.getpid(),
                time_ns=time.time_ns(),
                counters=dict(self.counters),
            )
            bus.send(self._health, health)
            await asyncio.sleep(_ALIVE_S)


class _Server(uvicorn.Server):
    """uvicorn, but signals are ours, and it says when it listens."""

    def __init__(self, settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class _Forward(logging.Handler):
    """Pass what libraries log on to the one log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        detail = {"traceback": self.format(record)} if record.exc_info else {}
        logger().log(record.levelno, record.getMessage(), library=record.name, **detail)


def _provider(section: ConsoleSection, counters: Counter[str]) -> Provider | None:
    """Return the provider that people sign in at; raise ConfigurationError where it cannot be used."""
    if section.oidc is None:
        return None
    try:
        from storage.console.oidc import Provider  # noqa: PLC0415 - its library is an extra: say which where it is absent
    except ImportError as error:
        raise MissingExtraError("sign-in by an OpenID Connect provider ([console.oidc])", "oidc", error) from error
    secret = os.environ.get(SECRET)
    if not secret:
        raise ConfigurationError(f"console.oidc: the client's secret comes from the environment: {SECRET} is not set")
    return Provider(section.oidc, secret, counters)


def _listen(section: ConsoleSection) -> socket.socket:
    """Return the socket to serve on; raise ConfigurationError if the address cannot be had."""
    where = f"[{section.host}]" if ":" in section.host else section.host
    family = socket.AF_INET6 if ":" in section.host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named: 40 ms of each answer on a kept connection
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((section.host, section.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"station.json: console: cannot listen on {where}:{section.port}: {error.strerror or error}; "
            "name another console.port (0: any that is free) or console.host"
        ) from error
    logger().info("console", url=f"http://{where}:{listening.getsockname()[1]}/")
    return listening
