"""What is filtered or picked, to take away whole: written beside, watched from the page, sent as a ZIP.

Another process writes it (`wanted.py`), and this one only packs the files as they leave: nothing is held in memory, and
a folder is on disk until it is fetched or forgotten. Who began an export sees it, and nobody else does.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as Place
from typing import Annotated, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from config.errors import ServiceError
from storage.console.access import needs
from storage.console.context import TheConsole
from storage.console.models import Problem
from storage.console.wanted import Exporting, Form, Standing, Wanted, Writing
from storage.ledger import Ledger
from storage.people import Person, Role
from storage.query.filters import Filter, Name

MOST_PARTS = 100_000
LIMIT_BYTES = 8_000_000_000
_AT_ONCE = 2
_KEPT = 4
_KEPT_S = 900.0  # after its end, and after it was last fetched
_PIECE_BYTES = 1 << 20
_PACKED = {".jpg", ".png", ".parquet"}  # nothing is won by packing these again


class Export(BaseModel):
    """One export; its file is there once it has ended without a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    name: str = Field(description="what its file is called")
    standing: Standing


@dataclass
class _Kept:
    id: str
    name: str
    person: str
    writing: Writing
    at_s: float  # when it was begun, had ended, or was fetched last
    ended: bool = False
    sent: int = 0  # how many fetch it at this moment

    @property
    def export(self) -> Export:
        return Export(id=self.id, name=self.name, standing=self.writing.standing)


class Exports:
    """The exports of one console, in folders of `folder`. Safe to use from several threads."""

    def __init__(self, exporting: Exporting, ledger: Ledger, folder: Place, spare_bytes: int) -> None:
        """Forget what a console before this one has left; `spare_bytes` of the disk are never taken."""
        self._exporting = exporting
        self._ledger = ledger
        self._folder = folder
        self._spare_bytes = spare_bytes
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        shutil.rmtree(folder, ignore_errors=True)

    def begin(self, wanted: Wanted, name: str, person: str) -> Export:
        """Begin to write; raise ServiceError where too many are under way, or the disk is too full."""
        self._tidy()
        with self._lock:
            if sum(not kept.writing.standing.ended for kept in self._kept.values()) >= _AT_ONCE:
                raise ServiceError(f"{_AT_ONCE} exports are under way already: wait until one has ended")
            idle = [one for one in self._kept.values() if one.writing.standing.ended and not one.sent]
            if len(self._kept) >= _KEPT and idle:
                self._forget(min(idle, key=lambda one: one.at_s))
            self._folder.mkdir(exist_ok=True)
            room_bytes = shutil.disk_usage(self._folder).free - self._spare_bytes
            if room_bytes <= 0:
                raise ServiceError("the disk is too full to write an export: make room, or ask for less")
            number = uuid.uuid4().hex[:12]
            with self._ledger.changing() as change:
                said = wanted.model_dump(mode="json", exclude_defaults=True)
                change.enter(person, "export.begun", number, None, {"form": wanted.form.value, **said})
            writing = self._exporting.begin(wanted, self._folder / number, min(LIMIT_BYTES, room_bytes))
            kept = self._kept[number] = _Kept(number, name, person, writing, time.monotonic())
        return kept.export

    def of(self, person: str) -> tuple[Export, ...]:
        """Return the exports that somebody has begun, the newest first."""
        self._tidy()
        with self._lock:
            return tuple(kept.export for kept in reversed(self._kept.values()) if kept.person == person)

    def find(self, number: str, person: str) -> Export | None:
        """Return an export that somebody has begun; None if there is none."""
        return next((one for one in self.of(person) if one.id == number), None)

    def pieces(self, number: str) -> Iterator[bytes]:
        """Yield the ZIP of one that has ended well, piece by piece."""
        with self._lock:
            kept = self._kept[number]
            kept.sent += 1
        try:
            yield from _zipped(self._folder / number, kept.name)
        finally:
            with self._lock:
                kept.sent -= 1
                kept.at_s = time.monotonic()

    def remove(self, number: str) -> None:
        """End an export if it is under way, and remove what there is of it."""
        with self._lock:
            if kept := self._kept.get(number):
                self._forget(kept)

    def _tidy(self) -> None:
        """Forget what nobody has fetched for a while."""
        now_s = time.monotonic()
        with self._lock:
            for kept in tuple(self._kept.values()):
                if not kept.ended and kept.writing.standing.ended:
                    kept.ended, kept.at_s = True, now_s
                if kept.ended and not kept.sent and now_s - kept.at_s > _KEPT_S:
                    self._forget(kept)

    def _forget(self, kept: _Kept) -> None:
        kept.writing.stop()
        del self._kept[kept.id]
        for path in (self._folder / kept.id, self._folder / f"{kept.id}.partial"):
            shutil.rmtree(path, ignore_errors=True)


