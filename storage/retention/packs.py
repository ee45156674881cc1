"""What retention does to the packs of an image store: images that stay move together, packs without any go.

A pack is removed only if no row refers to it, nobody has written to it for a day, and this database has counted parts
of that day: an empty database behind the same store must not take what another one still knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import Connection, Row, text

from config.errors import ImageLostError, InputError
from config.log import logger
from storage.retention.plan import MINIMUM, is_worth
from storage.store import Pack, Store

_TOGETHER_BYTES = 16 * 1024 * 1024
_MOST_TOGETHER = 2000
_KEY = "part_id, camera, purpose, region"


def gather(connection: Connection, table: str, day: date, store: Store, now: datetime, counters: Counter[str]) -> None:
    """Move the images of `table` out of a day's packs that hold little else, in the transaction that is open.

    What is written for it is an orphan if the transaction fails. An image that the store has lost stays where it is.
    """
    finished = {pack.name: pack for pack in store.packs(day) if now - pack.written_at >= MINIMUM}
    kept = connection.execute(
        text(
            f"SELECT split_part(place, ':', 1), sum(size_bytes) FROM \"{table}\" "  # noqa: S608 - our own names
            "WHERE place IS NOT NULL GROUP BY 1"
        )
    )
    sparse = [name for name, size in kept if name in finished and _is_sparse(finished[name], int(size))]
    for batch in _batches(connection, table, sparse):
        rows, contents = [], []
        for row in batch:
            try:
                contents.append(store.get(row.place))
                rows.append(row)
            except (ImageLostError, InputError) as error:
                counters["images_lost"] += 1
                logger().error("an image that is to be kept is lost", part_id=row.part_id, reason=str(error))
        if not rows:
            continue
        places = store.put(day, contents)
        connection.execute(
            text(
                f'UPDATE "{table}" SET place = :place WHERE part_id = :part_id '  # noqa: S608 - our own names
                "AND camera = :camera AND purpose = :purpose AND region = :region"
            ),
            [{**row._asdict(), "place": place} for row, place in zip(rows, places, strict=True)],
        )


def remove_unused(connection: Connection, store: Store, day: date, station: str, now: datetime) -> int:
    """Remove the packs of a day that no row refers to, and return their size; `connection` has no transaction open."""
    packs = [pack for pack in store.packs(day) if now - pack.written_at >= MINIMUM]
    start = datetime.combine(day, time(), UTC)
    span = {"start": start, "end": start + timedelta(days=1)}
    with connection.begin():
        counted = connection.execute(
            text("SELECT EXISTS (SELECT FROM tally WHERE hour >= :start AND hour < :end AND station = :station)"),
            {**span, "station": station},
        ).scalar_one()
        if not counted or not packs:
            return 0
        used = set(
            connection.execute(
                text(
                    "SELECT DISTINCT split_part(place, ':', 1) FROM image "
                    "WHERE trigger_time >= :start AND trigger_time < :end AND place IS NOT NULL"
                ),
                span,
            ).scalars()
        )
    unused = [pack for pack in packs if pack.name not in used]
    for pack in unused:
        store.remove(pack.name)
    return sum(pack.size_bytes for pack in unused)


def _is_sparse(pack: Pack, kept_bytes: int) -> bool:
    return pack.size_bytes > 0 and is_worth(1 - kept_bytes / pack.size_bytes)


def _batches(connection: Connection, table: str, packs: list[str]) -> Iterator[list[Row[tuple[object, ...]]]]:
    """Yield the images in `packs`, as many as are put together."""
    if not packs:
        return
    found = connection.execute(
        text(
            f'SELECT {_KEY}, place, size_bytes FROM "{table}" '  # noqa: S608 - our own names
            "WHERE split_part(place, ':', 1) = ANY(:packs) ORDER BY place"
        ),
        {"packs": packs},
    ).all()
    batch: list[Row[tuple[object, ...]]] = []
    size = 0
    for row in found:
        if batch and (size + row.size_bytes > _TOGETHER_BYTES or len(batch) == _MOST_TOGETHER):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row.size_bytes
    if batch:
        yield batch
