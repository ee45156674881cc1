"""Bounds of what is stored: of the database, of its disk, and of an image store."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Connection, text

from config.station import RetentionSection
from storage.store import Store

MB = 1024 * 1024
_SOCKET_LINE = 4  # of postmaster.pid: the folder of the server's socket


@dataclass(frozen=True)
class Bound:
    """A limit in MB: to what is taken, or to what must be left free."""

    name: str  # the setting's
    measure: Callable[[], int | None]  # bytes; None: cannot be told
    limit_mb: int
    is_free: bool  # what is measured must not fall below it; else it must not rise above it
    of_images: bool = False  # concerns the image store

    def passed(self, slack: float = 0.0) -> bool:
        """Tell whether it is passed, or nearer than `slack` of it."""
        measured, limit = self.measure(), self.limit_mb * MB
        if measured is None:
            return False
        return measured < limit * (1 + slack) if self.is_free else measured > limit * (1 - slack)

    def said(self) -> str:
        """Say how things are."""
        measured = f"{(self.measure() or 0) // MB} MB are {'free' if self.is_free else 'taken'}"
        where = "the image store: " if self.of_images else "the database: " if self.is_free else ""
        return f"{where}storage.retention.{self.name} is {self.limit_mb}, but {measured}"


def of_disks(keep: RetentionSection, disk: Path | None, store: Store | None) -> list[Bound]:
    """Return the bounds that need no question to the database; `disk`: a folder of its disk, where that is known."""
    found = []
    if disk is not None:
        found.append(Bound("free_disk_mb", lambda: _free_bytes(disk), keep.free_disk_mb, is_free=True))
    if store is not None:
        found.append(Bound("free_disk_mb", store.free_bytes, keep.free_disk_mb, is_free=True, of_images=True))
    return found


def of_sizes(keep: RetentionSection, connection: Connection, store: Store | None) -> list[Bound]:
    """Return the bounds of what is taken, as the station file sets them."""
    found = []
    if keep.database_limit_mb is not None:
        found.append(
            Bound("database_limit_mb", lambda: _database_bytes(connection), keep.database_limit_mb, is_free=False)
        )
    if keep.images_limit_mb is not None and store is not None:
        found.append(Bound("images_limit_mb", store.size_bytes, keep.images_limit_mb, is_free=False, of_images=True))
    return found


def embedded_disk(home: Path, url: URL) -> Path | None:
    """Return the data folder if the database at `url` is the one that is embedded in the state folder `home`."""
    data, host = (home / "postgres").resolve(), url.query.get("host")
    if host == str(data):  # where its socket is, unless that path is too long
        return data
    try:
        said = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return data if len(said) > _SOCKET_LINE and said[_SOCKET_LINE] == host else None


def _free_bytes(folder: Path) -> int | None:
    try:
        state = os.statvfs(folder)
    except OSError:
        return None
    return state.f_bavail * state.f_frsize


def _database_bytes(connection: Connection) -> int:
    with connection.begin():
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
