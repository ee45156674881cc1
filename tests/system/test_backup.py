"""Backups taken from real servers under load, put back elsewhere; damaged ones, and restores that are killed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import debian_servers
import pytest
import sqlalchemy
from live_servers import LiveServer, Servers, state_folder
from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool
from storage_process import JPEG, Sender, Storage, storage, until, verdict

from config import recipe
from config.errors import EXIT_CONFIGURATION, AndonError, ConfigurationError, InputError, StoreError
from config.home import Home
from config.messages import Evidence
from config.recipe import Recipe
from config.station import RetentionSection, Station, StorageSection
from deploy.backup import backup as taking
from deploy.backup import restore as putting
from deploy.backup.archive import Reader, Writer
from deploy.backup.backup import back_up
from deploy.backup.restore import Restored, restore
from deploy.servers import Postgres
from inference.keys import SigningKey, TrustStore
from storage import audit, partitions
from storage import migrate as migrations
from storage import store as stores
from storage.migrate import check, migrate
from storage.retention import sweep as sweeps
from storage.retention.sweep import Sweep

ANDON = [sys.executable, "-m", "deploy"]


def quiet(*_: object) -> None:
    """Take progress and say nothing."""


@contextlib.contextmanager
def asked(url: str) -> Iterator[Connection]:
    with sqlalchemy.create_engine(url, poolclass=NullPool).connect() as connection:
        yield connection


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with asked(url) as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()


def assert_whole(url: str, sequences: range) -> None:
    """Every part of these is there once, in the order of sending, and is counted once; the audit trail is whole."""
    found = [row[0] for row in rows(url, "SELECT sequence FROM verdict ORDER BY position")]
    assert found == list(sequences)
    assert rows(url, "SELECT sum(parts)::int, count(*) FROM tally WHERE parts > 0")[0][0] == len(sequences)
    assert rows(url, "SELECT count(*) FROM view") == [(len(sequences),)]
    with asked(url) as connection:
        assert audit.verify(connection, {}).whole


@pytest.fixture
def empty(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty external database, named as such."""
    url = servers.database(migrated=False)
    monkeypatch.setenv("ANDON_DATABASE_URL", url)
    yield url
    servers.drop(url)


