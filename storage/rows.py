"""What a record becomes in PostgreSQL: rows of `storage/schema.py`, in the order of `COLUMNS`. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Integer, SmallInteger, Table

from config.errors import InputError
from config.messages import Event, Evidence, GateCommand, GateOutcome, GateReport, Region, Verdict, View
from storage import schema

Row = tuple[Any, ...]
COLUMNS = {
    table: tuple(column.name for column in table.columns if column.server_default is None)
    for table in (schema.verdict, schema.view, schema.defect, schema.gate_report, schema.image, schema.event)
}
_BITS: Mapping[type, int] = {BigInteger: 64, Integer: 32, SmallInteger: 16}
_INTEGERS = {
    table: tuple(
        (index, 2 ** (_BITS[type(table.c[name].type)] - 1))
        for index, name in enumerate(names)
        if type(table.c[name].type) in _BITS
    )
    for table, names in COLUMNS.items()
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_NS = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) * 10**9
_MAP_ITEM_BYTES = 2  # float16
_DEFLATE_LEVEL = 1  # higher ones save 1 % of a map and take half as long again


def rows(message: object, payload: Sequence[bytes], position: int) -> Iterator[tuple[Table, Row]]:
    """Yield the rows of a record that lies at `position`; raise InputError for what no row can say."""
    for table, row in _made(message, payload, position):
        for index, bound in _INTEGERS[table]:
            value = row[index]
            if value is not None and not -bound <= value < bound:  # psycopg would cut it to its lowest bits
                raise InputError(f"{table.name}.{COLUMNS[table][index]}: {value} does not fit")
        yield table, row


def run_of(verdict: Verdict) -> str:
    """Return the run that a part belongs to: its id is `<station>-<run>-<sequence, 8 digits>`."""
    before, after = f"{verdict.station}-", f"-{verdict.sequence:08}"
    run = verdict.part_id.removeprefix(before).removesuffix(after)
    if not run or f"{before}{run}{after}" != verdict.part_id:
        raise InputError(f"part_id {verdict.part_id!r:.80}: expected {before}<run>{after}")
    return run


def confirmed(command: GateCommand, outcome: GateOutcome | None) -> bool:
    """Tell whether the PLC saw what the command asked for: all but PASS eject."""
    return outcome is (GateOutcome.PASSED if command is GateCommand.PASS else GateOutcome.EJECTED)


def _made(message: object, payload: Sequence[bytes], position: int) -> Iterator[tuple[Table, Row]]:
    match message:
        case Verdict():
            yield from _verdict(message, payload, position)
        case GateReport():
            yield schema.gate_report, _gate_report(message)
        case Evidence():
            yield schema.image, _image(message, payload)
        case Event():
            yield schema.event, _event(message)
        case _:
            raise InputError(f"{type(message).__name__} is no record: expected Verdict, GateReport, Evidence or Event")


def _verdict(verdict: Verdict, payload: Sequence[bytes], position: int) -> Iterator[tuple[Table, Row]]:
    time = _time(verdict.trigger_time_ns)
    scores = [view.score for view in verdict.views if view.score is not None]
    truth = verdict.truth
    yield (
        schema.verdict,
        (
            time,
            verdict.part_id,
            run_of(verdict),
            verdict.sequence,
            verdict.station,
            verdict.line,
            verdict.product,
            verdict.recipe,
            verdict.recipe_version,
            verdict.recipe_digest,
            verdict.verdict.value,
            [reason.value for reason in verdict.reasons],
            max(scores, default=None),
            verdict.gate.value,
            verdict.trigger_ns,
            verdict.judged_ns,
            verdict.deadline_ns,
            truth.good if truth else None,
            truth.defect if truth else None,
            truth.source if truth else None,
            truth.challenge if truth else False,
            position,
        ),
    )
    maps = iter(payload)
    for view in verdict.views:
        yield schema.view, _view(verdict.part_id, time, view, _map(view, maps))
        for index, region in enumerate(view.regions):
            key = (verdict.part_id, view.camera, index, time, verdict.product, None)
            box = (region.x_px, region.y_px, region.width_px, region.height_px, region.area_px)
            yield schema.defect, (*key, *box, region.score, *_center(region, view.frame_shape))
    if next(maps, None) is not None:
        raise InputError(f"{verdict.part_id}: more maps than views with a map_shape")


def _map(view: View, maps: Iterator[bytes]) -> bytes | None:
    if view.map_shape is None:
        return None
    content = next(maps, b"")
    height, width = view.map_shape
    if len(content) != height * width * _MAP_ITEM_BYTES:
        raise InputError(f"view {view.camera}: a float16 map of {height} x {width} is not {len(content)} bytes")
    return zlib.compress(content, _DEFLATE_LEVEL)


def _view(part_id: str, time: datetime, view: View, deflated_map: bytes | None) -> Row:
    return (
        part_id,
        view.camera,
        time,
        view.verdict.value,
        [reason.value for reason in view.reasons],
        view.score,
        view.review_above,
        view.reject_above,
        view.bundle_digest,
        *(view.frame_shape or (None, None, None)),
        *(view.map_shape or (None, None)),
        deflated_map,
        view.worker,
        view.batch_size,
        view.received_ns,
        view.started_ns,
        view.finished_ns,
    )


def _center(region: Region, frame_shape: tuple[int, int, int] | None) -> tuple[float | None, float | None]:
    """Return where the middle of a region's box lies, as shares of the frame's width and height."""
    if frame_shape is None or 0 in frame_shape:
        return None, None
    height_px, width_px = frame_shape[:2]
    return (region.x_px + region.width_px / 2) / width_px, (region.y_px + region.height_px / 2) / height_px


def _gate_report(report: GateReport) -> Row:
    return (
        report.part_id,
        _time(report.trigger_time_ns),
        report.command.value,
        report.written_ns,
        report.outcome.value if report.outcome else None,
        report.reported_ns,
        confirmed(report.command, report.outcome),
    )


def _image(evidence: Evidence, payload: Sequence[bytes]) -> Row:
    if len(payload) != 1:
        raise InputError(f"{evidence.record_id}: one picture expected, not {len(payload)} payload parts")
    region = schema.WHOLE if evidence.region is None else evidence.region
    key = (evidence.part_id, evidence.camera, evidence.purpose, region, _time(evidence.trigger_time_ns))
    size = (evidence.width_px, evidence.height_px, len(payload[0]))
    return (*key, evidence.encoding, *size, payload[0], None)


def _event(event: Event) -> Row:
    return (
        event.event_id,
        _time(event.time_ns),
        event.station,
        event.service,
        event.name,
        event.severity,
        event.state,
        event.detail,
    )


def _time(unix_ns: int) -> datetime:
    if not 0 <= unix_ns < _LATEST_NS:
        raise InputError(f"time {unix_ns} ns: is not between the years 1970 and 9999")
    return _EPOCH + timedelta(microseconds=unix_ns // 1000)
