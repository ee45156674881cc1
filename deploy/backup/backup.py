"""Take a backup while the line runs.

The journal is copied first and the database after it, in one snapshot: what leaves the journal meanwhile is in the
database by then. So everything that was acknowledged before the backup began is in it, and the rest as far as it came.
Retention waits until the packs that the snapshot refers to are copied as well.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from config.errors import InputError, StoreError
from config.home import Home
from config.station import Station
from deploy.backup import lessons, state, tables
from deploy.backup.archive import PIECE_BYTES, Meter, Progress, Writer
from deploy.backup.manifest import FORMAT, Header, Manifest
from storage import audit, migrate
from storage.failures import translated
from storage.retention import sweep

_MB = 1_000_000
_CONNECT = {"connect_timeout": 5, "application_name": "andon backup", "options": "-c statement_timeout=0"}
_LOCK_WITHIN = "10s"  # a migration or a sweep that changes a table takes less
_MADE = "backup.made"


class Backup(NamedTuple):
    """What was made."""

    path: Path
    digest: str  # SHA-256 of its manifest, which names that of everything else
    size_bytes: int
    seconds: float
    manifest: Manifest


def back_up(home: Home, database_url: str, path: Path, who: str, progress: Progress) -> Backup:
    """Write a backup of the station in `home` and its database to the file `path`, whole or not at all.

    Raise ConfigurationError where no station has run in `home`, InputError for a file that is there already, StoreError
    where disk or database do not do their part.
    """
    began_ns = time.monotonic_ns()
    path = path.absolute()
    station = home.read_station()
    engine = create_engine(database_url, poolclass=NullPool, connect_args=_CONNECT)
    with translated(), engine.connect() as guard:
        guard.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        if not sweep.hold_off(guard, wait=False):  # to the end; a transaction that only holds a lock is in nobody's way
            progress("waiting for a sweep of retention to end", 0, 1)
            sweep.hold_off(guard, wait=True)
        header = _header(guard, station)
        _check_space(guard, home, station, path)
        with Writer(path, header, station.storage.free_disk_mb << 20) as writer:
            missing = state.copy_station(home, station, writer)
            state.copy_journal(home, writer, Meter(progress, "journal", state.journal_bytes(home)))
            lessons.copy(home, writer, Meter(progress, "lessons", lessons.size_bytes(home)))
            manifest, packs = _copy_database(engine, writer, progress)
            missing += _copy_packs(station, packs, writer, progress)
            manifest = manifest.model_copy(update={"missing": tuple(missing), "images": _images(station)})
            digest = writer.finish(manifest)
    made = Backup(path, digest, path.stat().st_size, (time.monotonic_ns() - began_ns) / 1e9, manifest)
    _note(engine, home, who, header, made)
    return made


def _header(connection: Connection, station: Station) -> Header:
    migrate.check(connection)
    return Header(
        format=FORMAT,
        backup=uuid.uuid4().hex,
        made_at=datetime.now(UTC),
        station=station.station,
        revision=migrate.present(connection) or "",
        andon=metadata.version("andon"),
    )


def _check_space(connection: Connection, home: Home, station: Station, path: Path) -> None:
    """Raise StoreError unless the disk has room for the whole backup as it would be unpacked."""
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder to put a backup into")
    tables_bytes = sum(table.size_bytes for table in tables.listed(connection)[0])
    images = station.storage.images
    packs_bytes = 0
    if images.type == "folder":
        packs_bytes = sum(pack.stat().st_size for pack in Path(str(images.options["path"])).glob("*/*/*.pack"))
    wanted = tables_bytes + state.journal_bytes(home) + packs_bytes + lessons.size_bytes(home)
    kept = station.storage.free_disk_mb << 20
    disk = os.statvfs(path.parent)
    free = disk.f_bavail * disk.f_frsize
    if free < wanted + kept:
        raise StoreError(
            f"{path.parent}: a backup takes up to {wanted / _MB:.0f} MB and {kept / _MB:.0f} MB are to stay free, "
            f"but only {free / _MB:.0f} MB are: name a folder on another disk"
        )


def _copy_database(engine: Engine, writer: Writer, progress: Progress) -> tuple[Manifest, list[str]]:
    """Copy all tables as they are at one moment; return what there is, and the packs that it refers to."""
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WITHIN}'"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        tables.lock(connection)  # before the snapshot is taken, which the first query does
        found, others = tables.listed(connection)
        numbers = tables.sequences(connection)
        packs = _packs(connection)
        meter = Meter(progress, "database", sum(table.size_bytes for table in found))
        done = 0
        for table in found:
            size = 0
            for number, piece in enumerate(tables.dump(connection, table, PIECE_BYTES), 1):
                writer.add_packed(f"database/{table.name}/{number:06}", piece)
                size = min(size + len(piece), table.size_bytes)
                meter.at(done + size)
            done += table.size_bytes
        meter.at(done)
    manifest = Manifest(tables=tuple(found), sequences=numbers, left_out=tuple(others), missing=(), images="")
    return manifest, packs


def _packs(connection: Connection) -> list[str]:
    named = "SELECT DISTINCT split_part(place, ':', 1) FROM image WHERE place IS NOT NULL ORDER BY 1"
    return list(connection.execute(text(named)).scalars())


def _copy_packs(station: Station, packs: list[str], writer: Writer, progress: Progress) -> list[str]:
    """Copy the packs that rows refer to, where they lie in a folder; return those that are gone."""
    images = station.storage.images
    if images.type != "folder":
        return []
    missing = []
    for number, pack in enumerate(packs):
        progress("packs of images", number, len(packs))
        try:
            with (Path(str(images.options["path"])) / pack).open("rb") as file:
                writer.add_file(f"packs/{pack}", file)
        except FileNotFoundError:
            missing.append(f"pack {pack}")
        except OSError as error:
            raise StoreError(f"{pack}: cannot be read: {error.strerror}") from error
    progress("packs of images", len(packs), len(packs))
    return missing


def _images(station: Station) -> str:
    images = station.storage.images
    if images.type in {"database", "folder"}:
        return images.type
    named = ", ".join(f"{name} {value}" for name, value in sorted(images.options.items()))
    return f"{images.type}: {named} (not in this backup)"


def _note(engine: Engine, home: Home, who: str, header: Header, made: Backup) -> None:
    """Say in the audit trail that there is a backup now."""
    after = {"backup": header.backup, "manifest": made.digest, "size_bytes": made.size_bytes}
    with translated(), engine.connect() as connection:
        with connection.begin():
            head = audit.append(connection, who, _MADE, made.path.name[: audit.LONGEST_NAME], None, after)
        audit.Anchor(home.path).note(connection, head)
