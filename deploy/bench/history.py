"""The history of a station that has judged for weeks, made up by PostgreSQL itself: millions of rows in minutes.

Two stations of two lines run five products in turn, four hours each, and a sixth one rarely; recipes and bundles
change every three weeks, runs every five days. One part in forty does not pass, with 1.2 defects each; some reasons are
very rare. From a certain moment on `CHANGED` has twice the rejects and higher scores. A few parts have images and
people's reviews. It is the same history whenever it is made with as many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from storage import partitions, schema
from storage.partitions import Partition

END = datetime(2026, 11, 16, 12, tzinfo=UTC)
PRODUCTS = ("bracket", "cap", "gear", "housing", "seal", "sample")
RARE, CHANGED = PRODUCTS[5], PRODUCTS[1]
STATIONS = {"north": "line 1", "south": "line 2"}
CAMERAS = {"north": ("top", "side"), "south": ("top",)}
CLASSES = ("scratch", "dent", "crack")
STEP = timedelta(milliseconds=720)  # from part to part: ten million take twelve weeks
_CHANGE_SHARE = 0.25  # of the history, before its end
_EPOCH = datetime(2026, 1, 5, tzinfo=UTC)  # of runs and versions
_RUN, _VERSION = timedelta(days=5), timedelta(days=21)


@dataclass(frozen=True)
class History:
    """What was made: `parts`, one every `step`, of which the last was triggered just before END."""

    parts: int
    step: timedelta = STEP

    @property
    def start(self) -> datetime:
        """Return when the first part was triggered."""
        return END - self.parts * self.step

    @property
    def change(self) -> datetime:
        """Return the moment from which `CHANGED` is worse."""
        return END - _CHANGE_SHARE * (END - self.start)

    @property
    def versions(self) -> tuple[int, ...]:
        """Return the versions of recipes, and of bundles with them."""
        first, last = (1 + (time - _EPOCH) // _VERSION for time in (self.start, END))
        return tuple(range(first, last + 1))

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the runs, which both stations name alike."""
        first, last = ((time - _EPOCH) // _RUN for time in (self.start, END))
        return tuple(f"r{number:04}" for number in range(first, last + 1))

    def part_id(self, number: int) -> str:
        """Return the id of a part, by its number from 0."""
        station = tuple(STATIONS)[number % 2]
        time = self.start + number * self.step
        return f"{station}-r{(time - _EPOCH) // _RUN:04}-{number:08}"


def make(url: str, history: History, said: Callable[[str], None] = lambda _: None) -> None:
    """Fill an empty database of the newest revision; `said` hears how far it is."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(_DIGEST))
        for number, week in enumerate(_weeks(history)):
            connection.execute(text(f"SELECT setseed({number / 1000})"))
            _fill_week(connection, history, week)
            said(f"week of {week.start:%Y-%m-%d}")
        _fill_others(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        said("vacuum")
        connection.execute(text("VACUUM (ANALYZE)"))
    engine.dispose()


def _weeks(history: History) -> Iterator[Partition]:
    time = history.start
    while (week := partitions.partition_of(schema.verdict, time)).start < END:
        yield week
        time = week.end


def _fill_week(connection: Connection, history: History, week: Partition) -> None:
    """Fill the tables of a week before they have indexes, which is five times as fast."""
    values = {
        "first": max(0, -((history.start - week.start) // history.step)),
        "last": min(history.parts, -((history.start - week.end) // history.step)) - 1,
        "start": history.start,
        "change": history.change,
        "end": END,
        "epoch": _EPOCH,
        "step": history.step,
        "products": list(PRODUCTS),
        "stations": list(STATIONS),
        "lines": list(STATIONS.values()),
        "classes": list(CLASSES),
    }
    for table, statement in _OF_WEEK.items():
        with _attached(connection, partitions.partition_of(table, week.start)):
            connection.execute(text(statement.format(week=f"{week.start:%Y%m%d}")), values)
    day = partitions.partition_of(schema.image, week.start)
    while day.start < week.end:
        with _attached(connection, day):
            bounds = {"low": day.start, "high": day.end}
            names = {"week": f"{week.start:%Y%m%d}", "day": f"{day.start:%Y%m%d}"}
            connection.execute(text(_IMAGE.format(**names)), bounds)
        day = partitions.partition_of(schema.image, day.end)


@contextmanager
def _attached(connection: Connection, partition: Partition) -> Iterator[None]:
    """Make a partition's table, and its indexes once it is filled."""
    name, parent = partition.name, partition.table.name
    connection.execute(text(f'CREATE TABLE "{name}" (LIKE "{parent}" INCLUDING DEFAULTS INCLUDING STORAGE)'))
    yield
    key = ", ".join(column.name for column in partition.table.primary_key)
    connection.execute(text(f'ALTER TABLE "{name}" ADD PRIMARY KEY ({key})'))
    bounds = f"FROM ('{partition.start.isoformat()}') TO ('{partition.end.isoformat()}')"
    connection.execute(text(f'ALTER TABLE "{parent}" ATTACH PARTITION "{name}" FOR VALUES {bounds}'))


_DIGEST = """
CREATE FUNCTION pg_temp.digest(text) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT 'sha256:' || encode(sha256($1::bytea), 'hex') $$
"""
_VERDICT = """
INSERT INTO verdict_{week} (trigger_time, part_id, run, sequence, station, line, product, recipe, recipe_version,
    recipe_digest, verdict, reasons, score, gate, trigger_ns, judged_ns, deadline_ns, truth_good, truth_defect,
    truth_source, challenge, position)
SELECT t, station || '-' || run || '-' || lpad(i::text, 8, '0'), run, i, station, line, product, product, version,
    pg_temp.digest(product || version), verdict,
    CASE verdict WHEN 'REJECT' THEN ARRAY['ABOVE_THRESHOLD'] WHEN 'REVIEW' THEN ARRAY['GRAY_ZONE'] WHEN 'FAULT' THEN
        CASE WHEN v < 0.7 THEN ARRAY['LATE'] WHEN v < 0.9 THEN ARRAY['OVERRUN'] WHEN v < 0.998
            THEN ARRAY['CAMERA_DOWN'] ELSE ARRAY['NOT_FINITE'] END
    ELSE ARRAY[]::text[] END,
    CASE verdict WHEN 'REJECT' THEN 1 + worse * 0.1 - 0.4 * ln(1 - v) WHEN 'REVIEW' THEN 0.8 + 0.2 * v
        WHEN 'PASS' THEN 0.1 + worse * 0.05 + 0.6 * v * w END,
    CASE verdict WHEN 'PASS' THEN 'PASS' ELSE 'REJECT' END,
    i * 1000000, i * 1000000 + 20000000 + round(w * 15e6), i * 1000000 + 100000000,
    NULL, NULL, NULL, c, i
FROM (
    SELECT *, CASE WHEN c OR (u >= 0.001 AND u < 0.013 + worse * 0.012) THEN 'REJECT' WHEN u < 0.001 THEN 'FAULT'
        WHEN u > 0.988 THEN 'REVIEW' ELSE 'PASS' END AS verdict
    FROM (
        SELECT *, (product = 'cap' AND t >= :change)::int AS worse, 1 + floor(days / 21)::int AS version,
            'r' || lpad(floor(days / 5)::text, 4, '0') AS run
        FROM (
            SELECT *, (CAST(:stations AS text[]))[1 + i % 2] AS station, (CAST(:lines AS text[]))[1 + i % 2] AS line,
                (CAST(:products AS text[]))[CASE WHEN shift % 84 = 83 AND i % 2 = 0 THEN 6
                    ELSE 1 + (shift + 2 * (i % 2)) % 5 END] AS product
            FROM (
                SELECT *, floor(extract(epoch FROM t - :epoch) / 14400)::bigint AS shift,
                    extract(epoch FROM t - :epoch) / 86400 AS days
                FROM (
                    SELECT i, CAST(:start AS timestamptz) + i * CAST(:step AS interval) AS t,
                        random() AS u, random() AS v, random() AS w, random() < 0.0002 AS c
                    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS i
                ) AS drawn
            ) AS timed
        ) AS made
    ) AS dated
) AS judged
"""
_VIEW = """
INSERT INTO view_{week} (part_id, camera, trigger_time, verdict, reasons, score, review_above, reject_above,
    bundle_digest, frame_height_px, frame_width_px, frame_channels, map_height, map_width, map, worker, batch_size,
    received_ns, started_ns, finished_ns)
SELECT part_id, camera, trigger_time, CASE camera WHEN 'top' THEN verdict ELSE 'PASS' END,
    CASE camera WHEN 'top' THEN reasons ELSE ARRAY[]::text[] END, CASE camera WHEN 'top' THEN score ELSE score / 2 END,
    0.8, 1.0, digest, 2048, 2448, 3, NULL, NULL, NULL, 'worker-0', 1, trigger_ns + 2000000, trigger_ns + 3000000,
    judged_ns
FROM verdict_{week}
    JOIN (VALUES ('north', 'top'), ('north', 'side'), ('south', 'top')) AS camera (station, camera) USING (station)
    JOIN (SELECT product, recipe_version, camera, pg_temp.digest(product || recipe_version || camera) AS digest
        FROM unnest(CAST(:products AS text[])) AS product, generate_series(1, 99) AS recipe_version,
            (VALUES ('top'), ('side')) AS camera (camera)) AS bundle USING (product, recipe_version, camera)
"""
_DEFECT = """
INSERT INTO defect_{week} (part_id, camera, region, trigger_time, product, defect_class, x_px, y_px, width_px,
    height_px, area_px, score, center_x, center_y)
SELECT part_id, 'top', region, trigger_time, product, (CAST(:classes AS text[]))[1 + floor(3 * u * v)::int],
    x_px, y_px, size_px, size_px, size_px * size_px / 2, score - region * 0.01,
    (x_px + size_px / 2.0) / 2448, (y_px + size_px / 2.0) / 2048
FROM (
    SELECT *, floor(2400 * u)::int AS x_px, floor(2000 * v)::int AS y_px, 4 + floor(-12 * ln(1 - w))::int AS size_px
    FROM (
        SELECT part_id, trigger_time, product, score, region, random() AS u, random() AS v, random() AS w
        FROM verdict_{week}, generate_series(0, 1) AS region
        WHERE verdict IN ('REJECT', 'REVIEW') AND (region = 0 OR random() < 0.2)
    ) AS drawn
) AS boxed
"""
_REPORT = """
INSERT INTO gate_report_{week} (part_id, trigger_time, command, written_ns, outcome, reported_ns, confirmed)
SELECT part_id, trigger_time, gate, judged_ns + 1000000,
    CASE WHEN random() < 0.0005 THEN NULL WHEN gate = 'PASS' THEN 'PASSED' ELSE 'EJECTED' END, judged_ns + 900000000,
    true
FROM verdict_{week};
UPDATE gate_report_{week} SET confirmed = false WHERE outcome IS NULL
"""
_IMAGE = """
INSERT INTO image_{day} (part_id, camera, purpose, region, trigger_time, encoding, width_px, height_px, size_bytes,
    content)
SELECT part_id, 'top', 'crop', 0, trigger_time, 'jpeg', 16, 16, 64, decode(repeat('ffd8', 32), 'hex')
FROM verdict_{week} WHERE verdict = 'REJECT' AND sequence % 5 = 0 AND trigger_time >= :low AND trigger_time < :high
"""
_OF_WEEK = {
    schema.verdict: _VERDICT,
    schema.view: _VIEW,
    schema.defect: _DEFECT,
    schema.gate_report: _REPORT,
}
_OTHERS = (
    """
INSERT INTO tally
    SELECT date_trunc('hour', trigger_time, 'UTC'), station, line, product, recipe, recipe_version, verdict, count(*),
        count(score), coalesce(sum(score), 0), coalesce(sum(score * score), 0)
    FROM verdict GROUP BY 1, 2, 3, 4, 5, 6, 7
""",
    """
INSERT INTO view_tally
    SELECT date_trunc('hour', v.trigger_time, 'UTC'), station, line, product, recipe, recipe_version, camera,
        coalesce(bundle_digest, ''), w.verdict, count(*), count(w.score), coalesce(sum(w.score), 0),
        coalesce(sum(w.score * w.score), 0)
    FROM verdict v JOIN view w ON w.part_id = v.part_id AND w.trigger_time = v.trigger_time
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
""",
    """
INSERT INTO appearance
    SELECT hour, station, camera, product, 100, 100 * gray, 100 * (gray * gray + 4), 100 * sharp,
        100 * (sharp * sharp + 9)
    FROM (SELECT hour, station, camera, product, 120 + 4 * random() AS gray, 50 + 6 * random() AS sharp
        FROM view_tally GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4) AS looks
""",
    """
INSERT INTO seen
    SELECT kind, name, min(first), max(last) FROM (
        SELECT run, station, line, product, recipe, min(trigger_time) AS first, max(trigger_time) AS last
        FROM verdict GROUP BY 1, 2, 3, 4, 5) AS combined,
        LATERAL (VALUES ('run', run), ('station', station), ('line', line), ('product', product),
            ('recipe', recipe)) AS said (kind, name)
    GROUP BY 1, 2
""",
    """
INSERT INTO seen
    SELECT kind, name, min(first), max(last) FROM (
        SELECT camera, bundle_digest, min(trigger_time) AS first, max(trigger_time) AS last FROM view GROUP BY 1, 2
        ) AS combined, LATERAL (VALUES ('camera', camera), ('bundle', bundle_digest)) AS said (kind, name)
    GROUP BY 1, 2
""",
    """
INSERT INTO review (part_id, trigger_time, reviewed_at, reviewer, finding)
    SELECT part_id, trigger_time, trigger_time + interval '1 hour', reviewer,
        CASE WHEN sequence % 97 = 0 THEN 'UNSURE' WHEN reviewer = 'second' AND sequence % 5 = 0 THEN 'GOOD'
            WHEN sequence % 3 = 0 THEN 'GOOD' ELSE 'DEFECT' END
    FROM verdict, (VALUES ('first'), ('second')) AS people (reviewer)
    WHERE verdict <> 'PASS' AND sequence % 10 = 0 AND (reviewer = 'first' OR sequence % 200 = 0)
    ORDER BY trigger_time
""",
    """
INSERT INTO hold (part_id, trigger_time, holder, reason)
    SELECT part_id, trigger_time, 'first', 'customer' FROM verdict WHERE verdict = 'REJECT' AND sequence % 500 = 0
""",
)


def _fill_others(connection: Connection) -> None:
    """Fill what the writer counts and notes, and what people say."""
    for statement in _OTHERS:
        connection.execute(text(statement))
