"""What a record becomes in PostgreSQL: rows of `storage/schema.py`, in the order of `COLUMNS`. Pure.

Times stand as PostgreSQL keeps them, in microseconds since 2000, and names as its array of them: for these psycopg has
no encoder in C, and its others took longer than all the rest of a row.

A record lies in the journal as it came. It is read as the message that it is (`config/messages.py`), which also says
that every number fits its column, and is checked for what no row can say.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import Table

from config.errors import InputError, MessageError
from config.messages import Appearance, Event, Evidence, GateCommand, GateOutcome, GateReport, Region, Verdict, decode
from storage import schema

Row = tuple[Any, ...]
Made = list[tuple[Table, Row]]

COLUMNS = {
    table: tuple(column.name for column in table.columns if column.server_default is None)
    for table in (
        *(schema.verdict, schema.view, schema.defect, schema.gate_report, schema.image, schema.event),
        schema.appearance,
    )
}
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_US = int(EPOCH.timestamp()) * 1_000_000
_TEXT = 25  # the oid of PostgreSQL's text
_NO_TRUTH, _NO_FRAME, _NO_MAP = (None, None, None, False), (None, None, None), (None, None)
_HOUR_US = 3_600_000_000
_MAP_ITEM_BYTES = 2  # float16
_DEFLATE_LEVEL = 1  # higher ones save 1 % of a map and take half as long again


def rows(parts: Sequence[bytes], position: int) -> Made:
    """Return the rows of the record whose parts lie at `position`; raise InputError for what no row can say."""
    try:
        header, payload = decode(parts)
    except MessageError as error:
        raise InputError(str(error)) from error
    match header:
        case Verdict():
            return _verdict(header, payload, position)
        case GateReport():
            return _gate_report(header)
        case Evidence():
            return _image(header, payload)
        case Event():
            return _event(header)
        case Appearance():
            return _appearance(header)
    raise InputError(f"{header.kind}: is no kind of record: verdicts, gate reports, evidence, events, appearances are")


def moment(time_us: int) -> datetime:
    """Return the time that stands as `time_us` in a row."""
    return EPOCH + timedelta(microseconds=time_us)


def confirmed(command: str, outcome: str | None) -> bool:
    """Tell whether the PLC saw what the command asked for: all but PASS eject."""
    return outcome == (GateOutcome.PASSED if command == GateCommand.PASS else GateOutcome.EJECTED)


def _run_of(part_id: str, station: str, sequence: int) -> str:
    """Return the run that a part belongs to: its id is `<station>-<run>-<sequence, 8 digits>`."""
    named, _, number = part_id.rpartition("-")
    run = named[len(station) + 1 :]
    if not run or not named.startswith(f"{station}-") or number != f"{sequence:08}":
        raise InputError(f"part_id {part_id!r:.80}: expected {station}-<run>-{sequence:08}")
    return run


def _verdict(header: Verdict, payload: Sequence[bytes], position: int) -> Made:
    part_id, product, truth = header.part_id, header.product, header.truth
    time = _time(header.trigger_time_ns)
    scores = [view.score for view in header.views if view.score is not None]
    row = (
        time,
        part_id,
        _run_of(part_id, header.station, header.sequence),
        header.sequence,
        header.station,
        header.line,
        product,
        header.recipe,
        header.recipe_version,
        header.recipe_digest,
        header.verdict,
        _array(header.reasons),
        max(scores) if scores else None,
        header.gate,
        header.trigger_ns,
        header.judged_ns,
        header.deadline_ns,
        *((truth.good, truth.defect, truth.source, truth.challenge) if truth else _NO_TRUTH),
        position,
    )
    made: Made = [(schema.verdict, row)]
    maps = iter(payload)
    for view in header.views:
        view_row = (
            part_id,
            view.camera,
            time,
            view.verdict,
            _array(view.reasons),
            view.score,
            view.review_above,
            view.reject_above,
            view.bundle_digest,
            *(view.frame_shape or _NO_FRAME),
            *(view.map_shape or _NO_MAP),
            _map(view.camera, view.map_shape, next(maps, b"")) if view.map_shape else None,
            view.worker,
            view.batch_size,
            view.received_ns,
            view.started_ns,
            view.finished_ns,
        )
        made.append((schema.view, view_row))
        for index, region in enumerate(view.regions):
            defect_row = (part_id, view.camera, index, time, product, None, *_region(region, view.frame_shape))
            made.append((schema.defect, defect_row))
    if next(maps, None) is not None:
        raise InputError(f"{part_id}: more maps than views with a map_shape")
    return made


def _map(camera: str, shape: Sequence[int], content: bytes) -> bytes:
    height, width = shape
    if len(content) != height * width * _MAP_ITEM_BYTES:
        raise InputError(f"view {camera}: a float16 map of {height} x {width} is not {len(content)} bytes")
    return zlib.compress(content, _DEFLATE_LEVEL)


def _region(region: Region, frame_shape: Sequence[int] | None) -> Row:
    """Return a region's box, area and score, and where the middle of the box lies, as shares of the frame."""
    center: Row = (None, None)
    if frame_shape is not None and 0 not in frame_shape:
        height_px, width_px, _ = frame_shape
        center = (region.x_px + region.width_px / 2) / width_px, (region.y_px + region.height_px / 2) / height_px
    return (*astuple(region), *center)


def _gate_report(header: GateReport) -> Made:
    row = (
        header.part_id,
        _time(header.trigger_time_ns),
        header.command,
        header.written_ns,
        header.outcome,
        header.reported_ns,
        confirmed(header.command, header.outcome),
    )
    return [(schema.gate_report, row)]


def _image(header: Evidence, payload: Sequence[bytes]) -> Made:
    part_id, camera, region = header.part_id, header.camera, header.region
    if len(payload) != 1:
        raise InputError(f"{part_id}/{camera}: one picture expected, not {len(payload)} payload parts")
    key = (part_id, camera, header.purpose, schema.WHOLE if region is None else region, _time(header.trigger_time_ns))
    size = (header.width_px, header.height_px, len(payload[0]))
    return [(schema.image, (*key, header.encoding, *size, payload[0], None))]


def _event(header: Event) -> Made:
    said = (header.station, header.service, header.name, header.severity, header.state, header.detail)
    return [(schema.event, (header.event_id, _time(header.time_ns), *said))]


def _appearance(header: Appearance) -> Made:
    hour = _time(header.time_ns) // _HOUR_US * _HOUR_US
    sums = (header.brightness_sum, header.brightness_squares, header.focus_sum, header.focus_squares)
    return [(schema.appearance, (hour, header.station, header.camera, header.product, header.frames, *sums))]


def _time(unix_ns: int) -> int:
    return unix_ns // 1000 - _EPOCH_US


@lru_cache(1024)
def _array(names: tuple[str, ...]) -> str:
    """Return an array of short names as PostgreSQL sends and receives it (array_send in arrayfuncs.c).

    It is all ASCII, so it can go as a text, for which psycopg has an encoder in C.
    """
    if not names:
        return struct.pack("!iii", 0, 0, _TEXT).decode("ascii")
    head = struct.pack("!iiiii", 1, 0, _TEXT, len(names), 1)
    return (head + b"".join(struct.pack("!i", len(name)) + name.encode() for name in names)).decode("ascii")
