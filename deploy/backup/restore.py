"""Put a backup back: into a state folder that is empty and a database that is.

All of the file is verified before anything is touched. Then everything is made ready in the folder `restoring` of the
state folder; the database is filled in one transaction; and at last all is moved to its place. Whatever kills it, the
same command starts over, or ends what is left to do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, Connection, MetaData, Table, create_engine, delete, literal, make_url, select, text
from sqlalchemy.pool import NullPool

from config import files
from config.errors import ConfigurationError, InputError, StoreError
from config.home import Home
from deploy.backup import state, tables
from deploy.backup.archive import Meter, Progress, Reader
from deploy.database import running
from deploy.lock import RESTORING, HomeLock
from deploy.servers import DATABASE_VARIABLE, Postgres, external_database, leftovers
from storage import audit, chain, migrate, schema
from storage.failures import translated
from storage.record import Position

_MB = 1_000_000
_READY = "ready.json"  # in the folder `restoring`: all is there, and only has to be moved
_CONNECT = {"connect_timeout": 5, "application_name": "andon restore", "options": "-c statement_timeout=0"}
_NO_STATE = {"lock", "log", RESTORING}
_SPARE_BYTES = 300 * _MB  # PostgreSQL's own files, and its write-ahead log
_WITH_INDEXES = 1.5  # what a table takes with its indexes, roughly


class Restored(BaseModel):
    """What was put back."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    station: str
    made_at: datetime
    home: Path
    verdicts: int
    trusted: tuple[str, ...] = ()  # files of public keys that this machine did not trust before
    missing: tuple[str, ...] = ()  # files that the backup could not copy when it was made
    images: str  # where the bytes of images are
    fault: str | None = None  # of the audit trail, as it came


