"""Migrations on a database that is filled: what is stored is carried over, forth and back, and nothing is made up."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
import sqlalchemy
from live_servers import Servers
from sqlalchemy import Connection, Text, func, select, text
from sqlalchemy.pool import NullPool

from storage.migrate import migrate
from storage.query.service import QueryService

PARTS = 400
MAP = zlib.compress(bytes(2 * 2 * 2)).hex()
FILLED = f"""
INSERT INTO verdict
    SELECT 'st-r1-' || to_char(n, 'FM00000000'), 'r1', n, 'st', '1', CASE WHEN n % 3 = 0 THEN 'cap' ELSE 'bracket' END,
        'demo', 1, CASE WHEN n % 10 = 0 THEN 'REJECT' ELSE 'PASS' END,
        CASE WHEN n % 10 = 0 THEN ARRAY['ABOVE_THRESHOLD'] ELSE
        ARRAY[]::text[] END, n / 10.0, CASE WHEN n % 10 = 0 THEN 'REJECT' ELSE 'PASS' END,
        timestamptz '2026-03-01 21:00:00+00' + n * interval '1 hour', n, n + 5, n + 9, n % 10 <> 0, NULL, NULL
    FROM generate_series(0, {PARTS - 1}) n;
INSERT INTO view
    SELECT part_id, 'top', trigger_time, verdict, reasons, score, 2, 3, 'sha256:b', 320, 640, 3, 2, 2, '\\x{MAP}',
        'w', 1, 1, 2, 3
    FROM verdict;
INSERT INTO defect
    SELECT part_id, 'top', 0, trigger_time, 100, 40, 20, 10, 150, score FROM verdict WHERE verdict = 'REJECT';
INSERT INTO gate_report SELECT part_id, gate, 7, 'PASSED', 8, verdict = 'PASS' FROM verdict;
INSERT INTO image SELECT part_id, 'top', 'image', -1, 8, 4, '\\xffd8ffd9' FROM verdict WHERE verdict = 'REJECT';
INSERT INTO image VALUES ('st-r1-99999999', 'top', 'image', -1, 8, 4, '\\xffd8', '2026-05-05 12:00:00+00');
INSERT INTO journal_cursor VALUES ('j', 3, 77);
"""  # noqa: S608 - numbers of ours
TABLES = ("verdict", "view", "defect", "gate_report", "image", "journal_cursor")


@pytest.fixture
def old(servers: Servers) -> Iterator[str]:
    url = servers.database(migrated=False)
    migrate(url, "0001")
    with connected(url) as connection:
        connection.execute(text(FILLED))
    yield url
    servers.drop(url)


def connected(url: str) -> sqlalchemy.engine.base._ConnectionContextManager:  # type: ignore[name-defined]  # begin()'s own
    return sqlalchemy.create_engine(url, poolclass=NullPool).begin()


def contents(connection: Connection) -> dict[str, list[str]]:
    return {
        table: sorted(
            connection.execute(select(func.to_jsonb(text("t")).cast(Text)).select_from(text(f"{table} t"))).scalars()
        )
        for table in TABLES
    }


def test_what_is_stored_goes_forth_and_comes_back(old: str) -> None:
    with connected(old) as connection:
        before = contents(connection)
    migrate(old)
    with connected(old) as connection:
        assert connection.execute(text("SELECT count(*) FROM verdict")).scalar_one() == PARTS
        tallied = "SELECT product, verdict, sum(parts)::int, round(sum(score_sum)::numeric, 6) FROM tally"
        counted = "SELECT product, verdict, count(*), round(sum(score)::numeric, 6) FROM verdict"
        sums = [connection.execute(text(f"{one} GROUP BY 1, 2 ORDER BY 1, 2")).all() for one in (tallied, counted)]
        assert sums[0] == sums[1]
        viewed = "SELECT product, verdict, sum(views)::int, round(sum(score_sum)::numeric, 6) FROM view_tally"
        assert connection.execute(text(f"{viewed} GROUP BY 1, 2 ORDER BY 1, 2")).all() == sums[0]
        bundles = connection.execute(text("SELECT DISTINCT camera, bundle FROM view_tally")).all()
        assert [tuple(row) for row in bundles] == [("top", "sha256:b")]
        kinds = connection.execute(text("SELECT DISTINCT kind FROM seen")).scalars().all()
        assert sorted(kinds) == ["bundle", "camera", "line", "product", "recipe", "run", "station"]
        centers = connection.execute(text("SELECT DISTINCT center_x, center_y, product <> '' FROM defect")).all()
        assert [tuple(row) for row in centers] == [(110 / 640, 45 / 320, True)]
        strayed = connection.execute(
            text("SELECT trigger_time = recorded_at FROM image WHERE part_id = 'st-r1-99999999'")
        )
        assert strayed.scalar_one()
        weeks = connection.execute(text("SELECT count(*) FROM pg_inherits WHERE inhparent = 'verdict'::regclass"))
        assert weeks.scalar_one() == 4
    query = QueryService(old)
    try:
        part = query.part("st-r1-00000010")
        assert part is not None
        assert [image.purpose for image in part.images] == ["image"]
        assert query.image("st-r1-00000010", "top", "image") == b"\xff\xd8\xff\xd9"
    finally:
        query.close()
    migrate(old, "0001")
    with connected(old) as connection:
        assert contents(connection) == before
    migrate(old)


def test_a_step_that_fails_changes_nothing(old: str) -> None:
    with connected(old) as connection:
        connection.execute(text("CREATE TABLE audit (mine int)"))  # in the way of the second half of the step
        before = contents(connection)
    with pytest.raises(Exception, match="cannot be brought to revision head"):
        migrate(old)
    with connected(old) as connection:
        assert contents(connection) == before
        connection.execute(text("DROP TABLE audit"))
    migrate(old)
