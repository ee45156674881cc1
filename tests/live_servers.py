"""Real PostgreSQL and Valkey for system tests, started as the supervisor starts them, to be killed at will.

ANDON_TEST_SERVERS=debian takes Debian's PostgreSQL 15 and Redis instead (`make test SERVERS=debian`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import debian_servers
import sqlalchemy
from debian_servers import DebianPostgres, DebianRedis
from sqlalchemy.pool import NullPool

from deploy.servers import Postgres, Server, Valkey

VARIABLE = "ANDON_TEST_SERVERS"
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # a pytest that is killed leaves no servers behind


class LiveServer:
    """A server that a test may kill and start again."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}  # beside the server's own

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> None:
        self.server.prepare()
        user, group = self.server.user() or (None, None)
        self.process = subprocess.Popen(
            self.server.command(),
            env={**self.server.environment(), **self.environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            user=user,
            group=group,
            extra_groups=[] if user else None,
            preexec_fn=lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - one C call, no lock
        )
        until_s = time.monotonic() + 20
        while not self.server.ready():
            assert self.process.poll() is None, f"{self.server.name} ended with {self.process.returncode}"
            assert time.monotonic() < until_s, f"{self.server.name} did not become ready"
            time.sleep(0.01)

    def stop(self) -> None:
        """End it in order: its next start has nothing to recover."""
        assert self.process is not None
        self.process.send_signal(self.server.stop_signal)
        self.process.wait(10)
        self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def family(self) -> list[int]:
        """Return its process and the children of that: PostgreSQL has one for every connection, and some of its own."""
        assert self.process is not None
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop it as it is, all of its processes, for the time of a `with` block."""
        family = self.family()
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in family:
                os.kill(pid, signal.SIGCONT)


def pair(folder: Path, chosen: str) -> tuple[Server, Server]:
    """Return PostgreSQL and Redis or Valkey: the `embedded` ones, or `debian`'s."""
    if chosen == "embedded":
        return Postgres(folder), Valkey(folder)
    assert chosen == "debian", f"{VARIABLE} must be 'embedded' or 'debian', not {chosen!r}"
    assert debian_servers.INSTALLED, f"{VARIABLE}=debian needs Debian's postgresql-15 and redis-server"
    return DebianPostgres(folder), DebianRedis(folder)


class Servers:
    """PostgreSQL with a database that is migrated, to be copied for each test, and Valkey."""

    def __init__(self, folder: Path, chosen: str | None = None) -> None:
        postgres, valkey = pair(folder, chosen or os.environ.get(VARIABLE) or "embedded")
        self.postgres = LiveServer(postgres)
        self.valkey = LiveServer(valkey)
        self._made = 0

    def ready(self) -> None:
        """Start what a test has killed."""
        for server in (self.postgres, self.valkey):
            if server.process is None or server.process.poll() is not None:
                server.start()

    def database(self, *, migrated: bool = True) -> str:
        """Make a database of the caller's own and return its URL."""
        self._made += 1
        name = f"test_{self._made}"
        self._as_superuser(f"CREATE DATABASE {name} OWNER andon TEMPLATE {'andon' if migrated else 'template1'}")
        return sqlalchemy.make_url(self.postgres.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Remove such a database again: every file of it would be synced when a killed server starts."""
        self.ready()
        self._as_superuser(f"DROP DATABASE {sqlalchemy.make_url(url).database} WITH (FORCE)")

    def _as_superuser(self, statement: str) -> None:
        url = sqlalchemy.make_url(self.postgres.url).set(username="postgres", database="postgres")
        engine = sqlalchemy.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(statement))


@contextlib.contextmanager
def state_folder() -> Iterator[Path]:
    """Make a state folder that the servers' account may enter, unlike pytest's tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="andon-test-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
