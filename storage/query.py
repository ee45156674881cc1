"""What is stored, asked in types: the one way in which console and commands read PostgreSQL.

Parameters that make no sense raise InputError; a server that does not answer raises StoreError. Nothing here writes.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import URL, Connection, Row, Table, create_engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from config.errors import InputError, StoreError
from config.messages import Judgement, Reason, Region
from storage import counting, summaries
from storage.answers import (
    Bucket,
    Choices,
    Counts,
    ImageRef,
    Page,
    Part,
    PartLine,
    Rates,
    Seen,
    Summary,
    ViewDetail,
    ViewLine,
)
from storage.filters import Filter
from storage.schema import WHOLE, defect, gate_report, image, seen, verdict, view
from storage.search import Key, Search, possible_runs, scope, search

if TYPE_CHECKING:
    from storage.store import Store

LARGEST_PAGE = 200
CONNECT = {
    "connect_timeout": 3,
    "application_name": "andon query",
    "options": "-c statement_timeout=15000 -c jit=off",
    "prepare_threshold": None,  # each question is planned for what it asks: a plan for any value may read all
}
_POOL_S = 5.0
_LATEST_RUNS = 100
_FOR_A_PAGE = 28_000  # rows that are looked at for one answer
_AROUND_RUN = timedelta(hours=1)  # an image may come a little before the first verdict of its run, or after the last


class QueryService:
    """Questions to the database at `url`, and to the image store if there is one; safe to use from several threads."""

    def __init__(self, url: URL | str, store: Store | None = None) -> None:
        """Remember where the database is; the first question connects."""
        self._store = store
        self._engine = create_engine(
            url,
            pool_size=4,
            max_overflow=4,
            pool_timeout=_POOL_S,
            pool_pre_ping=True,
            connect_args=CONNECT,
            isolation_level="AUTOCOMMIT",
        )

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def parts(self, chosen: Filter, after: str | None = None, limit: int = 50) -> Page:
        """Return a page of at most `limit` (1 to LARGEST_PAGE) parts, newest first, that follow `after`."""
        _check_limit(limit)
        key = None if after is None else _read_cursor(after)
        with self._connected() as connection:
            return _page(connection, search(connection, chosen, key), limit)

    def first_page(self, chosen: Filter, limit: int) -> tuple[Page, Counts]:
        """Return the first page, and how many parts there are: for less than the two cost alone."""
        _check_limit(limit)
        with self._connected() as connection:
            wanted = search(connection, chosen)
            page = _page(connection, wanted, limit)
            return page, Counts.of(page) or _counts(wanted)

    def stream(self, chosen: Filter, *, oldest_first: bool = True) -> Iterator[Part]:
        """Yield all parts that are meant, without their maps, from pages of the largest size.

        What is recorded meanwhile may or may not be among them, but never between those that were there.
        """
        key: Key | None = None
        while True:
            with self._connected() as connection:
                wanted = search(connection, chosen, key, oldest_first=oldest_first)
                lines, key, _ = _lines(connection, wanted, LARGEST_PAGE, oldest_first=oldest_first)
                parts = _whole(connection, lines)
            yield from parts
            if key is None:
                return

    def part(self, part_id: str) -> Part | None:
        """Return all that is stored of a part, maps decoded; None if there is no such part."""
        named = _part(part_id)
        with self._connected() as connection:
            found = _find(connection, named)
            return _whole(connection, found, maps=True)[0] if found else None

    def image(self, part_id: str, camera: str, purpose: str, region: int | None = None) -> bytes | None:
        """Return a stored image, JPEG or PNG; None if there is none.

        Raise ImageLostError where its bytes are gone from the image store.
        """
        if purpose not in ("image", "crop"):
            raise InputError(f"purpose: must be image or crop, not {purpose!r:.40}")
        number = WHOLE if region is None else region
        if not WHOLE <= number < 2**15:
            raise InputError(f"region: must be an index into the view's regions, not {region}")
        named = _part(part_id)
        wanted = (image.c.camera == _name("camera", camera), image.c.purpose == purpose, image.c.region == number)
        with self._connected() as connection:
            times = _times(connection, named)
            if times is None:
                return None
            found = connection.execute(
                select(image.c.content, image.c.place).where(
                    image.c.part_id == part_id,
                    image.c.trigger_time >= times[0],
                    image.c.trigger_time <= times[1],
                    *wanted,
                )
            ).first()
        if found is None:
            return None
        if found.place is None:
            return bytes(found.content)
        if self._store is None:
            raise StoreError(f"{found.place}: lies in an image store, and the station file names none")
        return self._store.get(found.place)

    def map(self, part_id: str, camera: str) -> NDArray[np.float16] | None:
        """Return the anomaly map of a view, `(h, w)`; None if there is none."""
        named, of_camera = _part(part_id), view.c.camera == _name("camera", camera)
        with self._connected() as connection:
            found = _find(connection, named)
            if not found:
                return None
            same = (view.c.part_id == part_id, view.c.trigger_time == found[0].trigger_time)
            columns = (view.c.map, view.c.map_height, view.c.map_width)
            row = connection.execute(select(*columns).where(*same, of_camera)).first()
        return None if row is None else _map(*row)

    def counts(self, chosen: Filter) -> Counts:
        """Return how many parts there are, by verdict."""
        with self._connected() as connection:
            return _counts(search(connection, chosen))

    def rates(self, chosen: Filter, bucket: Bucket) -> Rates:
        """Return how many parts there were in each bucket of time, how they were judged, and their mean score."""
        with self._connected() as connection:
            wanted = search(connection, chosen)
            return counting.rates(wanted, bucket) if wanted else Rates(bucket=bucket, points=())

    def choices(self) -> Choices:
        """Return what there is to choose from."""
        runs = select(seen).where(seen.c.kind == "run").order_by(seen.c.last_time.desc()).limit(_LATEST_RUNS)
        others = select(seen).where(seen.c.kind != "run").order_by(seen.c.last_time.desc(), seen.c.name)
        found: dict[str, list[Seen]] = {}
        with self._connected() as connection:
            for row in [*connection.execute(runs), *connection.execute(others)]:
                one = Seen(name=row.name, first=row.first_time, last=row.last_time)
                found.setdefault(f"{row.kind}s", []).append(one)
        return Choices.model_validate({name: tuple(found.get(name, ())) for name in Choices.model_fields})

    def summary(self, run: str, within_s: float = 15.0) -> Summary:
        """Return a run in numbers, all of its parts looked at; of an unknown run all counts are 0.

        Raise StoreError where that takes longer than `within_s`.
        """
        name = _name("run", run)
        with self._connected() as connection:
            connection.execution_options(isolation_level="READ COMMITTED").begin()  # ended with the connection
            connection.execute(text(f"SET LOCAL statement_timeout = {round(within_s * 1000)}"))
            return summaries.summary(connection, name)

    def progress(self, run: str, station: str) -> Counts:
        """Return how many parts of a station are recorded since a run began: cheap, however long it has lasted."""
        of_run = select(seen.c.first_time).where(seen.c.kind == "run", seen.c.name == _name("run", run))
        with self._connected() as connection:
            began = connection.execute(of_run).scalar_one_or_none()
            return _counts(search(connection, Filter(station=station, since=began)) if began else None)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection


_LINE = (
    *(name for name in PartLine.model_fields if name in verdict.c),
    *("trigger_ns", "judged_ns", "deadline_ns"),
)
_REPORT = ("outcome", "confirmed", "written_ns")


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= LARGEST_PAGE:
        raise InputError(f"limit: must be 1 to {LARGEST_PAGE}, not {limit}")


def _counts(wanted: Search | None) -> Counts:
    return counting.counts(wanted) if wanted else Counts(total=0, verdicts=dict.fromkeys(Judgement, 0))


def _page(connection: Connection, wanted: Search | None, limit: int) -> Page:
    lines, end, stopped = _lines(connection, wanted, limit)
    return Page(
        parts=tuple(PartLine(**fields) for fields in _complete(connection, lines)),
        after=None if end is None else _cursor(end),
        searched_to=end.trigger_time if end and stopped else None,
    )


def _lines(
    connection: Connection, wanted: Search | None, limit: int, *, oldest_first: bool = False
) -> tuple[list[Row[Any]], Key | None, bool]:
    """Return lines, the key that others follow (None: there are none), and whether the search gave up there."""
    if wanted is None:
        return [], None, False
    keys: list[Row[Any]] = []
    end = None
    for chunk in wanted.chunks(_FOR_A_PAGE, limited=True):
        key = chunk.select(chunk.key.c.trigger_time, chunk.key.c.part_id).order_by(*wanted.order(chunk.key))
        keys += connection.execute(key.limit(limit + 1 - len(keys)))
        if len(keys) > limit:
            keys = keys[:limit]
            end = _key(keys[-1])
            break
    lines = sorted(_of(connection, keys, verdict, _LINE), key=_key, reverse=not oldest_first)
    return lines, end or wanted.stopped_at, end is None and wanted.stopped_at is not None


def _part(part_id: str) -> Filter:
    return Filter.parse({"part_id": part_id})


def _find(connection: Connection, named: Filter) -> Sequence[Row[Any]]:
    """Return the line of a part, or nothing; its run tells in which partitions it can be."""
    bounds = scope(connection, named)
    if bounds is None:
        return []
    times = (verdict.c.trigger_time >= bounds.low, verdict.c.trigger_time < bounds.high)
    wanted = select(*(verdict.c[name] for name in _LINE)).where(verdict.c.part_id == named.part_id, *times)
    return connection.execute(wanted.limit(1)).all()


def _times(connection: Connection, named: Filter) -> tuple[datetime, datetime] | None:
    """Return when the images of a part can have been taken: where its verdict is still to come, around its run."""
    found = _find(connection, named)
    if found:
        return found[0].trigger_time, found[0].trigger_time
    runs = (seen.c.kind == "run", seen.c.name.in_(possible_runs(named.part_id or "")))
    first, last = connection.execute(select(func.min(seen.c.first_time), func.max(seen.c.last_time)).where(*runs)).one()
    return None if first is None else (first - _AROUND_RUN, last + _AROUND_RUN)


def _complete(connection: Connection, lines: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """Add to lines what other tables know: the gate, views in short, images."""
    reports = {row.part_id: row for row in _of(connection, lines, gate_report, _REPORT)}
    views: dict[str, list[ViewLine]] = {}
    for row in sorted(_of(connection, lines, view, ("camera", "verdict", "score")), key=lambda row: row.camera):
        seen_by = ViewLine(camera=row.camera, verdict=Judgement(row.verdict), score=row.score)
        views.setdefault(row.part_id, []).append(seen_by)
    images: dict[str, list[ImageRef]] = {}
    rows = _of(connection, lines, image, ("camera", "purpose", "region", "encoding", "width_px", "height_px"))
    for row in sorted(rows, key=lambda row: (row.camera, row.purpose, row.region)):
        fields = row._asdict()
        fields["region"] = None if row.region == WHOLE else row.region
        images.setdefault(fields.pop("part_id"), []).append(ImageRef(**fields))
    completed = []
    for line in lines:
        fields = line._asdict()
        trigger_ns, judged_ns, deadline_ns = (fields.pop(name) for name in ("trigger_ns", "judged_ns", "deadline_ns"))
        report = reports.get(line.part_id)
        completed.append(
            {
                **fields,
                "trigger_to_verdict_ms": _between_ms(trigger_ns, judged_ns),
                "deadline_ms": _between_ms(trigger_ns, deadline_ns),
                "gate_outcome": report.outcome if report else None,
                "gate_confirmed": report.confirmed if report else None,
                "trigger_to_gate_ms": _between_ms(trigger_ns, report.written_ns) if report else None,
                "views": tuple(views.get(line.part_id, ())),
                "images": tuple(images.get(line.part_id, ())),
            }
        )
    return completed


def _key(line: Row[Any]) -> Key:
    return Key(line.trigger_time, line.part_id)


def _whole(connection: Connection, lines: Sequence[Row[Any]], *, maps: bool = False) -> list[Part]:
    """Return parts with everything that is stored of them, with or without their maps."""
    regions: dict[tuple[str, str], list[Region]] = {}
    found = _of(connection, lines, defect, ("camera", "region", *Region.model_fields))
    for row in sorted(found, key=lambda row: row.region):
        fields = {name: getattr(row, name) for name in Region.model_fields}
        regions.setdefault((row.part_id, row.camera), []).append(Region(**fields))
    details: dict[str, list[ViewDetail]] = {}
    columns = [column.name for column in view.columns if maps or column.name != "map"]
    for row in sorted(_of(connection, lines, view, columns), key=lambda row: row.camera):
        anomaly_map = _map(row.map, row.map_height, row.map_width) if maps else None
        detail = _detail(row, regions.get((row.part_id, row.camera), ()), anomaly_map)
        details.setdefault(row.part_id, []).append(detail)
    return [
        Part(**fields, details=tuple(details.get(fields["part_id"], ()))) for fields in _complete(connection, lines)
    ]


def _of(connection: Connection, lines: Sequence[Row[Any]], table: Table, names: Sequence[str]) -> Sequence[Row[Any]]:
    """Return a table's rows of the parts in `lines`."""
    if not lines:
        return []
    columns = (table.c[name] for name in dict.fromkeys(("part_id", *names)))
    meant = table.c.part_id.in_([line.part_id for line in lines])
    times = table.c.trigger_time.in_({line.trigger_time for line in lines})  # only their partitions are asked
    return connection.execute(select(*columns).where(meant, times)).all()


