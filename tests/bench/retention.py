"""What a sweep of one week costs: `PYTHONPATH=tests python tests/bench/retention.py [--parts N]`, JSON on stdout.

A week of parts with views, maps and gate reports, of which 3 % (REJECT) stay: swept by `storage/retention`, and, before
that, by DELETE and VACUUM, to compare with. While the sweep runs, a reader asks for a part of that week and a writer
stores a part of today, again and again: the longest wait of each is told, beside that of five quiet seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy
from live_servers import LiveServer, state_folder
from sqlalchemy import Connection, Engine, text
from sqlalchemy.pool import NullPool

from config.station import RetentionSection
from deploy.servers import Postgres
from storage import partitions, schema
from storage.migrate import migrate
from storage.partitions import WEEK, Partition, partition_of
from storage.retention.sweep import Sweep

MB = 1024 * 1024
NOW = datetime.now(UTC)
_WEEK = [
    partition_of(table, NOW - timedelta(days=30))
    for table in (schema.verdict, schema.view, schema.defect, schema.gate_report)
]
_TODAY = text(
    "INSERT INTO verdict SELECT :at, :part_id, 'r3', :number, 'st', '1', 'bracket', 'demo', 1, NULL, 'PASS', '{}', "
    "1.0, 'PASS', 0, 1, 2, NULL, NULL, NULL, false, 0, :at"
)
_FILL = """
INSERT INTO verdict SELECT :start + n * :step, 'st-' || :run || '-' || lpad(n::text, 8, '0'), :run, n, 'st', '1',
    'bracket', 'demo', 1, 'sha256:r', CASE WHEN n % 100 < 3 THEN 'REJECT' ELSE 'PASS' END, '{}', random(),
    'PASS', 0, 1000000, 2000000, NULL, NULL, NULL, false, n, :start + n * :step
    FROM generate_series(0, :parts - 1) n;
INSERT INTO view SELECT part_id, 'top', trigger_time, verdict, '{}', score, 2.0, 2.5, repeat('0', 64), 512, 512, 3,
    16, 16, convert_to(repeat(md5(part_id), 12), 'UTF8'), 'w0', 1, 0, 1000, 2000
    FROM verdict WHERE run = :run;
INSERT INTO defect SELECT part_id, 'top', 0, trigger_time, product, NULL, 1, 2, 3, 4, 5, score, random(), random()
    FROM verdict WHERE run = :run AND verdict = 'REJECT';
INSERT INTO gate_report SELECT part_id, trigger_time, 'PASS', 0, 'PASSED', 1, true, trigger_time
    FROM verdict WHERE run = :run;
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=1_000_000)
    parts = parser.parse_args().parts
    with state_folder() as folder:
        server = LiveServer(Postgres(folder))
        try:
            server.start()
            migrate(server.url)
            engine = sqlalchemy.create_engine(server.url, poolclass=NullPool)
            figures = {"parts": parts, **_delete(engine, parts), **_sweep(engine, folder, parts)}
            sys.stdout.write(json.dumps(figures) + "\n")
        finally:
            server.kill()


def _fill(engine: Engine, run: str, parts: int) -> float:
    """Fill the week, and return its size in MB."""
    with engine.begin() as connection:
        partitions.make(connection, _WEEK)
        values = {"start": _WEEK[0].start, "step": WEEK / (parts + 1), "run": run, "parts": parts}
        for statement in _FILL.split(";\n"):
            if statement.strip():
                connection.execute(text(statement), values)
    _vacuum(engine)
    return _size_mb(engine, _WEEK)


def _delete(engine: Engine, parts: int) -> dict[str, float]:
    """Remove by DELETE and VACUUM, which anybody would try first; then make the week anew."""
    _fill(engine, "r1", parts)
    begin_s = time.monotonic()
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE going AS SELECT part_id FROM verdict WHERE verdict = 'PASS'"))
        for one in _WEEK:
            connection.execute(text(f"DELETE FROM {one.name} WHERE part_id IN (SELECT part_id FROM going)"))  # noqa: S608 - ours
    deleted_s = time.monotonic() - begin_s
    _vacuum(engine)
    figures = {"delete_s": deleted_s, "delete_vacuum_s": time.monotonic() - begin_s}
    figures["after_delete_vacuum_mb"] = _size_mb(engine, _WEEK)
    with engine.begin() as connection:
        for one in _WEEK:
            partitions.drop(connection, one)
    return {name: round(value, 2) for name, value in figures.items()}


def _sweep(engine: Engine, folder: Path, parts: int) -> dict[str, float]:
    whole_mb = _fill(engine, "r2", parts)
    keep = RetentionSection.model_validate({"images_days": {"PASS": 10}, "rows_days": {"PASS": 14}, "free_disk_mb": 0})
    sweep = Sweep(engine.url, folder, "st", keep, None, Counter())
    before = _longest_ms(engine, lambda: time.sleep(5))
    begin_s = time.monotonic()
    during = _longest_ms(engine, lambda: sweep.run(NOW))
    swept_s = time.monotonic() - begin_s
    with engine.connect() as connection:
        left = connection.execute(text("SELECT count(*) FROM verdict WHERE run = 'r2'")).scalar_one()
    assert 0.029 < left / parts < 0.031
    figures = {"week_mb": whole_mb, "swept_s": swept_s, "after_sweep_mb": _size_mb(engine, _WEEK)}
    for who, quiet_ms, swept_ms in zip(("reader", "writer"), before, during, strict=True):
        figures |= {f"{who}_longest_quiet_ms": quiet_ms, f"{who}_longest_swept_ms": swept_ms}
    return {name: round(value, 2) for name, value in figures.items()}


def _longest_ms(engine: Engine, doing: Callable[[], object]) -> tuple[float, float]:
    """Return how long a reader of the week and a writer of today waited at most while something was done."""
    over = threading.Event()
    longest = [0.0, 0.0]

    def ask(index: int, once: Callable[[Connection, int], None]) -> None:
        with engine.connect() as connection:
            for number in itertools.count():
                begin_s = time.monotonic()
                with connection.begin():
                    once(connection, number)
                longest[index] = max(longest[index], (time.monotonic() - begin_s) * 1000)
                if over.wait(0.02):
                    return

    def read(connection: Connection, number: int) -> None:
        del number
        at = {"at": _WEEK[0].start + WEEK / 2}
        newest = "SELECT part_id FROM verdict WHERE trigger_time < :at ORDER BY trigger_time DESC LIMIT 1"
        connection.execute(text(newest), at).one()

    def write(connection: Connection, number: int) -> None:
        partitions.hold(connection)
        connection.execute(_TODAY, {"part_id": f"st-{time.monotonic_ns()}", "at": NOW, "number": number})

    threads = [threading.Thread(target=ask, args=pair) for pair in ((0, read), (1, write))]
    with engine.begin() as connection:
        partitions.make_ahead(connection, NOW)
    for thread in threads:
        thread.start()
    doing()
    over.set()
    for thread in threads:
        thread.join()
    return longest[0], longest[1]


def _vacuum(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for one in _WEEK:
            connection.execute(text(f"VACUUM (ANALYZE) {one.name}"))


def _size_mb(engine: Engine, of: Sequence[Partition]) -> float:
    size = text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
    with engine.connect() as connection:
        return sum(connection.execute(size, {"name": one.name}).scalar_one() for one in of) / MB


if __name__ == "__main__":
    main()
