"""Debian's PostgreSQL 15 and Redis as somebody else would run them: over TCP, with a password, in a test's folders.

The same protocol as the embedded servers', so that a test may kill, pause and start either pair.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
from functools import cached_property
from pathlib import Path

import redis
from psycopg import pq
from psycopg.conninfo import make_conninfo
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.servers import account as accounts
from deploy.servers import leftovers

POSTGRES = Path("/usr/lib/postgresql/15/bin")
REDIS = Path("/usr/bin/redis-server")
INSTALLED = (POSTGRES / "postgres").exists() and REDIS.exists()
_HOST = "127.0.0.1"


class _Debian:
    """A server in a folder of its own, run by an ordinary account."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = _free_port()
        self.password = secrets.token_urlsafe(12)

    @cached_property
    def account(self) -> accounts.Account | None:
        return accounts.choose(self.data)

    def environment(self) -> dict[str, str]:
        return accounts.environment()

    def user(self) -> tuple[int, int] | None:
        return (self.account.uid, self.account.gid) if self.account else None

    def make_folder(self) -> None:
        self.data.mkdir(mode=0o700)
        if self.account:
            shutil.chown(self.data, self.account.uid, self.account.gid)


class DebianPostgres(_Debian):
    """PostgreSQL 15 with Debian's settings."""

    name = "postgres"
    stop_signal = signal.SIGINT
    kill_signal = signal.SIGKILL

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "postgresql-15")
        self.url = f"postgresql+psycopg://andon:{self.password}@{_HOST}:{self.port}/andon"
        fields = {"host": _HOST, "port": self.port, "user": "andon", "dbname": "andon", "connect_timeout": 1}
        self._conninfo = make_conninfo("", **fields).encode()

    def prepare(self) -> None:
        leftovers.end("postgres", self.data, signal.SIGQUIT)
        if not (self.data / "PG_VERSION").exists():
            self._create()
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": _HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # a killed server leaves nothing in /dev/shm
        }
        return [
            str(POSTGRES / "postgres"),
            *("-D", str(self.data)),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    def ready(self) -> bool:
        return pq.PGconn.ping(self._conninfo) == pq.Ping.OK

    def _create(self) -> None:
        self.make_folder()
        options = ("--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256")
        secret = self.data.with_name("password")  # initdb asks for it in a file
        secret.write_text(self.password)
        if self.account:
            shutil.chown(secret, self.account.uid, self.account.gid)
        self._run("initdb", "--pgdata", str(self.data), f"--pwfile={secret}", *options)
        secret.unlink()
        create = f"CREATE ROLE andon LOGIN PASSWORD '{self.password}';\nCREATE DATABASE andon OWNER andon;\n"
        self._run("postgres", "--single", "-D", str(self.data), "postgres", text=create)

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        done = accounts.run([POSTGRES / program, *arguments], self.account, text=text)
        assert done.returncode == 0, done.stderr


class DebianRedis(_Debian):
    """Redis 7.0, with the append-only file on."""

    name = "redis"
    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "redis")
        self.url = f"redis://:{self.password}@{_HOST}:{self.port}/0"

    def prepare(self) -> None:
        leftovers.end("redis-server", self.data, signal.SIGTERM)
        if not self.data.exists():
            self.make_folder()

    def command(self) -> list[str]:
        settings = {"bind": _HOST, "port": self.port, "requirepass": self.password, "dir": self.data, "save": ""}
        settings |= {"appendonly": "yes"}
        return [str(REDIS), *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]

    def ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