@pytest.mark.parametrize("stage", ["journal, MB", "database, MB"])
def test_backup_under_load_has_all_that_was_acknowledged_before(
    servers: Servers, empty: str, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Records keep coming, and all that is in the journal leaves it for the database in the middle of the copying."""
    monkeypatch.setenv("ANDON_KEYS", "/nowhere")
    with storage(servers, journal_limit_mb=4) as station, state_folder() as elsewhere:
        station.start()
        sender = station.sender()
        acknowledged, sent = _back_up_under_load(station, sender, elsewhere / "line.tar", stage)
        assert rows(station.database, "SELECT action, subject FROM audit") == [("backup.made", "line.tar")]

        restored = restore(elsewhere / "line.tar", Home(elsewhere / "home"), "tester", quiet)
        with asked(empty) as connection:
            check(connection)
            assert audit.verify(connection, {}).whole
        again = Storage(elsewhere, empty, servers.valkey.url, free_disk_mb=0)
        try:
            again.start()
            until(lambda: _has_drained(again), again.said)
            held = again.stored()
            assert acknowledged <= held <= sent
            assert restored.verdicts <= (300 if stage == "database, MB" else held)
            assert_whole(empty, range(held))

            peer = again.sender("later")  # and it goes on from there
            for number in range(held, held + 50):
                peer.send(*verdict(number))
            peer.finish()
            until(lambda: again.stored() == held + 50, again.said)
            assert_whole(empty, range(held + 50))
            assert again.events("damaged bytes in the journal, kept in damaged/") == 0
            assert (
                again.events("PostgreSQL has a position that this journal never reached: all of it is read again") == 0
            )
        finally:
            again.close()
        until(lambda: station.stored() == sent, station.said)  # and the line has not noticed


def _has_drained(station: Storage) -> bool:
    """Both stations write to one Redis, under one name."""
    health = station.health()
    pid = station.process.pid if station.process else 0
    return health is not None and health.pid == pid and health.counters["journal_backlog_bytes"] == 0


def _back_up_under_load(station: Storage, sender: Sender, out: Path, stage: str) -> tuple[int, int]:
    """Return how many parts were acknowledged before the backup began, and how many there are in the end."""
    for number in range(300):
        sender.send(*verdict(number))
    sender.finish()
    until(lambda: station.stored() == 300, station.said)
    blocker = sqlalchemy.create_engine(station.database, poolclass=NullPool).connect()
    blocker.execute(text("LOCK TABLE verdict IN SHARE MODE"))  # the writer waits, readers do not
    acknowledged = sent = 2500
    for number in range(300, acknowledged):
        sender.send(*verdict(number))
        sender.take(0)
    sender.finish()
    assert len(list(station.home.journal.glob("*.segment"))) >= 3
    drained = threading.Event()

    def let_drain(at: str, *_: object) -> None:
        if at == stage and not drained.is_set():
            blocker.close()
            until(lambda: station.stored() >= acknowledged, station.said)
            drained.set()

    made: list[taking.Backup] = []
    copying = threading.Thread(
        target=lambda: made.append(back_up(station.home, station.database, out, "tester", let_drain))
    )
    copying.start()
    while copying.is_alive():
        sender.send(*verdict(sent))
        sent += 1
        sender.take(1)
    copying.join()
    sender.finish()
    assert made, "the backup failed"
    assert drained.is_set()
    return acknowledged, sent


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with state_folder() as made:
        yield made


class Taken:
    """A station with an embedded database, a recipe with ROI and bundle, and packs of images; and its backups."""

    def __init__(self, folder: Path, running: Path, stopped: Path, station: Station, key: bytes) -> None:
        self.folder, self.running, self.stopped = folder, running, stopped
        self.station, self.key = station, key
        self.content = recipe.content(adopted(station))
        self.bundle = station.read_recipes()["demo"].views["top"].bundle.read_bytes()


@pytest.fixture(scope="module")
def taken(running_servers: Servers, folder: Path) -> Iterator[Taken]:
    running_servers.ready()
    before = {name: os.environ.get(name) for name in ("ANDON_KEYS", "ANDON_DATABASE_URL")}
    os.environ["ANDON_KEYS"] = str(folder / "keys")
    os.environ.pop("ANDON_DATABASE_URL", None)
    SigningKey.load()
    home = Home(folder / "home")
    home.make()
    postgres = LiveServer(Postgres(home.path))
    postgres.start()
    migrate(postgres.url)
    images = {"type": "folder", "options": {"path": str(folder / "packs")}}
    (folder / "packs").mkdir()
    line = Storage(folder, postgres.url, running_servers.valkey.url, free_disk_mb=0, images=images)
    try:
        station = _with_recipe(line.home, folder)
        line.start()
        _send(line, 200)
        with asked(postgres.url) as connection:
            connection.execute(text("INSERT INTO person (name, role, password) VALUES ('ada', 'ADMIN', '')"))
            connection.execute(text("INSERT INTO session (digest, person, ends_at) VALUES ('s', 'ada', 'infinity')"))
            connection.execute(text("INSERT INTO token (digest, name, person, role) VALUES ('t', 't', 'ada', 'ADMIN')"))
            connection.commit()
        back_up(home, postgres.url, folder / "running.tar", "tester", quiet)
        line.stop()
        postgres.stop()
        done = subprocess.run(
            [*ANDON, "backup", "--home", home.path, "--out", folder / "stopped.tar", "--json"],
            check=True,
            capture_output=True,
        )
        assert json.loads(done.stdout)["missing"] == []
        key = (folder / "keys" / "signing.pub").read_bytes()
        yield Taken(folder, folder / "running.tar", folder / "stopped.tar", station, key)
    finally:
        line.close()
        postgres.kill()
        shutil.rmtree(home.runtime, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _with_recipe(home: Home, folder: Path) -> Station:
    """Let the station's recipe be a real file, with files that it names relatively."""
    (folder / "files").mkdir()
    (folder / "files" / "a bundle.andon").write_bytes(random.Random(1).randbytes(100_000))
    for name in ("roi.png", "rim.png"):
        (folder / "files" / name).write_bytes(b"\x89PNG and so on, " + name.encode())
    (folder / "demo.toml").write_text(
        'product = "bracket"\njob = 1\n[views.top]\nbundle = "files/a bundle.andon"\nroi = "files/roi.png"\n'
        'review_above = 1\nreject_above = 2\n[[views.top.zones]]\nname = "rim"\nmask = "files/rim.png"\n'
    )
    station = home.read_station().model_copy(update={"recipes": {"demo": folder / "demo.toml"}})
    home.write_station(station)
    versions = home.versions()
    in_force = versions.begin(home.read_run().run_id, station)
    versions.adopt("demo", versions.copy(adopted(station)), recipe.digest(recipe.content(in_force["demo"])))
    return station


def adopted(station: Station) -> Recipe:
    """What a person has put in force at the console: another version than the recipe's file says."""
    found = station.read_recipes()["demo"]
    view = found.views["top"].model_copy(update={"reject_above": 3.0})
    return found.model_copy(update={"version": 2, "views": {"top": view}})


def _send(line: Storage, parts: int) -> None:
    sender = line.sender()
    for number in range(parts):
        message, payload = verdict(number)
        sender.send(message, payload)
        seen = {"part_id": message.part_id, "trigger_time_ns": message.trigger_time_ns, "camera": "top"}
        sender.send(Evidence(**seen, purpose="crop", region=0, width_px=9, height_px=9), [JPEG])
    sender.finish()
    until(lambda: line.stored() == parts and line.stored("image") == parts, line.said)


@pytest.fixture
def home() -> Iterator[Home]:
    with state_folder() as made:
        home = Home(made / "home")
        yield home
        shutil.rmtree(home.runtime, ignore_errors=True)


@contextlib.contextmanager
def embedded(home: Home) -> Iterator[str]:
    server = LiveServer(Postgres(home.path))
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@pytest.mark.parametrize("which", ["running", "stopped"])
def test_restored_station_has_all_its_files(
    taken: Taken, home: Home, which: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANDON_KEYS", str(tmp_path))
    own = SigningKey.load().public
    file = taken.running if which == "running" else taken.stopped
    restored = restore(file, home, "tester", quiet)

    assert (restored.verdicts, restored.fault, restored.missing) == (200, None, ())
    assert sorted(entry.name for entry in home.path.iterdir() if entry.name != "programs") == sorted(
        ["audit.json", "bundles", "images", "journal", "lock", "log", "postgres", "recipes", "rois", "station.json"]
    )
    found = home.read_station()
    assert found.model_copy(update={"recipes": {}, "storage": StorageSection()}) == taken.station.model_copy(
        update={"recipes": {}, "storage": StorageSection()}
    )
    assert recipe.content(found.read_recipes()["demo"]) == taken.content
    assert found.read_recipes()["demo"].views["top"].bundle.read_bytes() == taken.bundle
    trust = TrustStore.load()
    assert len(trust) == 2
    assert trust.trusts(own)
    assert [Path(path).read_bytes() for path in restored.trusted] == [taken.key]
    assert not list(home.path.rglob("*.pem"))
    with embedded(home) as url:
        assert_whole(url, range(200))
        assert rows(url, "SELECT count(*) FROM token") == [(1,)]
        assert rows(url, "SELECT count(*) FROM session") == [(0,)]  # whoever was signed in signs in anew
        before = [] if which == "running" else [("backup.made", "running.tar")]
        noted_acts = rows(url, "SELECT action, subject FROM audit ORDER BY number")
        assert noted_acts == [*before, ("backup.restored", file.name)]
        with asked(url) as connection:
            noted = audit.Anchor(home.path).read()
            assert noted is not None
            assert audit.verify(connection, {"audit.json": noted}).whole
        places = [place for (place,) in rows(url, "SELECT place FROM image")]
        assert len(places) == 200
        images = stores.connect(found.storage.images, found.station)
        assert images is not None
        assert {images.get(place) for place in places} == {JPEG}
        images.close()
        given = rows(url, "SELECT relname, relowner::regrole::text FROM pg_class WHERE relname LIKE 'verdict_2%'")
        assert {owner for _, owner in given} == {"andon"}


def test_restored_database_is_made_as_the_migrations_make_it(
    taken: Taken, servers: Servers, empty: str, home: Home
) -> None:
    """Constraints, indexes, storage and triggers, of every table."""
    restore(taken.stopped, home, "tester", quiet)
    fresh = servers.database()
    with asked(empty) as connection:
        wanted = partitions.present(connection)
    with sqlalchemy.create_engine(fresh, poolclass=NullPool).begin() as connection:
        partitions.make(connection, wanted)
    columns = """
        SELECT relname, attname, attstorage, attnotnull, attidentity, pg_get_expr(adbin, adrelid)
        FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef d ON adrelid = c.oid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1, attnum"""
    assert rows(empty, columns) == rows(fresh, columns)
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    assert rows(empty, indexes) == rows(fresh, indexes)
    bounds = "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition ORDER BY 1"
    assert rows(empty, bounds) == rows(fresh, bounds)
    triggers = "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
    assert rows(empty, triggers) == rows(fresh, triggers) != []
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="append-only"):
        rows(empty, "DELETE FROM audit")
    servers.drop(fresh)


@pytest.mark.skipif(not debian_servers.INSTALLED, reason="NO DEBIAN SERVERS: make debian-servers")
def test_embedded_stations_backup_goes_on_with_postgresql_15(
    taken: Taken, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one check of Debian's servers that needs no setting: restored, then fed and killed there."""
    with state_folder() as elsewhere:
        debian = Servers(elsewhere, "debian")
        try:
            debian.ready()
            monkeypatch.setenv("ANDON_DATABASE_URL", debian.postgres.url)
            restore(taken.running, home, "tester", quiet)
            line = Storage(home.path.parent, debian.postgres.url, debian.valkey.url, free_disk_mb=0)
            line.start()
            sender = line.sender()
            for number in range(200, 300):
                sender.send(*verdict(number))
                sender.take(1)
                if number == 250:
                    debian.postgres.kill()
                    debian.valkey.kill()
            debian.ready()
            sender.finish()
            until(lambda: line.stored() == 300, line.said)
            assert_whole(debian.postgres.url, range(300))
            line.close()
        finally:
            debian.postgres.kill()
            debian.valkey.kill()


def test_backup_is_refused_where_it_cannot_be_written(taken: Taken, servers: Servers, tmp_path: Path) -> None:
    url = servers.database()
    home = Home(taken.folder / "home")
    (tmp_path / "there.tar").write_bytes(b"something")
    with pytest.raises(InputError, match="there already"):
        back_up(home, url, tmp_path / "there.tar", "tester", quiet)
    assert (tmp_path / "there.tar").read_bytes() == b"something"
    with pytest.raises(InputError, match="no such folder"):
        back_up(home, url, tmp_path / "absent" / "b.tar", "tester", quiet)
    with pytest.raises(ConfigurationError):
        back_up(Home(tmp_path), url, tmp_path / "b.tar", "tester", quiet)
    servers.drop(url)
    with pytest.raises(StoreError, match="PostgreSQL"):
        back_up(home, url, tmp_path / "b.tar", "tester", quiet)
    assert [entry.name for entry in tmp_path.iterdir()] == ["there.tar"]


def test_backup_and_sweep_wait_for_each_other(taken: Taken, servers: Servers, tmp_path: Path) -> None:
    """Retention removes packs without rows; those of the snapshot must stay until they are copied."""
    url = servers.database()
    home = Home(taken.folder / "home")
    sweep = Sweep(sqlalchemy.make_url(url), home.path, "st", RetentionSection(free_disk_mb=0), None, Counter())
    stages = []

    def sweep_meanwhile(stage: str, *_: object) -> None:
        stages.append(stage)
        with pytest.raises(StoreError, match="or a backup, is at work"):
            sweep.run(datetime.now(UTC))

    back_up(home, url, tmp_path / "b.tar", "tester", sweep_meanwhile)
    assert "database, MB" in stages
    sweep.run(datetime.now(UTC))
    sweeping = sqlalchemy.create_engine(url, poolclass=NullPool).connect()
    sweeping.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": sweeps._LOCK})

    def end_sweep(stage: str, *_: object) -> None:
        stages.append(stage)
        if "waiting for a sweep" in stage:
            threading.Timer(0.2, sweeping.close).start()

    stages.clear()
    back_up(home, url, tmp_path / "c.tar", "tester", end_sweep)
    assert stages[0] == "waiting for a sweep of retention to end"
    servers.drop(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a small disk is mounted")
def test_full_disk_leaves_nothing_of_a_backup(taken: Taken, servers: Servers, tmp_path: Path) -> None:
    url = servers.database()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp_path]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(23 << 20))
        with pytest.raises(StoreError, match="a backup takes up to"):
            back_up(Home(taken.folder / "home"), url, tmp_path / "b.tar", "tester", quiet)
        assert entries(tmp_path) == {"ballast"}
        ballast.unlink()
        with Reader(taken.running, quiet) as reader:
            header = reader.header
        with Writer(tmp_path / "b.tar", header, 0) as writer, pytest.raises(StoreError, match="No space left"):
            writer.add("journal/1", bytes(30 << 20))
        assert entries(tmp_path) == set()
        with Writer(tmp_path / "b.tar", header, 1 << 40) as writer, pytest.raises(StoreError, match="not for backups"):
            writer.add("journal/1", bytes(17 << 20))
        assert entries(tmp_path) == set()
    finally:
        subprocess.run(["/bin/umount", tmp_path], check=True)
        servers.drop(url)


def _members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]  # files


