"""Packs as files of a folder: of a disk of its own, or of a share that is mounted."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from pydantic import BaseModel, ConfigDict, Field, field_validator

from config.errors import ConfigurationError, ImageLostError, StoreError
from storage.store import HEADER, Pack, pack_name

_PACK_BYTES = 64 * 1024 * 1024  # then the next pack begins: a day of a busy line is hundreds of files, not millions
_PACK_NS = 3600 * 1_000_000_000


class Options(BaseModel):
    """`[storage.images.options]` of the station file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: Path = Field(description="absolute path of the folder; it must exist")

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError("must be an absolute path: a daemon's working folder is not yours")
        return path


class Driver:
    """Append to one open pack, with one fdatasync for all images that are put together.

    Appending is no slower than a file for each put, and leaves hundreds of files of a busy day, not a million. The
    folder itself is never made and must stay the one it was, lest images fill the disk below an absent mount.
    """

    def __init__(self, options: Options) -> None:
        """Raise ConfigurationError where the folder is not there or may not be written."""
        self._root = options.path
        self._open: _OpenPack | None = None
        self._lock = Lock()
        where = f"storage.images.options.path: {self._root}"
        try:
            state = self._root.stat()
        except OSError as error:
            raise ConfigurationError(
                f"{where}: {error.strerror}: make the folder on the disk or share that is meant, or mount that; "
                "it is not made for you, lest images fill the disk below an absent mount"
            ) from error
        if not stat.S_ISDIR(state.st_mode):
            raise ConfigurationError(f"{where}: not a folder")
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            raise ConfigurationError(f"{where}: user {os.geteuid()} may not read and write there: chown or chmod it")
        self._inode = state.st_ino  # the same after the share was mounted again, another while it is not

    def write(self, under: str, contents: Sequence[bytes]) -> tuple[str, int]:
        """Append, and sync; where that fails, take back what there is of it and let the pack be."""
        with self._lock, _translated(self._root / under):
            pack = self._open
            if pack is None or pack.under != under or pack.is_full():
                self._close_pack()
                self._check_root()
                pack = self._open = _OpenPack(self._root, under)
            try:
                return pack.name, pack.append(contents)
            except OSError:
                self._close_pack()
                raise

    def read(self, pack: str, offset: int, length: int) -> bytes:
        """Read a piece of a file."""
        with _translated(self._root / pack):
            try:
                descriptor = os.open(self._root / pack, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                self._check_root()
                raise ImageLostError(f"image store: {self._root / pack}: the pack is gone") from error
            try:
                length = min(length, os.fstat(descriptor).st_size - offset)
                return os.pread(descriptor, length, offset) if length > 0 else b""
            finally:
                os.close(descriptor)

    def folders(self, under: str) -> list[str]:
        """List the folders in a folder."""
        with _translated(self._root / under), suppress(FileNotFoundError), os.scandir(self._root / under) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return []

    def packs(self, under: str) -> list[Pack]:
        """List the files in a folder."""
        found = []
        with _translated(self._root / under), suppress(FileNotFoundError), os.scandir(self._root / under) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # removed meanwhile
                    state = entry.stat(follow_symlinks=False)
                    written_at = datetime.fromtimestamp(state.st_mtime, UTC)
                    found.append(Pack(f"{under}/{entry.name}", state.st_size, written_at))
        return sorted(found, key=lambda pack: pack.name)

    def remove(self, pack: str) -> None:
        """Remove a file, and the day's folder with the last one."""
        path = self._root / pack
        with _translated(path):
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or gone
                path.parent.rmdir()

    def free_bytes(self) -> int:
        """Return what the file system has left for us."""
        with _translated(self._root):
            state = os.statvfs(self._root)
            return state.f_bavail * state.f_frsize

    def close(self) -> None:
        """Close the open pack."""
        with self._lock:
            self._close_pack()

    def _check_root(self) -> None:
        if self._root.stat().st_ino != self._inode:
            raise StoreError(
                f"image store: {self._root} is not the folder that it was at the start: is its disk or share mounted?"
            )

    def _close_pack(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class _OpenPack:
    """A file that only this object appends to."""

    def __init__(self, root: Path, under: str) -> None:
        """Make the file; it is durable with the first append."""
        self.under = under
        self.name = pack_name(under)
        self._path = root / self.name
        self._made_ns = time.monotonic_ns()
        self._end = 0
        self._folders = (root, self._path.parent.parent, self._path.parent)
        try:
            self._descriptor = self._create()
        except FileNotFoundError:  # the day's last pack was removed just now, and its folder with it
            self._descriptor = self._create()

    def _create(self) -> int:
        for folder in self._folders[1:]:
            with suppress(FileExistsError):
                folder.mkdir(0o750)
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def is_full(self) -> bool:
        """Say whether the next pack's time has come."""
        return self._end >= _PACK_BYTES or time.monotonic_ns() - self._made_ns >= _PACK_NS

    def append(self, contents: Sequence[bytes]) -> int:
        """Append and sync; return where the first byte is. After an OSError the file is as it was before."""
        begin = self._end or len(HEADER)
        new = memoryview(b"".join(contents if self._end else [HEADER, *contents]))
        try:
            written = 0
            while written < len(new):
                written += os.write(self._descriptor, new[written:])
            os.fdatasync(self._descriptor)
            if not self._end:
                for folder in self._folders:
                    _sync_folder(folder)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            if not self._end:
                with suppress(OSError):
                    self._path.unlink()
            raise
        self._end += len(new)
        return begin

    def close(self) -> None:
        """Close the file; everything in it is synced."""
        with suppress(OSError):
            os.close(self._descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"image store: {error.filename or path}: {error.strerror}") from error
