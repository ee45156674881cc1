"""What a record becomes in PostgreSQL: rows of `storage/schema.py`, in the order of `COLUMNS`. Pure.

A record was checked as a whole when it came in (`config/messages.py`) and lies in the journal as it came. Here it is
read as plain JSON, which takes a third of the time of making a message of it once more, and is checked for what no row
can say; whatever is wrong with it all the same is an InputError.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Table

from config.errors import InputError
from config.messages import Event, Evidence, GateCommand, GateOutcome, GateReport, Judgement, Verdict
from storage import schema

Row = tuple[Any, ...]
Header = Mapping[str, Any]
Made = list[tuple[Table, Row]]

COLUMNS = {
    table: tuple(column.name for column in table.columns if column.server_default is None)
    for table in (schema.verdict, schema.view, schema.defect, schema.gate_report, schema.image, schema.event)
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_NS = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) * 10**9
_JUDGEMENTS = frozenset(judgement.value for judgement in Judgement)
_NO_FRAME, _NO_MAP = (None, None, None), (None, None)
_MAP_ITEM_BYTES = 2  # float16
_DEFLATE_LEVEL = 1  # higher ones save 1 % of a map and take half as long again


def rows(parts: Sequence[bytes], position: int) -> Made:
    """Return the rows of the record whose parts lie at `position`; raise InputError for what no row can say."""
    kind = bytes(parts[0]) if parts else b""
    make = _MAKERS.get(kind)
    if make is None:
        known = ", ".join(sorted(name.decode() for name in _MAKERS))
        raise InputError(f"{kind[:40]!r} is no kind of record: known are {known}")
    try:
        return make(from_json(parts[1], cache_strings="keys"), parts[2:], position)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{kind.decode()}: cannot be read: {type(error).__name__}: {error}") from error


def confirmed(command: str, outcome: str | None) -> bool:
    """Tell whether the PLC saw what the command asked for: all but PASS eject."""
    return outcome == (GateOutcome.PASSED if command == GateCommand.PASS else GateOutcome.EJECTED)


def _run_of(part_id: str, station: str, sequence: int) -> str:
    """Return the run that a part belongs to: its id is `<station>-<run>-<sequence, 8 digits>`."""
    run, _, _ = part_id[len(station) + 1 :].rpartition("-")
    if not run or f"{station}-{run}-{sequence:08}" != part_id:
        raise InputError(f"part_id {part_id!r:.80}: expected {station}-<run>-{sequence:08}")
    return str(run)


def _judgement(value: str) -> str:
    if value not in _JUDGEMENTS:
        raise InputError(f"verdict {value!r:.40}: there is no such verdict")
    return value


def _verdict(header: Header, payload: Sequence[bytes], position: int) -> Made:
    part_id, station, sequence, product = header["part_id"], header["station"], header["sequence"], header["product"]
    time = _time(header["trigger_time_ns"])
    views = header["views"]
    truth = header["truth"] or {}
    scores = [view["score"] for view in views if view["score"] is not None]
    row = (
        time,
        part_id,
        _run_of(part_id, station, sequence),
        sequence,
        station,
        header["line"],
        product,
        header["recipe"],
        header["recipe_version"],
        header["recipe_digest"],
        _judgement(header["verdict"]),
        header["reasons"],
        max(scores) if scores else None,
        header["gate"],
        header["trigger_ns"],
        header["judged_ns"],
        header["deadline_ns"],
        truth.get("good"),
        truth.get("defect"),
        truth.get("source"),
        truth.get("challenge", False),
        position,
    )
    made: Made = [(schema.verdict, row)]
    maps = iter(payload)
    for view in views:
        camera, frame_shape, map_shape = view["camera"], view["frame_shape"], view["map_shape"]
        view_row = (
            part_id,
            camera,
            time,
            _judgement(view["verdict"]),
            view["reasons"],
            view["score"],
            view["review_above"],
            view["reject_above"],
            view["bundle_digest"],
            *(frame_shape or _NO_FRAME),
            *(map_shape or _NO_MAP),
            _map(camera, map_shape, next(maps, b"")) if map_shape else None,
            view["worker"],
            view["batch_size"],
            view["received_ns"],
            view["started_ns"],
            view["finished_ns"],
        )
        made.append((schema.view, view_row))
        for index, region in enumerate(view["regions"]):
            defect_row = (part_id, camera, index, time, product, None, *_region(region, frame_shape))
            made.append((schema.defect, defect_row))
    if next(maps, None) is not None:
        raise InputError(f"{part_id}: more maps than views with a map_shape")
    return made


def _map(camera: str, shape: Sequence[int], content: bytes) -> bytes:
    height, width = shape
    if len(content) != height * width * _MAP_ITEM_BYTES:
        raise InputError(f"view {camera}: a float16 map of {height} x {width} is not {len(content)} bytes")
    return zlib.compress(content, _DEFLATE_LEVEL)


def _region(region: Header, frame_shape: Sequence[int] | None) -> Row:
    """Return a region's box, area and score, and where the middle of the box lies, as shares of the frame."""
    x_px, y_px, width_px, height_px = region["x_px"], region["y_px"], region["width_px"], region["height_px"]
    center: Row = (None, None)
    if frame_shape is not None and 0 not in frame_shape:
        center = (x_px + width_px / 2) / frame_shape[1], (y_px + height_px / 2) / frame_shape[0]
    return (x_px, y_px, width_px, height_px, region["area_px"], region["score"], *center)


def _gate_report(header: Header, _payload: Sequence[bytes], _position: int) -> Made:
    command, outcome = header["command"], header["outcome"]
    row = (
        header["part_id"],
        _time(header["trigger_time_ns"]),
        command,
        header["written_ns"],
        outcome,
        header["reported_ns"],
        confirmed(command, outcome),
    )
    return [(schema.gate_report, row)]


def _image(header: Header, payload: Sequence[bytes], _position: int) -> Made:
    part_id, camera, purpose, region = header["part_id"], header["camera"], header["purpose"], header["region"]
    if len(payload) != 1:
        raise InputError(f"{part_id}/{camera}: one picture expected, not {len(payload)} payload parts")
    key = (part_id, camera, purpose, schema.WHOLE if region is None else region, _time(header["trigger_time_ns"]))
    size = (header["width_px"], header["height_px"], len(payload[0]))
    return [(schema.image, (*key, header["encoding"], *size, payload[0], None))]


def _event(header: Header, _payload: Sequence[bytes], _position: int) -> Made:
    said = (header[name] for name in ("station", "service", "name", "severity", "state", "detail"))
    return [(schema.event, (header["event_id"], _time(header["time_ns"]), *said))]


def _time(unix_ns: int) -> datetime:
    if not 0 <= unix_ns < _LATEST_NS:
        raise InputError(f"time {unix_ns} ns: is not between the years 1970 and 9999")
    return _EPOCH + timedelta(microseconds=unix_ns // 1000)


_MAKERS: Mapping[bytes, Callable[[Header, Sequence[bytes], int], Made]] = {
    Verdict.kind.encode(): _verdict,
    GateReport.kind.encode(): _gate_report,
    Evidence.kind.encode(): _image,
    Event.kind.encode(): _event,
}