def _tar(path: Path, members: list[tuple[str, bytes]], **changes: object) -> None:
    """Write members; `changes` are made to the second one's header."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (name, content) in enumerate(members):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for field, value in changes.items() if number == 1 else ():
                setattr(entry, field, value)
            tar.addfile(entry, io.BytesIO(content))


def _cut(members: list[tuple[str, bytes]], path: Path, share: float) -> None:
    _tar(path, members)
    size = path.stat().st_size
    os.truncate(path, round(size * share))


def _flipped(members: list[tuple[str, bytes]], path: Path) -> None:
    _tar(path, members)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def _changed(name: str, old: bytes, new: bytes) -> Callable[[list[tuple[str, bytes]], Path], None]:
    def write(members: list[tuple[str, bytes]], path: Path) -> None:
        assert any(old in content for found, content in members if found == name)
        _tar(path, [(found, content.replace(old, new) if found == name else content) for found, content in members])

    return write


SPOILED: dict[str, tuple[Callable[[list[tuple[str, bytes]], Path], object], str]] = {
    "empty": (lambda _, path: path.write_bytes(b""), "is no backup of Andon"),
    "text": (lambda _, path: path.write_text("hello" * 1000), "is no backup of Andon"),
    "another tar": (lambda _, path: _tar(path, [("etc/passwd", b"root")]), "is no backup of Andon"),
    "cut in the header": (lambda members, path: _cut(members, path, 0.00002), "is no backup of Andon"),
    "cut early": (lambda members, path: _cut(members, path, 0.02), "damaged"),
    "cut": (lambda members, path: _cut(members, path, 0.5), "damaged: it ends in the middle"),
    "cut late": (lambda members, path: _cut(members, path, 0.995), "damaged"),
    "without its end": (lambda members, path: _tar(path, members[:-1]), "no manifest at its end"),
    "one byte": (_flipped, "damaged"),
    "a member less": (lambda members, path: _tar(path, [*members[:3], *members[4:]]), "is missing"),
    "a member more": (lambda members, path: _tar(path, [*members[:3], ("journal/x", b"1"), *members[3:]]), "SHA-256"),
    "a member twice": (lambda members, path: _tar(path, [*members[:3], *members[2:]]), "there twice"),
    "a way out": (lambda members, path: _tar(path, members, name="journal/../../evil"), "nothing that a backup"),
    "an absolute name": (lambda members, path: _tar(path, members, name="/etc/passwd"), "nothing that a backup"),
    "a link": (
        lambda members, path: _tar(path, members, type=tarfile.SYMTYPE, linkname="/etc"),
        "nothing that a backup",
    ),
    "a device": (lambda members, path: _tar(path, members, type=tarfile.CHRTYPE), "nothing that a backup"),
    "another format": (_changed("andon-backup.json", b'"format": 1', b'"format": 2'), "use a newer Andon"),
    "no format": (_changed("andon-backup.json", b'"format": 1', b'"norm": 1'), "does not say which format"),
    "another header": (_changed("andon-backup.json", b'"station"', b'"Station"'), "unknown field"),
    "later revision": (_changed("andon-backup.json", b'"000', b'"900'), "which this Andon does not know"),
}
ROWS_SPOILED: dict[str, tuple[Callable[[list[tuple[str, bytes]], Path], object], str]] = {
    "a table changed": (_changed("manifest.json", b'"sequence"', b'"SEQUENCE"'), 'column "SEQUENCE"'),
    "SQL for a name": (_changed("manifest.json", b'"sequence"', b'"x\\"; DROP TABLE x; --"'), "does not exist"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_spoiled_backup_is_a_clear_error_and_touches_nothing(
    taken: Taken, home: Home, tmp_path: Path, how: str
) -> None:
    spoil, said = SPOILED[how]
    spoil(_members(taken.stopped), tmp_path / "spoiled.tar")
    with pytest.raises(AndonError, match=said):
        restore(tmp_path / "spoiled.tar", home, "tester", quiet)
    assert not home.path.exists()


@pytest.mark.parametrize("how", ROWS_SPOILED)
def test_backup_that_does_not_fit_its_tables_leaves_nothing(
    taken: Taken, empty: str, home: Home, tmp_path: Path, how: str
) -> None:
    spoil, said = ROWS_SPOILED[how]
    spoil(_members(taken.stopped), tmp_path / "spoiled.tar")
    with pytest.raises(StoreError, match=said):
        restore(tmp_path / "spoiled.tar", home, "tester", quiet)
    assert entries(home.path) <= {"journal", "log", "lock"}
    assert rows(empty, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]


def test_random_damage_is_always_found(taken: Taken, tmp_path: Path) -> None:
    chance = random.Random(5)
    whole = taken.stopped.read_bytes()
    path = tmp_path / "spoiled.tar"
    end = len(whole) - 1024  # what comes after the manifest is padding
    for _ in range(25):
        content, at = bytearray(whole), chance.randrange(end)
        content[at] ^= 1 << chance.randrange(8)
        path.write_bytes(content if chance.random() < 0.7 else whole[:at])
        with pytest.raises(InputError):
            Reader(path, quiet)


def test_restore_overwrites_nothing(taken: Taken, empty: str, home: Home) -> None:
    home.path.mkdir()
    home.path.chmod(0o711)
    (home.path / "station.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"holds a station's state already \(station.json\).*mv "):
        restore(taken.stopped, home, "tester", quiet)
    assert entries(home.path) == {"station.json"}
    (home.path / "station.json").unlink()

    migrate(empty)  # tables of ours without rows are no obstacle
    with sqlalchemy.create_engine(empty, poolclass=NullPool).begin() as connection:
        connection.execute(text("CREATE TABLE somebodys (value int)"))
    with pytest.raises(ConfigurationError, match=r"not empty \(somebodys\)"):
        restore(taken.stopped, home, "tester", quiet)
    with sqlalchemy.create_engine(empty, poolclass=NullPool).begin() as connection:
        connection.execute(text("DROP TABLE somebodys"))
        audit.append(connection, "tester", "station.started", "st")
    with pytest.raises(ConfigurationError, match=r"not empty \(audit\)"):
        restore(taken.stopped, home, "tester", quiet)
    assert not (home.path / "restoring").exists()
    assert rows(empty, "SELECT count(*) FROM audit") == [(1,)]
    with sqlalchemy.create_engine(empty, poolclass=NullPool).begin() as connection:
        connection.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
        connection.execute(text("DELETE FROM audit"))
        connection.execute(text("ALTER TABLE audit ENABLE TRIGGER USER"))
    assert restore(taken.stopped, home, "tester", quiet).verdicts == 200
    with pytest.raises(ConfigurationError, match="holds a station's state already"):
        restore(taken.stopped, home, "tester", quiet)


def test_restore_that_was_killed_starts_over(taken: Taken, home: Home) -> None:
    chance = random.Random(3)
    command = [*ANDON, "restore", taken.running, "--home", home.path]
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until((home.path / "restoring").exists)
        time.sleep(chance.uniform(0, 0.8))
        process.kill()
        process.wait()
        assert (home.path / "restoring").exists()
    done = subprocess.run([*ANDON, "up", "--home", home.path], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_CONFIGURATION
    assert "run `andon restore` again" in done.stderr
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert not (home.path / "restoring").exists()
    with embedded(home) as url:
        assert_whole(url, range(200))


@pytest.mark.parametrize("moment", ["before the commit", "after the commit", "while moving"])
def test_restore_that_was_cut_off_at_its_end_is_ended(
    taken: Taken, empty: str, home: Home, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """With a database elsewhere, whether it was filled is what counts."""

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if moment == "before the commit":
            say_ready = putting._Restore._say_ready

            def die_then(self: putting._Restore, restored: Restored) -> None:
                say_ready(self, restored)
                raise Killed

            patched.setattr(putting._Restore, "_say_ready", die_then)
        elif moment == "after the commit":
            patched.setattr(putting, "_execute", die)
        else:
            replace, moved = Path.replace, []

            def move_some(self: Path, target: Path) -> Path:
                if target.parent == home.path:
                    moved.append(target)
                    if len(moved) > 2:
                        raise Killed
                return replace(self, target)

            patched.setattr(Path, "replace", move_some)
        with pytest.raises(Killed):
            restore(taken.running, home, "tester", quiet)
    assert (home.path / "restoring").is_dir()
    if moment != "before the commit":
        with pytest.raises(ConfigurationError, match="restore of another backup"):
            restore(taken.stopped, home, "tester", quiet)
    restored = restore(taken.running, home, "tester", quiet)
    assert restored.verdicts == 200
    assert not (home.path / "restoring").exists()
    assert {"audit.json", "bundles", "images", "journal", "recipes", "rois", "station.json"} <= entries(home.path)
    assert_whole(empty, range(200))
    assert rows(empty, "SELECT count(*) FROM audit WHERE action = 'backup.restored'") == [(1,)]


def test_backup_that_was_killed_leaves_no_backup_and_no_obstacle(taken: Taken, tmp_path: Path) -> None:
    out = tmp_path / "b.tar"
    command = [*ANDON, "backup", "--home", taken.folder / "home", "--out", out]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: out.with_name("b.tar.partial").exists() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    out.with_name("b.tar.partial").write_bytes(b"left by one that was killed")
    until(lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0, within_s=20)
    with Reader(out, quiet) as reader:
        assert reader.header.station == "st"
    assert not out.with_name("b.tar.partial").exists()


def test_backup_of_an_older_revision_is_migrated(
    taken: Taken, empty: str, home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A revision of tomorrow, which the backup of today does not know."""
    own = Path(migrations.__file__).parent / "migrations" / "versions"
    with Reader(taken.running, quiet) as reader:
        made_at = reader.header.revision
    (tmp_path / "9999_tomorrow.py").write_text(
        f"from alembic import op\nrevision, down_revision = '9999', '{made_at}'\n"
        "def upgrade():\n    op.execute(\"ALTER TABLE verdict ADD COLUMN tomorrow text DEFAULT 'new'\")\n"
        "def downgrade():\n    op.execute('ALTER TABLE verdict DROP COLUMN tomorrow')\n"
    )
    config = migrations._config()
    config.set_main_option("version_locations", f"{own}{os.pathsep}{tmp_path}")
    monkeypatch.setattr(migrations, "_config", lambda: config)
    assert restore(taken.running, home, "tester", quiet).verdicts == 200
    assert rows(empty, "SELECT tomorrow, count(*) FROM verdict GROUP BY 1") == [("new", 200)]
    assert rows(empty, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_trail_that_does_not_fit_its_anchor_is_told(taken: Taken, empty: str, home: Home, tmp_path: Path) -> None:
    """It is restored all the same: what there is, is better than nothing, and the truth is told."""
    members = dict(_members(taken.stopped))
    manifest = json.loads(members["manifest.json"])
    members["audit.json"] = json.dumps({"number": 99, "hash": "0" * 64}).encode()
    digest = hashlib.sha256(members["audit.json"]).hexdigest()
    manifest["members"]["audit.json"] = {"size": len(members["audit.json"]), "sha256": digest}
    members["manifest.json"] = json.dumps(manifest).encode()
    _tar(tmp_path / "edited.tar", list(members.items()))
    restored = restore(tmp_path / "edited.tar", home, "tester", quiet)
    assert restored.fault is not None
    assert "missing at the end" in restored.fault
    after = rows(empty, "SELECT after FROM audit ORDER BY number DESC LIMIT 1")[0][0]
    assert "missing at the end" in after
