"""Retention on a real server: what stays is exactly what must, readers and writers go on, a kill changes nothing."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
from live_servers import Servers
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from storage_process import until
from stored_parts import CONTENT, StoredPart, hold_part, review_part, store_parts

from config.errors import StoreError
from config.home import Home
from config.station import ImagesSection, RetentionSection, Station
from deploy.cli import main
from storage import audit, partitions
from storage import store as stores
from storage.partitions import DAY, WEEK, partition_of
from storage.retention import plan, removal
from storage.retention.plan import CLASSES, Kind, Removal
from storage.retention.removal import Removed
from storage.retention.sweep import Sweep
from storage.schema import image, verdict, view
from storage.store import Store

NOW = datetime(2026, 11, 22, 13, 30, tzinfo=UTC)
MB = 1024 * 1024
FAR = 36500
SHORT = {
    "images_days": {"PASS": 2, "REJECT": 9, "REVIEW": 12, "FAULT": 5, "CHALLENGE": 16},
    "rows_days": {"PASS": 10, "REJECT": 17, "REVIEW": 17, "FAULT": 10, "CHALLENGE": 25},
}
FOR_EVER = {"images_days": dict.fromkeys(CLASSES, FAR), "rows_days": dict.fromkeys(CLASSES, FAR)}


@pytest.fixture
def database(servers: Servers) -> Iterator[Engine]:
    url = servers.database()
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    yield engine
    servers.drop(url)


def sweep(engine: Engine, folder: Path, keep: dict[str, object], store: Store | None = None) -> Sweep:
    section = RetentionSection.model_validate({"free_disk_mb": 0} | keep)
    return Sweep(engine.url, folder, "st", section, store, Counter())


def ids(engine: Engine, table: str, condition: str = "true") -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(text(f"SELECT part_id FROM {table} WHERE {condition}")).scalars())  # noqa: S608 - ours


def tables(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return {one.name for one in partitions.present(connection)}


def scattered(seed: int, count: int) -> list[StoredPart]:
    """Return parts of the last six weeks, of every class, some recorded late, some of another station."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        at = NOW - timedelta(days=chance.uniform(0, 42))
        late = chance.random() < 0.05
        station = "other" if chance.random() < 0.05 else "st"
        found.append(
            StoredPart(
                f"{station}-r1-{number:08}",
                at,
                chance.choice(("PASS", "PASS", "PASS", "REJECT", "REVIEW", "FAULT")),
                challenge=chance.random() < 0.1,
                recorded_at=NOW - timedelta(hours=1) if late else None,
                station=station,
                has_verdict=chance.random() > 0.05,
            )
        )
    return found


def test_exactly_what_must_stays(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "LEAST_SHARE", 1e-9)  # however little it gives
    parts = scattered(1, 400)
    chosen = random.Random(2).sample(parts, 60)
    reviewed, held = chosen[:30], chosen[30:]
    with database.begin() as connection:
        store_parts(connection, parts)
        for part in reviewed:
            review_part(connection, part)
        for part in held:
            hold_part(connection, part)
    keep = RetentionSection.model_validate(SHORT)
    one = sweep(database, tmp_path, SHORT)
    swept = one.run(NOW)

    def gone(part: StoredPart, width: timedelta, days: dict[str, int]) -> bool:
        if part in chosen or (part.station != "st" and part.has_verdict):
            return False
        if not part.has_verdict and not part.part_id.startswith("st-"):
            return False
        cutoff = NOW - timedelta(days=days[part.group] if part.has_verdict else max(days.values()))
        table = {DAY: image, WEEK: verdict}[width]
        return partition_of(table, part.time).end <= cutoff and (part.recorded_at or part.time) < cutoff

    images_days, rows_days = keep.images_days.model_dump(), keep.rows_days.model_dump()
    without_rows = {part.part_id for part in parts if gone(part, WEEK, rows_days)}
    without_maps = {part.part_id for part in parts if part.has_verdict and gone(part, WEEK, images_days)} | without_rows
    without_images = {part.part_id for part in parts if gone(part, DAY, images_days)} | without_rows
    everything, judged = ({part.part_id for part in parts}, {part.part_id for part in parts if part.has_verdict})
    assert len(without_rows) > 80
    assert len(without_images) > len(without_rows) + 50
    assert ids(database, "verdict") == judged - without_rows
    assert ids(database, "view") == judged - without_rows
    assert ids(database, "defect") == judged - without_rows
    assert ids(database, "gate_report") == everything - without_rows
    assert ids(database, "view", "map IS NOT NULL") == judged - without_maps
    assert ids(database, "image") == everything - without_images
    assert swept.counts()["images_removed"] == len(without_images)
    assert swept.counts()["rows_removed"] == 3 * len(judged & without_rows) + len(without_rows)

    assert one.run(NOW).removed == []
    assert sweep(database, tmp_path, SHORT).run(NOW).removed == []  # after a start, too
    with database.connect() as connection:
        entries = audit.newest(connection, 1000)
        assert [entry.action for entry in entries] == ["retention.swept"] * len(swept.removed)
        assert audit.verify(connection, {"here": audit.Anchor(tmp_path).read()}).whole  # type: ignore[dict-item]  # noted
        assert connection.execute(text("SELECT sum(parts) FROM tally")).scalar_one() == len(judged)


