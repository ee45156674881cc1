"""The file of a backup: a plain tar (POSIX ustar), written and read in pieces of bounded size.

Header and manifest are JSON. Members are regular files with names of ours, whatever their content; everything else is
refused before anything is touched, and so is a file whose digests are not those of its manifest.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import re
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

from pydantic import BaseModel, ValidationError

from config import files
from config.errors import InputError, StoreError
from deploy.backup.manifest import FORMAT, HEADER, MANIFEST, Header, Manifest, Member

PIECE_BYTES = 16 * 1024 * 1024  # held in memory at once
_BLOCK = tarfile.BLOCKSIZE
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,4}")
_PACKED = ".gz"
_GZIP = zlib.MAX_WBITS | 16
_SAMPLE_BYTES = 64 * 1024
_WORTH_PACKING = 0.9  # pictures are packed already: that is seen from a sample
_LARGEST_PACKED = 64 * 1024 * 1024  # unpacked in memory
_LARGEST_JSON = 256 * 1024 * 1024

Progress = Callable[[str, int, int], None]
Model = TypeVar("Model", bound=BaseModel)


class Meter:
    """Tell how far a long stage is, in megabytes."""

    def __init__(self, progress: Progress, stage: str, total_bytes: int) -> None:
        self._progress = progress
        self._stage = f"{stage}, MB"
        self._total = round(total_bytes / 1e6)
        self._told = -1

    def at(self, done_bytes: int) -> None:
        """Note that so much is through."""
        done = min(round(done_bytes / 1e6), self._total)
        if done != self._told:
            self._told = done
            self._progress(self._stage, done, self._total)


class Writer:
    """Write a backup beside its place and rename it when it is whole; use it in a `with` block."""

    def __init__(self, path: Path, header: Header, keep_free_bytes: int) -> None:
        """Begin `path`, leaving `keep_free_bytes` of its disk alone.

        Raise InputError where it is there already or being written, StoreError where the disk does not take it.
        """
        self.path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self._keep_free_bytes = keep_free_bytes
        self._members: dict[str, Member] = {}
        self._unsynced = 0
        self.size_bytes = 0
        if path.exists():
            raise InputError(f"{path}: is there already: a backup never overwrites one, name another file")
        try:
            self._file = os.fdopen(os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.truncate()
        except BlockingIOError:
            raise InputError(f"{self._partial}: another backup is writing it") from None
        except OSError as error:
            raise StoreError(f"{self._partial}: cannot be written: {error.strerror}") from error
        self.add(HEADER, header.model_dump_json(indent=2).encode())

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing of a backup that did not become whole."""
        if not self._file.closed:
            self._partial.unlink(missing_ok=True)
            with suppress(OSError):
                self._file.close()

    def add(self, name: str, content: bytes) -> None:
        """Add a member from memory."""
        self._begin(name, len(content))
        self._write(content)
        self._end(name, len(content), hashlib.sha256(content))

    def add_packed(self, name: str, content: bytes) -> None:
        """Add a member from memory, packed by gzip (and `.gz` behind its name) where that saves something."""
        sample = content[:_SAMPLE_BYTES]
        if len(content) <= _LARGEST_PACKED and len(gzip.compress(sample, 1)) < _WORTH_PACKING * len(sample):
            name, content = f"{name}{_PACKED}", gzip.compress(content, 1, mtime=0)
        self.add(name, content)

    def add_file(self, name: str, file: BinaryIO) -> None:
        """Add what a file holds now, in pieces; it may grow meanwhile, but not shrink."""
        size = left = os.fstat(file.fileno()).st_size
        self._begin(name, size)
        summed = hashlib.sha256()
        while left:
            piece = file.read(min(left, PIECE_BYTES))
            if not piece:
                raise StoreError(f"{file.name}: was shortened while it was copied: try again")
            self._write(piece)
            summed.update(piece)
            left -= len(piece)
        self._end(name, size, summed)

    def has(self, name: str) -> bool:
        """Tell whether there is such a member already."""
        return name in self._members

    def finish(self, manifest: Manifest) -> str:
        """Write the manifest, bring everything to disk and give the file its name; return the manifest's SHA-256."""
        content = manifest.model_copy(update={"members": self._members}).model_dump_json().encode()
        self.add(MANIFEST, content)
        try:
            self._file.write(bytes(2 * _BLOCK))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._partial.rename(self.path)
            self._file.close()
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from error
        return hashlib.sha256(content).hexdigest()

    def _begin(self, name: str, size: int) -> None:
        if not _NAME.fullmatch(name) or name in self._members:
            raise InputError(f"{name!r:.200}: no name for a member of a backup")
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = size, 0o600, int(time.time())
        try:
            self._write(header.tobuf(tarfile.USTAR_FORMAT))
        except ValueError as error:  # a name too long, or 8 GiB
            raise InputError(f"{name}: {error}") from error

    def _end(self, name: str, size: int, summed: hashlib._Hash) -> None:
        self._write(bytes(-size % _BLOCK))
        if name != HEADER:
            self._members[name] = Member(size=size, sha256=summed.hexdigest())

    def _write(self, content: bytes) -> None:
        """Write, and bring it to disk now and then: the line's own syncs must not wait for a gigabyte of ours."""
        try:
            self._file.write(content)
            self.size_bytes += len(content)
            self._unsynced += len(content)
            if self._unsynced < PIECE_BYTES:
                return
            self._unsynced = 0
            self._file.flush()
            os.fdatasync(self._file.fileno())
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            disk = os.fstatvfs(self._file.fileno())
        except OSError as error:
            raise StoreError(f"{self._partial}: cannot be written: {error.strerror}") from error
        if disk.f_bavail * disk.f_frsize < self._keep_free_bytes:
            raise StoreError(
                f"{self.path.parent}: fewer than {self._keep_free_bytes >> 20} MiB are free here now, which are not "
                "for backups: nothing is kept of this one"
            )