def _detail(row: Row[Any], regions: Sequence[Region], anomaly_map: NDArray[np.float16] | None) -> ViewDetail:
    frame_shape = (row.frame_height_px, row.frame_width_px, row.frame_channels)
    return ViewDetail(
        camera=row.camera,
        verdict=Judgement(row.verdict),
        score=row.score,
        reasons=tuple(map(Reason, row.reasons)),
        review_above=row.review_above,
        reject_above=row.reject_above,
        bundle_digest=row.bundle_digest,
        frame_shape=None if row.frame_height_px is None else frame_shape,
        map_shape=None if row.map_height is None else (row.map_height, row.map_width),
        regions=tuple(regions),
        worker=row.worker,
        batch_size=row.batch_size,
        queue_ms=_between_ms(row.received_ns, row.started_ns),
        inference_ms=_between_ms(row.started_ns, row.finished_ns),
        anomaly_map=anomaly_map,
    )


def _map(content: bytes | None, height: int, width: int) -> NDArray[np.float16] | None:
    if content is None:
        return None
    return np.frombuffer(zlib.decompress(content), dtype="<f2").reshape(height, width)


def _between_ms(start_ns: int | None, end_ns: int | None) -> float | None:
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) / 1e6


def _name(field: str, value: str) -> str:
    if not value or "\x00" in value or not value.isprintable():
        raise InputError(f"{field}: must be printable text, not {value!r:.40}")
    return value


def _cursor(key: Key) -> str:
    said = json.dumps([key.trigger_time.astimezone(UTC).isoformat(), key.part_id])
    return base64.urlsafe_b64encode(said.encode()).decode()


def _read_cursor(cursor: str) -> Key:
    try:
        time, part_id = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        moment = datetime.fromisoformat(time)
        return Key(moment.astimezone(UTC), _name("after", part_id) if part_id != "" else "")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"after: is no cursor of an earlier page: {cursor!r:.40}") from error


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into StoreError."""
    try:
        yield
    except SQLAlchemyError as error:
        original = getattr(error, "orig", None) or error
        lines = str(original).strip().splitlines() or [type(original).__name__]
        raise StoreError(f"PostgreSQL: {lines[0]}") from error