def test_a_partition_without_anything_to_keep_is_dropped_and_can_come_again(database: Engine, tmp_path: Path) -> None:
    old = [StoredPart(f"st-r1-{number:08}", NOW - 60 * DAY) for number in range(20)]
    with database.begin() as connection:
        store_parts(connection, old)
    names = {partition_of(table, old[0].time).name for table in partitions.WIDTHS}
    assert names <= tables(database)
    swept = sweep(database, tmp_path, SHORT).run(NOW)
    assert not names & tables(database)
    assert swept.counts()["rows_removed"] == 80
    assert swept.counts()["bytes_freed"] > 20 * len(CONTENT)
    with database.begin() as connection:
        store_parts(connection, old)
    assert len(ids(database, "verdict")) == 20


def test_too_little_is_left_until_it_is_worth_it(database: Engine, tmp_path: Path) -> None:
    parts = [
        StoredPart(f"st-r1-{number:08}", NOW - 20 * DAY, "PASS" if number < 10 else "REJECT") for number in range(90)
    ]
    with database.begin() as connection:
        store_parts(connection, parts)
    keep = {"images_days": {"PASS": 2}, "rows_days": {"PASS": 2}}
    assert sweep(database, tmp_path, keep).run(NOW).removed == []
    with database.begin() as connection:
        store_parts(connection, [StoredPart(f"st-r1-{number:08}", NOW - 20 * DAY) for number in range(90, 110)])
    assert sweep(database, tmp_path, keep).run(NOW).counts()["images_removed"] == 30
    assert ids(database, "verdict") == {part.part_id for part in parts if part.judgement == "REJECT"}


def test_what_comes_while_the_rest_is_written_is_kept(database: Engine) -> None:
    day = datetime(2026, 10, 7, 12, tzinfo=UTC)
    parts = [StoredPart(f"st-r1-{number:08}", day) for number in range(50)]
    late = StoredPart("st-r1-90000000", day, recorded_at=NOW)
    with database.begin() as connection:
        store_parts(connection, parts)

    def meanwhile(connection: Connection, rest: str) -> None:
        del connection, rest
        with database.begin() as other:
            review_part(other, parts[3])
            hold_part(other, parts[4])
            if "st-r1-90000000" not in ids(database, "verdict"):
                store_parts(other, [late])

    stays = {parts[3].part_id, parts[4].part_id, late.part_id}
    everyone = dict.fromkeys(CLASSES, NOW - DAY)
    for kind, table in ((Kind.MAPS, view), (Kind.IMAGES, image), (Kind.ROWS, verdict)):
        one = partition_of(table, day)
        with database.begin() as connection:
            connection.execute(text("DELETE FROM hold"))
            connection.execute(text("DELETE FROM review"))
        due = Removal(kind, one.start, one.end, everyone)
        with database.connect() as connection:
            removal.remove(
                connection, due, one, "st", stopping=threading.Event(), today=date(2026, 11, 22), beside=meanwhile
            )
        assert ids(database, table.name, "map IS NOT NULL" if kind is Kind.MAPS else "true") == stays
    assert len(ids(database, "view")) == 51