class Reader:
    """A backup that is whole: every member is there and is what the manifest says. Use it in a `with` block."""

    def __init__(self, path: Path, progress: Progress) -> None:
        """Read all of the file; raise InputError where it is damaged, cut, newer than this Andon, or none."""
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            self.header, self.manifest = self._verify(progress)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def names(self, folder: str) -> list[str]:
        """Return the members in a folder, in order."""
        return [name for name in self.manifest.members if name.startswith(f"{folder}/")]

    def read(self, name: str) -> bytes:
        """Return what a member holds, unpacked; it is not large."""
        content = b"".join(self.pieces(name))
        if not name.endswith(_PACKED):
            return content
        unpacker = zlib.decompressobj(wbits=_GZIP)
        try:
            unpacked = unpacker.decompress(content, _LARGEST_PACKED)
        except zlib.error as error:
            raise self._damaged(f"{name}: {error}") from error
        if not unpacker.eof:
            raise self._damaged(f"{name} is larger than anything that was packed")
        return unpacked

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield what a member holds, as it lies there; raise InputError where it has changed since it was verified."""
        offset, size = self._places[name]
        self._file.seek(offset)
        summed = hashlib.sha256()
        for piece in self._take(size):
            summed.update(piece)
            yield piece
        if summed.hexdigest() != self.manifest.members[name].sha256:
            raise self._damaged(f"{name} changed while it was read")

    def _verify(self, progress: Progress) -> tuple[Header, Manifest]:
        meter = Meter(progress, "verified", os.fstat(self._file.fileno()).st_size)
        self._places: dict[str, tuple[int, int]] = {}
        found: dict[str, str] = {}
        header = None
        last = b""
        while (entry := self._next(first=header is None)) is not None:
            name, size = entry
            keeps = name in {HEADER, MANIFEST}
            if name in self._places or (keeps and size > _LARGEST_JSON):
                raise self._damaged(f"{name} is there twice, or too large")
            self._places[name] = (self._file.tell(), size)
            summed = hashlib.sha256()
            kept = bytearray()
            for piece in self._take(size):
                summed.update(piece)
                if keeps:
                    kept += piece
            meter.at(self._file.tell())
            if self._file.read(-size % _BLOCK).strip(b"\0"):
                raise self._damaged(f"{name} has something behind its end")
            if header is None:
                header = self._parse_header(bytes(kept))
            found[name] = summed.hexdigest()
            last = bytes(kept)
        if header is None or list(found)[-1] != MANIFEST:
            raise self._damaged("it has no manifest at its end: it was cut off or is damaged")
        manifest = self._parse(Manifest, MANIFEST, last)
        self._compare(found, manifest)
        return header, manifest

    def _next(self, *, first: bool) -> tuple[str, int] | None:
        """Return name and size of the next member, None at the end."""
        block = self._file.read(_BLOCK)
        if first and (len(block) < _BLOCK or block[: len(HEADER) + 1] != f"{HEADER}\0".encode()):
            raise InputError(f"{self.path}: is no backup of Andon")
        if not block or block == bytes(_BLOCK):
            return None
        try:
            entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, ValueError):
            raise self._damaged(f"what stands at byte {self._file.tell() - _BLOCK} is no member") from None
        if entry.type != tarfile.REGTYPE or not _NAME.fullmatch(entry.name) or entry.size < 0:
            raise InputError(f"{self.path}: {entry.name!r:.200} is nothing that a backup of Andon holds")
        return entry.name, entry.size

    def _take(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            piece = self._file.read(min(left, PIECE_BYTES))
            if not piece:
                raise self._damaged("it ends in the middle of a member: it was cut off")
            left -= len(piece)
            yield piece

    def _parse_header(self, content: bytes) -> Header:
        try:
            said = json.loads(content)["format"]
        except (ValueError, TypeError, KeyError):
            raise self._damaged(f"{HEADER} does not say which format it has") from None
        if said != FORMAT:
            raise InputError(f"{self.path}: has format {said!r:.20}, this Andon reads {FORMAT}: use a newer Andon")
        return self._parse(Header, HEADER, content)

    def _parse(self, model: type[Model], name: str, content: bytes) -> Model:
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise self._damaged(f"{name}: {files.explain(error)}") from None

    def _compare(self, found: dict[str, str], manifest: Manifest) -> None:
        said = {name: member.sha256 for name, member in manifest.members.items()}
        present = {name: digest for name, digest in found.items() if name not in {HEADER, MANIFEST}}
        for name in [*said, *present]:
            if name not in present:
                raise self._damaged(f"{name} is missing")
            if said.get(name) != present[name]:
                raise self._damaged(f"{name} is not what was written (SHA-256)")

    def _damaged(self, what: str) -> InputError:
        return InputError(f"{self.path}: this backup is damaged: {what}. Nothing has been touched")
