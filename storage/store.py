"""Image stores: image bytes in packs outside the database, found again by the place that the row names.

A store plug-in is one file in `storage/stores` with `Options` and `Driver`. It keeps *packs*: a header and many images'
bytes after one another, written together because what costs is the fsync or the request, not the byte. What is in a
pack never changes, and nothing in it says where an image begins: its place does, with a checksum. So whatever a kill
leaves behind is bytes that no place names, never an image in halves. A pack that no row refers to is an orphan; its
age, not its day, says whether a writer may still be about to refer to it: a backlog is written long after its day.
"""

from __future__ import annotations

import re
import secrets
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from config import plugins
from config.errors import ImageLostError, InputError
from config.station import ImagesSection

HEADER = b"andon pack 1\n"  # of every pack, for people who find one
_PUT_BYTES = 16 * 1024 * 1024  # handed to the driver at once, so that the time of one request is bounded
_PACK = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,31})/([0-9]{4}-[0-9]{2}-[0-9]{2})/[0-9a-f]{16}\.pack")
_PLACE = re.compile(rf"({_PACK.pattern}):([1-9][0-9]{{0,14}}):(0|[1-9][0-9]{{0,9}}):([0-9a-f]{{8}})")


@dataclass(frozen=True)
class Pack:
    """What a listing tells of a pack."""

    name: str  # STATION/DAY/TOKEN.pack
    size_bytes: int
    written_at: datetime  # last, UTC, by the store's clock


class Driver(Protocol):
    """Packs by name. Its methods are called from any thread, and raise StoreError and nothing else.

    They end within a bounded time where the operating system lets them.
    """

    def write(self, under: str, contents: Sequence[bytes]) -> tuple[str, int]:
        """Keep `contents` after one another in a pack named by `pack_name(under)`, durable when this returns.

        Return the pack's name and the place of the first byte in it. Nobody else writes to that pack, and this driver
        for an hour at most, so that the pack's age tells when it is finished.
        """

    def read(self, pack: str, offset: int, length: int) -> bytes:
        """Return `length` bytes (at least one) from `offset` on, fewer where the pack ends before.

        Raise ImageLostError only where the store answers that there is no such pack.
        """

    def folders(self, under: str) -> list[str]:
        """Return the names of the folders in folder `under`, none where it is not there."""

    def packs(self, under: str) -> list[Pack]:
        """Return what is in folder `under`, none where it is not there."""

    def remove(self, pack: str) -> None:
        """Remove a pack; one that is gone already is no error."""

    def free_bytes(self) -> int | None:
        """Return how much more fits, None where the store does not say."""

    def close(self) -> None:
        """Release what is held; never raises."""


def pack_name(under: str) -> str:
    """Return a name for a new pack in folder `under` that no other writer gives."""
    return f"{under}/{secrets.token_hex(8)}.pack"


@dataclass(frozen=True)
class _Place:
    """Where an image's bytes are: `STATION/DAY/TOKEN.pack:OFFSET:LENGTH:CRC32`."""

    pack: str
    offset: int
    length: int
    crc32: int

    def __str__(self) -> str:
        return f"{self.pack}:{self.offset}:{self.length}:{self.crc32:08x}"


def _read_place(text: str) -> _Place:
    found = _PLACE.fullmatch(text)
    if found is None or not _is_day(found[3]) or int(found[4]) < len(HEADER):
        raise InputError(
            f"{text!r:.200} is no place in an image store, as STATION/2026-11-22/0123456789abcdef.pack:13:7:crc32"
        )
    return _Place(found[1], int(found[4]), int(found[5]), int(found[6], 16))


def pack_of(place: str) -> str:
    """Return the name of the pack that a place is in; raise InputError where it is no place."""
    return _read_place(place).pack


def connect(images: ImagesSection, station: str) -> Store | None:
    """Return the store that the station file names, None where images lie in the database. Nothing is asked of it yet.

    Raise ConfigurationError for a type that there is not, and for options or credentials that cannot be right.
    """
    if images.type == "database":
        return None
    module = plugins.load("storage.stores", images.type)
    driver: Driver = module.Driver(plugins.options(module, images.options, "storage.images.options"))
    return Store(driver, station)


class Store:
    """A station's images in packs, from any thread. Every method raises StoreError when the store does not answer.

    Stations may share a folder or a bucket: each lists and removes its own packs only, and reads all.
    """

    def __init__(self, driver: Driver, station: str) -> None:
        """Keep the packs of `station` by `driver`."""
        self._driver = driver
        self._station = station

    def put(self, day: date, contents: Sequence[bytes]) -> list[str]:
        """Keep images of `day` and return the place of each, in order; all are durable when this returns.

        It costs one fsync or request for every 16 MiB, not for every image: give it a whole transaction's. On
        StoreError none of them counts as kept; what is there of them all the same is an orphan.
        """
        places: list[str] = []
        for batch in _batches(contents):
            pack, offset = self._driver.write(f"{self._station}/{day:%Y-%m-%d}", batch)
            for content in batch:
                places.append(str(_Place(pack, offset, len(content), zlib.crc32(content))))
                offset += len(content)
        return places

    def get(self, place: str) -> bytes:
        """Return an image's bytes.

        Raise InputError where `place` is none, ImageLostError where the pack is gone, cut or damaged.
        """
        wanted = _read_place(place)
        # with the byte before it, which also an empty image has
        found = self._driver.read(wanted.pack, wanted.offset - 1, wanted.length + 1)
        content = found[1:]
        if len(found) <= wanted.length:
            raise ImageLostError(f"{place}: the pack ends {wanted.length + 1 - len(found)} bytes too early")
        if zlib.crc32(content) != wanted.crc32:
            raise ImageLostError(f"{place}: the bytes there are not the ones that were written (checksum)")
        return content

    def days(self) -> list[date]:
        """Return the days that this station has packs of, the first one first."""
        return sorted(date.fromisoformat(name) for name in self._driver.folders(self._station) if _is_day(name))

    def packs(self, day: date) -> list[Pack]:
        """Return this station's packs of a day."""
        return [pack for pack in self._driver.packs(f"{self._station}/{day:%Y-%m-%d}") if _PACK.fullmatch(pack.name)]

    def remove(self, pack: str) -> None:
        """Remove a pack of this station; one that is gone already is no error. Raise InputError for another name."""
        found = _PACK.fullmatch(pack)
        if found is None or not _is_day(found[2]) or found[1] != self._station:
            raise InputError(f"{pack!r:.200} is no pack of station {self._station}")
        self._driver.remove(pack)

    def size_bytes(self) -> int:
        """Return how much this station's packs take. All of them are listed for it."""
        return sum(pack.size_bytes for day in self.days() for pack in self.packs(day))

    def free_bytes(self) -> int | None:
        """Return how much more fits, None where the store does not say."""
        return self._driver.free_bytes()

    def close(self) -> None:
        """Release what is held; what is kept stays."""
        self._driver.close()


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _batches(contents: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Divide contents, in order, so that no batch is larger than it must be."""
    batch: list[bytes] = []
    size = 0
    for content in contents:
        if batch and size + len(content) > _PUT_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(content)
        size += len(content)
    if batch:
        yield batch