class _Sink:
    """What a ZIP is written to: it is taken from here as it grows."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size_bytes = 0

    def write(self, piece: bytes) -> int:
        self._pieces.append(bytes(piece))
        self.size_bytes += len(piece)
        return len(piece)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces, self.size_bytes = [], 0
        return taken


def _zipped(folder: Place, name: str) -> Iterator[bytes]:
    """Yield `folder` as a ZIP in which it is called `name`; a file is read only when its turn comes."""
    sink = _Sink()
    with ZipFile(sink, "w") as archive:  # type: ignore[call-overload]  # write() and flush() are all that it calls
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            about = ZipInfo.from_file(path, f"{name}/{path.relative_to(folder)}")
            about.compress_type = ZIP_STORED if path.suffix in _PACKED else ZIP_DEFLATED
            with path.open("rb") as file, archive.open(about, "w") as member:
                while piece := file.read(_PIECE_BYTES):
                    member.write(piece)
                    if sink.size_bytes >= _PIECE_BYTES:
                        yield sink.take()
    yield sink.take()


# Routes

Operator = Annotated[Person, needs(Role.OPERATOR)]
Number = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$", description="an export's id")]
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "you have begun no such export"}}
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {}}, "description": "a folder, packed"},
    409: {"model": Problem, "description": "it has not ended, or with a fault"},
}

router = APIRouter(prefix="/api/exports", tags=["exports"])


class ExportQuery(Filter):
    """Which parts, and how they are to be written."""

    form: Form = Field(alias="as", description="mvtec: of one product and one camera")


@router.post("", status_code=201)
def begin(console: TheConsole, asked: Annotated[ExportQuery, Query()], person: Operator) -> Export:
    """Begin to write the parts that the filter finds, 100,000 and 8 GB of pictures at most."""
    chosen = Filter.model_validate(asked.model_dump(exclude={"form"}))
    counts = console.query.counts(chosen)
    if counts.total > MOST_PARTS or counts.at_least:
        raise HTTPException(
            422,
            f"the filters find more than {MOST_PARTS:,} parts: narrow them, or write them at the station with "
            "`andon export`",
        )
    if not counts.total:
        raise HTTPException(422, "the filters find no part: widen them")
    name = f"{console.station.station}-{asked.form.value}"
    return console.exports.begin(Wanted(form=asked.form, chosen=chosen), name, person.name)


@router.post("/picks", status_code=201)
def begin_picks(
    console: TheConsole, product: Name, camera: Name, person: Annotated[Person, needs(Role.ENGINEER)]
) -> Export:
    """Begin to write the training set of a product's camera, as `andon train` takes it."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{product}-{camera}").strip("-.") or "picks"
    return console.exports.begin(Wanted(product=product, camera=camera), name, person.name)


@router.get("")
def exports(console: TheConsole, person: Operator) -> tuple[Export, ...]:
    """Return the exports that you have begun and that are kept, the newest first."""
    return console.exports.of(person.name)


@router.get("/{number}", responses=_UNKNOWN)
def export(console: TheConsole, number: Number, person: Operator) -> Export:
    """Return how far an export is."""
    return _find(console, number, person)


@router.get("/{number}/file", responses=_UNKNOWN | _ZIP, response_class=StreamingResponse)
def file(console: TheConsole, number: Number, person: Operator) -> StreamingResponse:
    """Return an export that has ended; it is kept for a quarter of an hour more."""
    found = _find(console, number, person)
    if not found.standing.ended or found.standing.fault:
        raise HTTPException(409, found.standing.fault or "this export has not ended: wait until `ended`")
    headers = {"Content-Disposition": f'attachment; filename="{found.name}.zip"'}
    return StreamingResponse(console.exports.pieces(number), media_type="application/zip", headers=headers)


@router.delete("/{number}", status_code=204, responses=_UNKNOWN)
def remove(console: TheConsole, number: Number, person: Operator) -> None:
    """End an export if it is under way, and remove what there is of it."""
    _find(console, number, person)
    console.exports.remove(number)


def _find(console: TheConsole, number: str, person: Person) -> Export:
    found = console.exports.find(number, person.name)
    if found is None:
        raise HTTPException(404, "you have begun no such export, or it is not kept any more: begin it again")
    return found