def test_nobody_waits_for_a_sweep_that_waits_for_a_reader(database: Engine) -> None:
    day = datetime(2026, 10, 7, 12, tzinfo=UTC)
    with database.begin() as connection:
        store_parts(connection, [StoredPart(f"st-r1-{number:08}", day) for number in range(50)])
    one = partition_of(verdict, day)
    due = Removal(Kind.ROWS, one.start, one.end, dict.fromkeys(CLASSES, NOW - DAY))
    done: list[Removed] = []

    def removing() -> None:
        with database.connect() as connection:
            arguments = {"stopping": threading.Event(), "today": date(2026, 11, 22)}
            done.append(removal.remove(connection, due, one, "st", **arguments))  # type: ignore[arg-type]  # as named

    thread = threading.Thread(target=removing)
    with database.connect() as reader, reader.begin():
        assert reader.execute(text("SELECT count(*) FROM verdict")).scalar_one() == 50
        thread.start()
        longest_s = 0.0
        for number in range(100, 130):
            begin_s = time.monotonic()
            with database.begin() as writer:
                partitions.hold(writer)
                store_parts(writer, [StoredPart(f"st-r1-{number:08}", NOW)])
            longest_s = max(longest_s, time.monotonic() - begin_s)
            time.sleep(0.02)
        assert not done
    thread.join(10)
    assert longest_s < 1.0  # 0.2 s for the lock, and what it takes here
    assert done[0].rows == 50
    assert len(ids(database, "verdict")) == 30


