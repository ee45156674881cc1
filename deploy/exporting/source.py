"""What is exported: parts in the order of time, what is said of them, and their pictures; counted as it goes."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self
from urllib.parse import quote

from config.errors import ImageLostError, InputError
from config.home import Home
from storage import store
from storage.query.answers import ImageRef, Part
from storage.query.filters import Filter
from storage.query.labels import Labels, labels
from storage.query.reading import reading
from storage.query.service import QueryService
from storage.store import Store

_AT_ONCE = 200  # parts whose labels are asked for together
_SUFFIXES = {"jpeg": ".jpg", "png": ".png"}
_UNSAFE_START = re.compile(r"^[.~-]")
_LONGEST = 108  # bytes: two of them make a picture's name, which may have 255, and a Korean letter takes 9


@dataclass(frozen=True)
class Item:
    """A part, and what is said of it."""

    part: Part
    labels: Labels

    def image(self, camera: str) -> ImageRef | None:
        """Return the whole image of a view, None where it is not kept."""
        found = (ref for ref in self.part.images if ref.camera == camera and ref.purpose == "image")
        return next(found, None)


class Room:
    """How many bytes the pictures of an export may take; without a limit all that there are."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Count a picture; raise InputError where it is one too many."""
        self._taken_bytes += size_bytes
        if self._limit_bytes is not None and self._taken_bytes > self._limit_bytes:
            raise InputError(
                f"the pictures take more than {self._limit_bytes / 1e9:g} GB: narrow the filters, "
                "or write them at the station with `andon export`"
            )


class Source:
    """The parts that a filter means, to be gone through once."""

    def __init__(self, url: str, store: Store | None, chosen: Filter, *, pictures: bool) -> None:
        """Ask nothing yet; `pictures`: tables are to have them beside."""
        self.chosen = chosen
        self.pictures = pictures
        self.counted: Counter[str] = Counter()  # what was written, and what could not be
        self.progress: Callable[[int], None] = lambda _: None
        self.room = Room()
        self._url = url
        self._service = QueryService(url, store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.close()

    def total(self) -> tuple[int, bool]:
        """Return how many parts there are, and whether there may be more."""
        counts = self._service.counts(self.chosen)
        return counts.total, counts.at_least

    def items(self) -> Iterator[Item]:
        """Yield the parts, the oldest first."""
        parts = iter(self._service.stream(self.chosen))
        while some := list(islice(parts, _AT_ONCE)):
            with reading(self._url) as connection:
                said = labels(connection, {part.part_id: part.trigger_time for part in some})
            for part in some:
                yield Item(part, said[part.part_id])
                self.counted["parts"] += 1
                self.progress(self.counted["parts"])

    def save(self, part: Part, ref: ImageRef, folder: Path, stem: str) -> str | None:
        """Write a picture as `stem` with its suffix; return the file's name, None where its bytes are gone."""
        try:
            content = self._service.image(part.part_id, ref.camera, ref.purpose, ref.region)
        except ImageLostError:
            content = None
        if content is None:
            self.counted["images_lost"] += 1
            return None
        self.room.take(len(content))
        folder.mkdir(parents=True, exist_ok=True)
        name = stem + _SUFFIXES[ref.encoding]
        with (folder / name).open("xb") as file:
            file.write(content)
        self.counted["images"] += 1
        return name


def store_of(home: Home) -> Store | None:
    """Return the store of the station's images; None where they are in the database, or there is no station file."""
    if not (home.path / "station.json").exists():
        return None
    station = home.read_station()
    return store.connect(station.storage.images, station.station)


def file_name(text: str) -> str:
    """Return a name that a file may have, of `_LONGEST` bytes at most, a different one for every text."""
    safe = _UNSAFE_START.sub(lambda start: f"%{ord(start[0]):02X}", quote(text, safe=" +,=@()"))
    if len(safe) <= _LONGEST:
        return safe
    mark = f"%.{hashlib.sha256(text.encode()).hexdigest()[:16]}"  # no shorter text has a name with a %. in it
    return safe[: _LONGEST - len(mark)] + mark


def picture_stem(ref: ImageRef) -> str:
    """Return a picture's name among those of its part."""
    number = "" if ref.region is None else f"-{ref.region}"
    return f"{file_name(ref.camera)}-{ref.purpose}{number}"
