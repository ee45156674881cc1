"""What is stored, asked in types: the one way in which console and commands read PostgreSQL.

Parameters that make no sense raise InputError; a server that does not answer raises StoreError. Nothing here writes.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import URL, Connection, Row, create_engine, select, text

from config.errors import ImageLostError, InputError, StoreError
from config.messages import Judgement
from storage.failures import translated
from storage.query import counting, products, similar, summaries
from storage.query import story as stories
from storage.query.answers import Bucket, Choices, Counts, Page, Part, PartLine, Rates, Seen, Summary
from storage.query.filters import Filter
from storage.query.lines import complete, find, read_map, times_of_images, whole
from storage.query.lines import lines as lines_of
from storage.query.products import ProductCounts
from storage.query.search import Key, Search, search
from storage.query.similar import DefectLine
from storage.query.story import Story
from storage.schema import WHOLE, image, seen, view

if TYPE_CHECKING:
    from storage.store import Store

LARGEST_PAGE = 200
CONNECT = {
    "connect_timeout": 3,
    "application_name": "andon query",
    # what is looked for is in memory or on an SSD: to jump in it costs hardly more than to read on
    "options": "-c statement_timeout=15000 -c jit=off -c random_page_cost=1.1",
    "prepare_threshold": None,  # each question is planned for what it asks: a plan for any value may read all
}
_POOL_S = 5.0
_STATEMENTS = 1500  # that are kept as they are written: each combination of filters has a handful of its own
_LATEST_RUNS = 100
_FOR_A_PAGE = 5_000  # rows that are looked at for one answer


class ViewMap(NamedTuple):
    """The anomaly map of a view, `(h, w)`, and what it was judged by."""

    part_id: str
    camera: str
    review_above: float | None
    reject_above: float | None
    anomaly_map: NDArray[np.float16]


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
            query_cache_size=_STATEMENTS,
        )

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def parts(self, chosen: Filter, after: str | None = None, limit: int = 50) -> Page:
        """Return a page of at most `limit` (1 to LARGEST_PAGE) parts, newest first, that follow `after`."""
        _check_limit(limit)
        key = None if after is None else read_cursor(after)
        with self.connected() as connection:
            return _page(connection, search(connection, chosen, key), limit)

    def first_page(self, chosen: Filter, limit: int) -> tuple[Page, Counts]:
        """Return the first page, and how many parts there are: for less than the two cost alone."""
        _check_limit(limit)
        with self.connected() as connection:
            wanted = search(connection, chosen)
            page = _page(connection, wanted, limit)
            return page, Counts.of(page) or _counts(wanted)

    def stream(self, chosen: Filter, *, oldest_first: bool = True) -> Iterator[Part]:
        """Yield all parts that are meant, without their maps, from pages of the largest size.

        What is recorded meanwhile may or may not be among them, but never between those that were there.
        """
        key: Key | None = None
        while True:
            with self.connected() as connection:
                wanted = search(connection, chosen, key, oldest_first=oldest_first)
                lines, key, _ = _lines(connection, wanted, LARGEST_PAGE, oldest_first=oldest_first)
                parts = whole(connection, lines)
            yield from parts
            if key is None:
                return

    def part(self, part_id: str) -> Part | None:
        """Return all that is stored of a part, maps decoded; None if there is no such part."""
        named = _part(part_id)
        with self.connected() as connection:
            found = find(connection, named)
            return whole(connection, found, maps=True)[0] if found else None

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
        with self.connected() as connection:
            times = times_of_images(connection, named)
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
        with self.connected() as connection:
            found = find(connection, named)
            if not found:
                return None
            same = (view.c.part_id == part_id, view.c.trigger_time == found[0].trigger_time)
            columns = (view.c.map, view.c.map_height, view.c.map_width)
            row = connection.execute(select(*columns).where(*same, of_camera)).first()
        return None if row is None else read_map(*row)

    def maps(self, part_ids: Sequence[str], since: datetime, until: datetime) -> list[ViewMap]:
        """Return the anomaly maps of parts that were triggered from `since` to `until`, both with a zone."""
        columns = ("part_id", "camera", "review_above", "reject_above", "map", "map_height", "map_width")
        statement = select(*(view.c[name] for name in columns)).where(
            view.c.part_id.in_(part_ids), view.c.trigger_time.between(since, until), view.c.map.is_not(None)
        )
        with self.connected() as connection:
            rows = connection.execute(statement).all()
        found = [(row, read_map(row.map, row.map_height, row.map_width)) for row in rows]
        return [
            ViewMap(row.part_id, row.camera, row.review_above, row.reject_above, one)
            for row, one in found
            if one is not None
        ]

    def defect(self, part_id: str, camera: str, region: int) -> DefectLine | None:
        """Return a defect; None if there is none."""
        with self.connected() as connection:
            return similar.find(connection, _name("part_id", part_id), _name("camera", camera), region)

    def similar(self, one: DefectLine, limit: int) -> list[DefectLine]:
        """Return other parts' defects that are like this one, the most alike first."""
        with self.connected() as connection:
            return similar.nearest(connection, one, limit)

    def crops(self, lines: list[DefectLine]) -> dict[tuple[str, int], bytes]:
        """Return the crops that were kept of defects of one camera, by part and region; lost ones are left out."""
        with self.connected() as connection:
            found = similar.crops(connection, lines)
        contents: dict[tuple[str, int], bytes] = {}
        for line in lines:
            content, place = found.get((line.part_id, line.region), (None, None))
            if content is not None:
                contents[line.part_id, line.region] = bytes(content)
            elif place is not None and self._store is not None:
                with contextlib.suppress(ImageLostError):
                    contents[line.part_id, line.region] = self._store.get(place)
        return contents

    def story(self, part: PartLine) -> Story:
        """Return what was done about a part."""
        with self.connected() as connection:
            return stories.story(connection, part.part_id, part.trigger_time)

    def counts(self, chosen: Filter) -> Counts:
        """Return how many parts there are, by verdict."""
        with self.connected() as connection:
            return _counts(search(connection, chosen))

    def rates(self, chosen: Filter, bucket: Bucket) -> Rates:
        """Return how many parts there were in each bucket of time, how they were judged, and their mean score."""
        with self.connected() as connection:
            wanted = search(connection, chosen)
            return counting.rates(wanted, bucket) if wanted else Rates(bucket=bucket, points=())

    def by_product(self, station: str, since: datetime) -> tuple[ProductCounts, ...]:
        """Return what a station judged since a time, by product; the one with the most parts first."""
        with self.connected() as connection:
            return products.by_product(connection, station, since)

    def choices(self) -> Choices:
        """Return what there is to choose from."""
        runs = select(seen).where(seen.c.kind == "run").order_by(seen.c.last_time.desc()).limit(_LATEST_RUNS)
        others = select(seen).where(seen.c.kind != "run").order_by(seen.c.last_time.desc(), seen.c.name)
        found: dict[str, list[Seen]] = {}
        with self.connected() as connection:
            for row in [*connection.execute(runs), *connection.execute(others)]:
                one = Seen(name=row.name, first=row.first_time, last=row.last_time)
                found.setdefault(f"{row.kind}s", []).append(one)
        return Choices.model_validate({name: tuple(found.get(name, ())) for name in Choices.model_fields})

    def summary(self, run: str, within_s: float = 15.0) -> Summary:
        """Return a run in numbers, all of its parts looked at; of an unknown run all counts are 0.

        Raise StoreError where that takes longer than `within_s`.
        """
        name = _name("run", run)
        with self.connected() as connection:
            connection.execution_options(isolation_level="READ COMMITTED").begin()  # ended with the connection
            connection.execute(text(f"SET LOCAL statement_timeout = {round(within_s * 1000)}"))
            return summaries.summary(connection, name)

    def progress(self, run: str, station: str) -> Counts:
        """Return how many parts of a station are recorded since a run began: cheap, however long it has lasted."""
        of_run = select(seen.c.first_time).where(seen.c.kind == "run", seen.c.name == _name("run", run))
        with self.connected() as connection:
            began = connection.execute(of_run).scalar_one_or_none()
            return _counts(search(connection, Filter(station=station, since=began)) if began else None)

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Give a connection for the time of a `with` block; raise StoreError where the server does not answer."""
        with translated(), self._engine.connect() as connection:
            yield connection


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= LARGEST_PAGE:
        raise InputError(f"limit: must be 1 to {LARGEST_PAGE}, not {limit}")


def _counts(wanted: Search | None) -> Counts:
    return counting.counts(wanted) if wanted else Counts(total=0, verdicts=dict.fromkeys(Judgement, 0))


def _page(connection: Connection, wanted: Search | None, limit: int) -> Page:
    lines, end, stopped = _lines(connection, wanted, limit)
    return Page(
        parts=tuple(PartLine(**fields) for fields in complete(connection, lines)),
        after=None if end is None else cursor(end),
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
    lines = sorted(lines_of(connection, keys), key=_key, reverse=not oldest_first)
    return lines, end or wanted.stopped_at, end is None and wanted.stopped_at is not None


def _key(line: Row[Any]) -> Key:
    return Key(line.trigger_time, line.part_id)


def _part(part_id: str) -> Filter:
    return Filter.parse({"part_id": part_id})


def _name(field: str, value: str) -> str:
    if not value or "\x00" in value or not value.isprintable():
        raise InputError(f"{field}: must be printable text, not {value!r:.40}")
    return value


def cursor(key: Key) -> str:
    """Return a key as a page's `after`."""
    said = json.dumps([key.trigger_time.astimezone(UTC).isoformat(), key.part_id])
    return base64.urlsafe_b64encode(said.encode()).decode()


def read_cursor(cursor: str) -> Key:
    """Return the key that is meant; raise InputError for what no page said."""
    try:
        time, part_id = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        moment = datetime.fromisoformat(time)
        return Key(moment.astimezone(UTC), _name("after", part_id) if part_id != "" else "")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"after: is no cursor of an earlier page: {cursor!r:.40}") from error