def test_what_is_in_use_is_left_for_later_and_the_rest_is_swept(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_ATTEMPTS", 2)
    monkeypatch.setattr(removal, "_PAUSE_S", 0.01)
    parts = [StoredPart(f"st-r1-{number:08}", NOW - (40 + 7 * number) * DAY) for number in range(3)]
    with database.begin() as connection:
        store_parts(connection, parts)
    one = sweep(database, tmp_path, SHORT)
    in_use = partition_of(image, parts[1].time).name
    with database.connect() as reader, reader.begin():
        reader.execute(text(f"SELECT count(*) FROM {in_use}"))  # noqa: S608 - ours
        swept = one.run(NOW)
        assert swept.left == [f"{in_use} is in use"] * len(swept.left)
        assert {parts[1].part_id} <= ids(database, "verdict")
        assert swept.removed
        assert ids(database, "image") == {parts[1].part_id}
    one.run(NOW)
    assert ids(database, "image") == {parts[1].part_id}  # left alone for an hour
    assert sweep(database, tmp_path, SHORT).run(NOW).left == []
    assert ids(database, "image") == set()
    assert ids(database, "verdict") == set()


def test_a_kill_leaves_the_partition_as_it_was(servers: Servers, database: Engine, tmp_path: Path) -> None:
    day = datetime(2026, 10, 7, 12, tzinfo=UTC)
    parts = [StoredPart(f"st-r1-{number:08}", day, "PASS" if number % 5 else "REJECT") for number in range(100)]
    with database.begin() as connection:
        store_parts(connection, parts)
    one = partition_of(image, day)
    due = Removal(Kind.IMAGES, one.start, one.end, {"PASS": NOW - DAY})
    for hook in ("beside", "at_last"):
        hooks = {hook: lambda *_: servers.postgres.kill()}
        with database.connect() as connection, pytest.raises(DBAPIError):
            removal.remove(
                connection,
                due,
                one,
                "st",
                stopping=threading.Event(),
                today=date(2026, 11, 22),
                **hooks,  # type: ignore[arg-type]  # as named
            )
        servers.ready()
        assert len(ids(database, "image")) == 100
    swept = sweep(database, tmp_path, {"images_days": {"PASS": 10}}).run(NOW)
    assert swept.counts()["images_removed"] == 80
    assert ids(database, "image") == {part.part_id for part in parts if part.judgement == "REJECT"}
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_next'")).scalar_one() == 0


def test_space_is_taken_from_images_of_pass_first_and_only_as_much_as_must(database: Engine, tmp_path: Path) -> None:
    days = [datetime(2026, 11, number, 12, tzinfo=UTC) for number in (2, 3, 4, 5, 6)]
    content = random.Random(3).randbytes(100_000)
    for at in days:
        parts = [StoredPart(f"st-{at.day}-{number:08}", at, "PASS" if number % 2 else "REJECT") for number in range(40)]
        with database.begin() as connection:
            store_parts(connection, parts, content)
    with database.connect() as connection:
        size_mb = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one() // MB
    swept = sweep(database, tmp_path, FOR_EVER | {"database_limit_mb": size_mb - 2}).run(NOW)
    assert swept.problem is None
    names = [one.partition.name for one in swept.removed]
    assert 2 <= len(names) <= 3  # 2 MB each, and 5 % more than must be
    assert names == ["image_20261102", "image_20261103", "image_20261104"][: len(names)]
    assert len(ids(database, "image")) == 200 - 20 * len(names)
    assert len(ids(database, "image", "part_id IN (SELECT part_id FROM verdict WHERE verdict = 'REJECT')")) == 100
    assert ids(database, "view", "map IS NULL") == set()

    counters_of = sweep(database, tmp_path, FOR_EVER | {"database_limit_mb": 1})
    swept = counters_of.run(NOW)  # an empty database is larger than that
    assert swept.problem is not None
    assert "storage.retention.database_limit_mb is 1" in swept.problem
    assert ids(database, "verdict") == set()
    kinds = [(one.partition.table.name, tuple(one.classes) == ("PASS",)) for one in swept.removed]
    passes = 5 - len(names)
    assert kinds[: passes + 5] == [("image", True)] * passes + [("image", False)] * 5
    assert [name for name, _ in kinds].index("view") == passes + 5  # maps after every image
    begin_s = time.monotonic()
    assert counters_of.run(NOW).removed == []
    assert time.monotonic() - begin_s < 2


@dataclass
class Packed:
    """A day's images in a store: one pack of parts, one of nobody's, and one of a day that was never counted."""

    store: Store
    contents: list[bytes]
    parts: list[StoredPart]
    names: set[str]


@pytest.fixture
def packed(database: Engine, tmp_path: Path) -> Packed:
    (tmp_path / "packs").mkdir()
    options = ImagesSection(type="folder", options={"path": str(tmp_path / "packs")})
    store, other = stores.connect(options, "st"), stores.connect(options, "st")
    assert store is not None
    assert other is not None
    chance = random.Random(4)
    at = datetime(2026, 11, 4, 12, tzinfo=UTC)
    contents = [chance.randbytes(2000) for _ in range(100)]
    places = store.put(at.date(), contents)
    other.put(at.date(), [b"an orphan"])
    other.put(date(2026, 11, 3), [b"of a day that this database knows nothing of"])
    for one in (store, other):
        one.close()
    parts = [
        StoredPart(f"st-r1-{number:08}", at, "PASS" if number % 10 else "REJECT", place=place)
        for number, place in enumerate(places)
    ]
    with database.begin() as connection:
        store_parts(connection, parts, contents[0])
        review_part(connection, parts[7])
    return Packed(store, contents, parts, {pack.name for pack in store.packs(at.date())})


def test_images_that_stay_move_together_and_packs_without_any_go(
    database: Engine, tmp_path: Path, packed: Packed
) -> None:
    _grow_old(tmp_path)
    store, day = packed.store, packed.parts[0].time.date()
    swept = sweep(database, tmp_path, {"images_days": {"PASS": 10}}, store).run(NOW)
    left = store.packs(day)
    assert not packed.names & {pack.name for pack in left}
    assert sum(pack.size_bytes for pack in left) < 11 * 2000 + 100
    assert swept.packs_bytes > 100 * 2000
    stays = [7, *range(0, 100, 10)]
    with database.connect() as connection:
        found = dict(connection.execute(text("SELECT part_id, place FROM image")).all())  # type: ignore[arg-type]  # pairs
    assert {part_id: store.get(place) for part_id, place in found.items()} == {
        packed.parts[number].part_id: packed.contents[number] for number in stays
    }
    assert len(store.packs(date(2026, 11, 3))) == 1


def test_packs_that_somebody_may_be_writing_to_stay(database: Engine, tmp_path: Path, packed: Packed) -> None:
    store, day = packed.store, packed.parts[0].time.date()
    assert len(packed.names) == 2
    keep = {"images_days": {"PASS": 10}}
    sweep(database, tmp_path, keep, store).run(NOW)
    assert {pack.name for pack in store.packs(day)} == packed.names
    assert len(ids(database, "image")) == 11
    _grow_old(tmp_path)
    sweep(database, tmp_path, keep, store).run(NOW)
    assert len(store.packs(day)) == 1  # the orphan went


def test_space_of_a_store_is_taken_from_its_images_alone(database: Engine, tmp_path: Path, packed: Packed) -> None:
    _grow_old(tmp_path)
    swept = sweep(database, tmp_path, FOR_EVER | {"free_disk_mb": 2**40}, packed.store).run(NOW)
    assert swept.problem is not None
    assert "the image store: storage.retention.free_disk_mb" in swept.problem
    assert ids(database, "image") == {packed.parts[7].part_id}
    assert len(ids(database, "view", "map IS NOT NULL")) == 100


def _grow_old(folder: Path) -> None:
    for file in folder.rglob("*.pack"):
        os.utime(file, (NOW.timestamp() - 3 * 86400,) * 2)


def test_a_sweep_stops_at_once(database: Engine, tmp_path: Path) -> None:
    with database.begin() as connection:
        store_parts(connection, [StoredPart("st-r1-00000001", NOW - 60 * DAY)])
    one = sweep(database, tmp_path, SHORT)
    said: list[str] = []

    def sweeping() -> None:
        try:
            one.run(NOW)
        except StoreError as error:
            said.append(str(error))

    thread = threading.Thread(target=sweeping)
    with database.connect() as other, other.begin():
        other.execute(text("LOCK TABLE verdict"))  # a sweep waits 2 s for it
        thread.start()
        waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'verdict'::regclass)")
        until(lambda: other.execute(waiting).scalar_one())
        begin_s = time.monotonic()
        one.stop()
        thread.join(10)
        assert time.monotonic() - begin_s < 0.5
    assert "canceling statement due to user request" in said[0]
    assert len(ids(database, "verdict")) == 1