class _Ready(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    backup: str
    restored: Restored


def restore(path: Path, home: Home, who: str, progress: Progress) -> Restored:
    """Put the backup in the file `path` into the state folder `home` and its database, embedded or external.

    Raise InputError for a file that is damaged, cut, newer or no backup, ConfigurationError where there is a station's
    state already, StoreError where disk or database do not do their part. Then nothing has changed.
    """
    external = os.environ.get(DATABASE_VARIABLE)
    database_url = external_database(external) if external else None
    home = Home(home.path.resolve())  # paths in it are written down
    with Reader(path, progress) as reader:
        if reader.header.revision not in migrate.known():
            raise InputError(
                f"{path}: holds a database of revision {reader.header.revision}, which this Andon does not know: "
                f"it was made by Andon {reader.header.andon}, use that or a newer one"
            )
        _check_empty(home)
        home.make()
        with HomeLock(home.path, restores=True) as lock:
            lock.tell(doing="restoring a backup")
            _check_empty(home)
            return _Restore(reader, home, database_url, who, progress).run()


class _Restore:
    """One restore into a state folder whose lock is held."""

    def __init__(self, reader: Reader, home: Home, database_url: str | None, who: str, progress: Progress) -> None:
        self._reader = reader
        self._home = home
        self._staging = home.path / RESTORING
        self._database_url = database_url
        self._who = who
        self._progress = progress

    def run(self) -> Restored:
        """Begin, or end what an interrupted one has left to do."""
        restored = self._left_to_move()
        if restored is None:
            _remove(self._staging)
            try:
                self._make_ready()
            except BaseException:
                if not (self._staging / _READY).exists():  # else the database may be filled: the next run looks
                    _remove(self._staging)
                raise
            restored = files.read(self._staging / _READY, _Ready).restored
        _move(self._staging, self._home.path)
        return restored

    def _left_to_move(self) -> Restored | None:
        """Return what an interrupted restore has made ready, None if there is none such."""
        path = self._staging / _READY
        if not path.exists():
            return None
        ready = files.read(path, _Ready)
        if self._database_url and not _holds(self._database_url, ready.backup):
            return None
        if ready.backup != self._reader.header.backup:
            raise ConfigurationError(
                f"{self._home.path}: the restore of another backup, made at {ready.restored.made_at}, was interrupted "
                "here at its end: run it again with that file, or remove all of the folder"
            )
        return ready.restored

    def _make_ready(self) -> None:
        self._check_space()
        self._staging.mkdir()
        self._staging.chmod(0o711)  # whatever the umask: root's servers run as another account, and must pass
        state.put_back(self._reader, self._staging, self._home.path)
        (self._staging / "journal").mkdir(exist_ok=True)
        trusted = state.trust(self._reader)
        if self._database_url:
            self._fill(self._database_url, trusted)
            return
        server = Postgres(self._staging)
        with running(server, self._home):
            restored = self._fill(server.url, trusted)
            # so that the orderly stop has little left to write
            _execute(make_url(server.url).set(username="postgres", database="postgres"), "CHECKPOINT")
        self._say_ready(restored)

    def _fill(self, url: str, trusted: list[str]) -> Restored:
        """Fill the database in one transaction, and leave in the journal what it does not have."""
        engine = create_engine(url, poolclass=NullPool, connect_args=_CONNECT)
        anchor = audit.Anchor(self._staging)
        with translated(), engine.connect() as connection:
            with connection.begin():
                _empty(connection)
                migrate.bring(connection, self._reader.header.revision)
                verdicts = self._load(connection)
                migrate.bring(connection, "head")
                connection.execute(delete(schema.session))  # whoever was signed in then signs in anew
                noted = anchor.read()
                verified = audit.verify(connection, {state.AUDIT: noted} if noted else {})
                state.settle_journal(self._staging / "journal", _cursor(connection, self._staging / "journal"))
                restored = Restored(
                    station=self._reader.header.station,
                    made_at=self._reader.header.made_at,
                    home=self._home.path,
                    verdicts=verdicts,
                    trusted=tuple(trusted),
                    missing=self._reader.manifest.missing,
                    images=self._reader.manifest.images,
                    fault=verified.fault,
                )
                after = {"backup": self._reader.header.backup, **restored.model_dump(mode="json", exclude={"home"})}
                subject = self._reader.path.name[: audit.LONGEST_NAME]
                head = audit.append(connection, self._who, chain.RESTORED, subject, None, after)
                if self._database_url:
                    self._say_ready(restored)  # before the commit: once it is done, only moving is left
            anchor.note(connection, head)
        _execute(make_url(url), "ANALYZE " + ", ".join(f'"{name}"' for name in schema.metadata.tables))
        return restored

    def _load(self, connection: Connection) -> int:
        """Fill all tables; return how many verdicts there are."""
        manifest = self._reader.manifest
        meter = Meter(self._progress, "database", sum(table.size_bytes for table in manifest.tables))
        loaded = verdicts = 0
        for table in manifest.tables:
            names = self._reader.names(f"database/{table.name}")
            rows = tables.load(connection, table, map(self._reader.read, names))
            verdicts += rows if schema.verdict.name in {table.name, table.parent} else 0
            loaded += table.size_bytes
            meter.at(loaded)
        tables.go_on(connection, manifest.sequences)
        return verdicts

    def _say_ready(self, restored: Restored) -> None:
        ready = _Ready(backup=self._reader.header.backup, restored=restored)
        files.write(self._staging / _READY, ready.model_dump_json().encode())

    def _check_space(self) -> None:
        members = self._reader.manifest.members
        wanted = _SPARE_BYTES + sum(member.size for name, member in members.items() if not name.startswith("database/"))
        if not self._database_url:
            wanted += round(_WITH_INDEXES * sum(table.size_bytes for table in self._reader.manifest.tables))
        disk = os.statvfs(self._home.path)
        free = disk.f_bavail * disk.f_frsize
        if free < wanted:
            raise StoreError(
                f"{self._home.path}: this backup needs about {wanted / _MB:.0f} MB there, but only {free / _MB:.0f} MB "
                "are free: name a state folder on another disk with --home"
            )


def _check_empty(home: Home) -> None:
    """Raise ConfigurationError where a state folder holds anything but an interrupted restore."""
    if not home.path.exists() or (home.path / RESTORING / _READY).exists():
        return
    found = [
        entry.name
        for entry in sorted(home.path.iterdir())
        if entry.name not in _NO_STATE and not (entry.is_dir() and not any(entry.iterdir()))
    ]
    if found:
        raise ConfigurationError(
            f"{home.path}: holds a station's state already ({', '.join(found[:5])}), and a restore never overwrites: "
            f"stop what runs there and move it away (mv {home.path} {home.path}.old), or name another with --home"
        )


def _empty(connection: Connection) -> None:
    """Leave no table; raise ConfigurationError where one holds rows or is not Andon's."""
    present, others = tables.listed(connection)
    filled = [table.name for table in present if _has_rows(connection, table.name)]
    if filled or others:
        where = connection.engine.url.render_as_string(hide_password=True)
        raise ConfigurationError(
            f"{where}: this database is not empty ({', '.join([*filled, *others][:5])}), and a restore never "
            f"overwrites: create another one and name that in {DATABASE_VARIABLE}"
        )
    if migrate.present(connection):
        migrate.bring(connection, "base")


def _has_rows(connection: Connection, name: str) -> bool:
    return bool(connection.scalar(select(literal(1)).select_from(Table(name, MetaData())).limit(1)))


def _holds(database_url: str, backup: str) -> bool:
    """Tell whether a database was filled from this backup, and nothing else has been restored since."""
    engine = create_engine(database_url, poolclass=NullPool, connect_args=_CONNECT)
    with translated(), engine.connect() as connection:
        if migrate.present(connection) is None:
            return False
        latest = select(schema.audit.c.after).where(schema.audit.c.action == chain.RESTORED)
        after = connection.scalar(latest.order_by(schema.audit.c.number.desc()).limit(1))
    return after is not None and json.loads(after)["backup"] == backup


def _cursor(connection: Connection, journal: Path) -> Position | None:
    """Return how far the database is in a journal."""
    identity = journal / "identity"
    known = identity.read_text(encoding="ascii", errors="replace").strip() if identity.exists() else ""
    cursor = schema.journal_cursor
    found = connection.execute(
        select(cursor.c.segment, cursor.c.position).where(cursor.c.journal == known)
    ).one_or_none()
    return None if found is None else Position(*found)


def _execute(url: URL, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool, connect_args=_CONNECT, isolation_level="AUTOCOMMIT")
    with translated(), engine.connect() as connection:
        connection.execute(text(statement))


def _remove(staging: Path) -> None:
    """Remove what an interrupted restore has left, and end what may still run in it."""
    for program, name in (("initdb", "postgres.new"), ("postgres", "postgres.new"), ("postgres", "postgres")):
        leftovers.end(program, staging / name, signal.SIGQUIT)
    if staging.exists():
        shutil.rmtree(staging)


def _move(staging: Path, home: Path) -> None:
    """Give everything that is ready its place; once begun, this is ended by whoever comes next."""
    try:
        for entry in sorted(staging.iterdir()):
            if entry.name != _READY:
                entry.replace(home / entry.name)
        (staging / _READY).unlink()
        staging.rmdir()
    except OSError as error:
        raise StoreError(f"{home}: {error.filename} cannot be moved to its place: {error.strerror}") from error