def test_only_one_sweeps_at_a_time(database: Engine, tmp_path: Path) -> None:
    with database.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": 0x616E646F72})
        with pytest.raises(StoreError, match="another sweep"):
            sweep(database, tmp_path, SHORT).run(NOW)
    sweep(database, tmp_path, SHORT).run(NOW)


def test_the_command_says_what_goes_and_removes_it(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    days = [now - timedelta(days=number) for number in range(40)]
    parts = [StoredPart(f"st-r1-{n:08}", at, "REJECT" if n % 4 == 0 else "PASS") for n, at in enumerate(days)]
    with database.begin() as connection:
        store_parts(connection, parts)
        review_part(connection, parts[39])
    home = Home(tmp_path)
    home.write_station(
        Station.model_validate(
            {
                "station": "st",
                "recipes": {"demo": "demo.toml"},
                "recipe": "demo",
                "cameras": [{"name": "top", "type": "simulated"}],
                "plc": {"type": "modbus"},
                "storage": {"retention": {"images_days": {"PASS": 10}, "rows_days": {"PASS": 15}}},
            }
        )
    )
    monkeypatch.setenv("ANDON_DATABASE_URL", database.url.render_as_string(hide_password=False))
    command = ["retention", "--home", str(tmp_path)]
    assert main([*command, "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    good = said["classes"]["PASS"]
    assert (good["parts"], good["protected"], good["images"]) == (30, 1, 30)
    assert good["images_bytes"] == 30 * len(CONTENT)
    assert said["classes"]["REJECT"]["going_images"] == 0
    assert said["swept"] is None
    assert len(ids(database, "verdict")) == 40

    assert main(command) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[0].split()[:3] == ["class", "parts", "protected"]
    assert f"removed: {4 * good['going_parts']} rows" in table
    left = ids(database, "image", "part_id IN (SELECT part_id FROM verdict WHERE verdict = 'PASS')")
    assert len(left) == 30 - good["going_images"]
    assert len(ids(database, "verdict")) == 40 - good["going_parts"]
    assert good["going_parts"] > 10
    assert main([*command, "--dry-run", "--json"]) == 0
    good = json.loads(capsys.readouterr().out)["classes"]["PASS"]
    assert (good["going_images"], good["going_parts"]) == (0, 0)
    assert datetime.fromisoformat(good["next_at"]) > now
