"""What every image store must do: on a real folder, and on an S3 server that is a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from live_servers import state_folder
from object_server import BUCKET, ObjectServer, free_port
from pydantic import ValidationError

import storage.stores
from config import plugins
from config.errors import ConfigurationError, ImageLostError, InputError, MissingExtraError, StoreError
from config.station import ImagesSection
from storage import store as stores
from storage.store import HEADER, Store
from storage.stores import folder as folder_store

DAY = date(2026, 11, 22)
CONTENTS = [b"first", b"", b"\xff\xd8 third \xff\xd9", b"", os.urandom(20_000)]


class Ground(Protocol):
    """Where a driver keeps its packs, as somebody else sees it."""

    options: dict[str, object]

    def read(self, pack: str) -> bytes: ...

    def overwrite(self, pack: str, content: bytes) -> None: ...


class FolderGround:
    def __init__(self, path: Path, _server: ObjectServer) -> None:
        self.path = path
        self.options: dict[str, object] = {"path": path}

    def read(self, pack: str) -> bytes:
        return (self.path / pack).read_bytes()

    def overwrite(self, pack: str, content: bytes) -> None:
        (self.path / pack).parent.mkdir(parents=True, exist_ok=True)
        (self.path / pack).write_bytes(content)


class S3Ground:
    def __init__(self, path: Path, server: ObjectServer) -> None:
        self._prefix = f"test/{path.name.replace('.', '-')}"
        self._client = server.client()
        self.options: dict[str, object] = {**server.options, "prefix": self._prefix}

    def read(self, pack: str) -> bytes:
        return bytes(self._client.get_object(Bucket=BUCKET, Key=f"{self._prefix}/{pack}")["Body"].read())

    def overwrite(self, pack: str, content: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=f"{self._prefix}/{pack}", Body=content)


GROUNDS: dict[str, Any] = {"folder": FolderGround, "s3": S3Ground}


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    server = ObjectServer()
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(params=sorted(GROUNDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ground(kind: str, tmp_path: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Ground:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    ground: Ground = GROUNDS[kind](tmp_path, server)
    return ground


def make(kind: str, options: dict[str, object], station: str = "north") -> Store:
    made = stores.connect(ImagesSection(type=kind, options=options), station)
    assert made is not None
    return made


@pytest.fixture
def store(kind: str, ground: Ground) -> Iterator[Store]:
    made = make(kind, ground.options)
    yield made
    made.close()


def test_every_store_has_a_ground_to_be_tried_on():
    assert plugins.names("storage.stores") == sorted(GROUNDS)


def test_what_was_put_is_got_also_by_another_process_that_starts_later(kind, ground, store):
    places = store.put(DAY, CONTENTS)
    assert [store.get(place) for place in places] == CONTENTS
    more = store.put(DAY, CONTENTS[::-1])
    assert len({*places, *more}) == 2 * len(CONTENTS)
    store.close()
    later = make(kind, ground.options, "south")
    assert [later.get(place) for place in [*places, *more]] == [*CONTENTS, *CONTENTS[::-1]]


def test_images_that_are_put_together_lie_in_one_pack_with_a_header(ground, store):
    places = store.put(DAY, CONTENTS)
    (pack,) = store.packs(DAY)
    assert {stores.pack_of(place) for place in places} == {pack.name}
    assert ground.read(pack.name) == HEADER + b"".join(CONTENTS)
    assert places[2].startswith(f"{pack.name}:{len(HEADER) + 5}:11:")
    assert pack.size_bytes == len(HEADER) + sum(map(len, CONTENTS))
    assert abs(datetime.now(UTC) - pack.written_at) < timedelta(minutes=1)


def test_putting_nothing_keeps_nothing(store):
    assert store.put(DAY, []) == []
    assert store.days() == []
    assert store.packs(DAY) == []
    assert store.size_bytes() == 0


def test_a_large_image_and_many_that_are_large_together(store):
    large = os.urandom(20_000_000)
    assert store.get(*store.put(DAY, [large])) == large
    many = [large[:9_000_000], b"", large[9_000_000:], large[:5]]
    assert [store.get(place) for place in store.put(DAY, many)] == many


def test_many_threads(store):
    def work(worker: int) -> list[tuple[str, bytes]]:
        pairs = []
        for turn in range(5):
            contents = [f"{worker} {turn} {number} ".encode() * 200 for number in range(5)]
            pairs += zip(store.put(DAY + timedelta(turn), contents), contents, strict=True)
            assert all(store.get(place) == content for place, content in pairs[-5:])
        return pairs

    with ThreadPoolExecutor(4) as pool:
        pairs = [pair for found in pool.map(work, range(4)) for pair in found]
    assert len({place for place, _ in pairs}) == 100
    assert all(store.get(place) == content for place, content in pairs)
    assert store.days() == [DAY + timedelta(turn) for turn in range(5)]


WRITER = """
import datetime, sys
from config.station import ImagesSection
from storage import store
made = store.connect(ImagesSection.model_validate_json(sys.argv[1]), "north")
for turn in range(1_000_000):
    places = made.put(datetime.date(2026, 11, 22), [b"%d %d " % (turn, number) * 1000 for number in range(50)])
    print(turn, *places, flush=True)
"""


@pytest.mark.parametrize("after_puts", [1, 25])
def test_what_put_has_returned_survives_kill_9(kind, ground, store, after_puts):
    section = ImagesSection(type=kind, options=ground.options).model_dump_json()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, section], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    with writer:
        lines = [writer.stdout.readline() for _ in range(after_puts)]
        writer.kill()
        lines += writer.stdout.read().splitlines()
    assert writer.returncode == -signal.SIGKILL
    kept = [line.split() for line in lines if line.count(":") == 150]  # the last line may be cut
    assert len(kept) >= after_puts
    for turn, *places in kept:
        for number in (0, 1, 49):
            assert store.get(places[number]) == b"%s %d " % (turn.encode(), number) * 1000
    assert {stores.pack_of(place) for _, *places in kept for place in places} <= {p.name for p in store.packs(DAY)}
    assert store.get(*store.put(DAY, [b"after"])) == b"after"


def test_damage_is_found(ground, store):
    places = store.put(DAY, CONTENTS)
    pack = stores.pack_of(places[0])
    whole = bytearray(ground.read(pack))
    whole[-1] ^= 1
    ground.overwrite(pack, bytes(whole))
    assert [store.get(place) for place in places[:-1]] == CONTENTS[:-1]
    with pytest.raises(ImageLostError, match="checksum"):
        store.get(places[-1])
    ground.overwrite(pack, bytes(whole[:-10]))
    with pytest.raises(ImageLostError, match="ends 10 bytes too early"):
        store.get(places[-1])
    ground.overwrite(pack, HEADER[:3])
    for place in places:
        with pytest.raises(ImageLostError):
            store.get(place)


def test_a_pack_that_is_removed_is_gone_and_its_neighbours_are_not(kind, ground, store):
    first = store.put(DAY, CONTENTS)
    store.close()
    store = make(kind, ground.options)
    second = store.put(DAY, CONTENTS)
    third = store.put(DAY + timedelta(3), CONTENTS)
    assert store.days() == [DAY, DAY + timedelta(3)]
    assert {pack.name for pack in store.packs(DAY)} == {stores.pack_of(first[0]), stores.pack_of(second[0])}
    assert store.size_bytes() == 3 * (len(HEADER) + sum(map(len, CONTENTS)))
    for _ in range(2):
        store.remove(stores.pack_of(first[0]))
    for place in first:
        with pytest.raises(ImageLostError):
            store.get(place)
    assert [store.get(place) for place in [*second, *third]] == 2 * CONTENTS
    store.remove(stores.pack_of(third[0]))
    assert store.days() == [DAY]


def test_stations_share_a_store_and_leave_each_other_alone(kind, ground, store):
    other = make(kind, ground.options, "south")
    places = store.put(DAY, CONTENTS)
    assert other.days() == other.packs(DAY) == []
    with pytest.raises(InputError, match="no pack of station south"):
        other.remove(stores.pack_of(places[0]))
    theirs = other.put(DAY, CONTENTS)
    assert [store.get(place) for place in theirs] == CONTENTS
    assert len(store.packs(DAY)) == len(other.packs(DAY)) == 1


def test_what_is_not_ours_is_neither_listed_nor_removed(ground, store):
    ground.overwrite("north/lost+found/x", b"x")
    ground.overwrite("north/2026-13-01/x", b"x")
    ground.overwrite(f"north/{DAY}/thumbs.db", b"x")
    assert store.days() == [DAY]
    assert store.packs(DAY) == []
    for name in ("north/lost+found/x", f"north/{DAY}/thumbs.db", "north/2026-13-01/0123456789abcdef.pack", "", "../x"):
        with pytest.raises(InputError):
            store.remove(name)
    assert ground.read(f"north/{DAY}/thumbs.db") == b"x"


VALID = "north/2026-11-22/0123456789abcdef.pack:13:7:89abcdef"


@pytest.fixture(scope="module")
def plain_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make("folder", {"path": tmp_path_factory.mktemp("plain")})


@given(place=st.text() | st.text("north/2026-1:.pack\0\\ é٣\n", max_size=80))
@example("")
@example("../../../../etc/passwd:13:7:89abcdef")
@example("north/../../0123456789abcdef.pack:13:7:89abcdef")
@example("/north/2026-11-22/0123456789abcdef.pack:13:7:89abcdef")
@example("north/2026-02-30/0123456789abcdef.pack:13:7:89abcdef")
@example("north/2026-11-22/0123456789ABCDEF.pack:13:7:89abcdef")
@example("north/2026-11-22/0123456789abcdef.pack:12:7:89abcdef")
@example("north/2026-11-22/0123456789abcdef.pack:-13:7:89abcdef")
@example("north/2026-11-22/0123456789abcdef.pack:13:07:89abcdef")
@example("north/2026-11-22/0123456789abcdef.pack:13:\u0667:89abcdef")
@example("north/2026-11-22/0123456789abcdef.pack:13:7:89abcde")
@example(VALID + "\n")
@example(" " + VALID)
@example("north/2026-11-22/0123456789abcdef.pack:" + "9" * 5000 + ":7:89abcdef")
def test_what_is_no_place_is_refused(plain_store: Store, place: str):
    with pytest.raises(InputError, match="is no place in an image store"):
        plain_store.get(place)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(VALID) - 1), character=st.characters())
def test_a_place_with_a_wrong_character_is_refused_or_leads_nowhere(plain_store: Store, at: int, character: str):
    with pytest.raises((InputError, ImageLostError)):
        plain_store.get(VALID[:at] + character + VALID[at + 1 :])


def test_a_place_beyond_all_measure_leads_nowhere(store):
    pack = stores.pack_of(*store.put(DAY, [b"image"]))
    for numbers in ("13:9999999999", "999999999999999:1", "999999999999999:0", "19:1", "13:6"):
        with pytest.raises(ImageLostError):
            store.get(f"{pack}:{numbers}:00000000")


@pytest.mark.parametrize("kind", [*sorted(GROUNDS)])
def test_options_that_there_are_not_are_refused_where_they_stand(kind, ground):
    with pytest.raises(ConfigurationError, match=r"storage\.images\.options: no_such_option: unknown field"):
        make(kind, {**ground.options, "no_such_option": 1})


def test_the_database_is_the_default_and_has_no_options():
    assert stores.connect(ImagesSection(), "north") is None
    with pytest.raises(ValidationError, match='type "database" has none'):
        ImagesSection(options={"path": "/x"})
    with pytest.raises(ConfigurationError, match="there are folder, s3"):
        make("tape", {})


# folder


def test_folder_must_be_one_that_is_there(tmp_path):
    with pytest.raises(ConfigurationError, match="must be an absolute path"):
        make("folder", {"path": "images"})
    with pytest.raises(ConfigurationError, match=r"absent: No such file or directory: make the folder"):
        make("folder", {"path": tmp_path / "absent"})
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="not a folder"):
        make("folder", {"path": tmp_path / "file"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def test_folder_that_may_not_be_written():
    if os.getuid() != 0:
        pytest.skip("only root may be somebody else for a moment")
    with state_folder() as folder:
        with as_nobody(), pytest.raises(ConfigurationError, match="user 65534 may not read and write there"):
            make("folder", {"path": folder})
        store = make("folder", {"path": folder})
        (place,) = store.put(DAY, [b"image"])
        store.close()
        for attempt in (lambda: store.get(place), lambda: store.put(DAY, [b"image"])):
            with as_nobody(), pytest.raises(StoreError, match=r"north.*: Permission denied") as caught:
                attempt()
            assert not isinstance(caught.value, ImageLostError)
        assert store.get(*store.put(DAY, [b"image"])) == b"image"


def test_folder_on_a_full_disk_keeps_nothing_in_halves_and_goes_on_when_there_is_room(tmp_path):
    if os.getuid() != 0:
        pytest.skip("a small file system can be mounted by root alone")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if (mounted := subprocess.run(mount, capture_output=True, check=False)).returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    store = make("folder", {"path": small})
    try:
        kept = [store.put(DAY, [b"a" * 500_000, b"b" * 500_000])]
        sizes = store.size_bytes()
        with contextlib.suppress(StoreError):
            while True:
                kept.append(store.put(DAY, [b"a" * 500_000, b"b" * 500_000]))
                sizes = store.size_bytes()
        assert len(kept) == 4
        for _ in range(3):
            with pytest.raises(StoreError, match="No space left on device"):
                store.put(DAY, [b"c" * 3_000_000])
        assert store.size_bytes() == sizes
        assert len(store.packs(DAY)) == 1
        free = store.free_bytes()
        assert free is not None
        assert 0 <= free < 1_000_000
        assert all(store.get(place) in {b"a" * 500_000, b"b" * 500_000} for places in kept for place in places)
        store.remove(stores.pack_of(kept[0][0]))
        assert store.get(*store.put(DAY, [b"c" * 3_000_000])) == b"c" * 3_000_000
    finally:
        store.close()
        subprocess.run(["/bin/umount", str(small)], check=True)


def test_folder_of_a_share_that_is_away_loses_nothing_and_takes_nothing(tmp_path):
    path, away = tmp_path / "share", tmp_path / "away"
    path.mkdir()
    store = make("folder", {"path": path})
    (place,) = store.put(DAY, [b"image"])
    store.close()
    path.rename(away)
    for stand_in in (False, True):  # what is below a mount is an empty folder
        if stand_in:
            path.mkdir()
        for attempt in (lambda: store.get(place), lambda: store.put(DAY, [b"more"])):
            with pytest.raises(StoreError) as caught:
                attempt()
            assert not isinstance(caught.value, ImageLostError)
    assert list(path.iterdir()) == []
    path.rmdir()
    away.rename(path)
    assert store.get(place) == b"image"
    assert store.get(*store.put(DAY, [b"more"])) == b"more"


def test_folder_syncs_once_for_all_images_that_are_put_together(tmp_path, monkeypatch):
    synced = []

    def record(sync):  # type: ignore[no-untyped-def]  # either of the two
        def recorded(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            synced.append((path.relative_to(tmp_path).as_posix(), path.stat().st_size if path.is_file() else 0))
            sync(descriptor)

        return recorded

    monkeypatch.setattr(os, "fsync", record(os.fsync))
    monkeypatch.setattr(os, "fdatasync", record(os.fdatasync))
    store = make("folder", {"path": tmp_path})
    places = store.put(DAY, [b"image"] * 50)
    end = len(HEADER) + 250
    assert synced == [(stores.pack_of(places[0]), end), (".", 0), ("north", 0), (f"north/{DAY}", 0)]
    synced.clear()
    places = store.put(DAY, [b"image"] * 50)
    assert synced == [(stores.pack_of(places[0]), end + 250)]


@pytest.mark.parametrize("limit", ["_PACK_BYTES", "_PACK_NS"])
def test_folder_begins_another_pack_when_one_is_large_or_old(tmp_path, monkeypatch, limit):
    store = make("folder", {"path": tmp_path})
    store.put(DAY, [b"image"])
    store.put(DAY, [b"image"])
    assert len(store.packs(DAY)) == 1
    monkeypatch.setattr(folder_store, limit, 10)
    store.put(DAY, [b"image"])
    store.put(DAY + timedelta(1), [b"image"])
    assert [len(store.packs(day)) for day in store.days()] == [2, 1]


def test_folder_whose_days_are_removed_while_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_store, "_PACK_NS", 0)
    store = make("folder", {"path": tmp_path})
    finished: queue.Queue[str | None] = queue.Queue()

    def remove() -> None:
        while pack := finished.get():
            store.remove(pack)

    with ThreadPoolExecutor(1) as pool:
        removed = pool.submit(remove)
        try:
            for _ in range(300):
                (place,) = store.put(DAY, [b"image"])
                assert store.get(place) == b"image"
                finished.put(stores.pack_of(place))
        finally:
            finished.put(None)
    removed.result()
    assert store.days() == []


# S3


@pytest.fixture
def credentials(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("credentials")
def test_s3_that_stands_still_is_noticed_in_time_and_goes_on(server):
    store = make("s3", {**server.options, "timeout_s": 0.5})
    (place,) = store.put(DAY, [b"image"])
    server.freeze()
    try:
        for attempt in (
            lambda: store.get(place),
            lambda: store.put(DAY, [b"x" * 1_000_000]),
            store.days,
            lambda: store.packs(DAY),
            lambda: store.remove(stores.pack_of(place)),
        ):
            began_s = time.monotonic()
            with pytest.raises(StoreError, match=server.endpoint) as caught:
                attempt()
            assert not isinstance(caught.value, ImageLostError)
            assert time.monotonic() - began_s < 2
    finally:
        server.thaw()
    assert store.get(*store.put(DAY, [b"more"])) == b"more"


def test_s3_that_is_killed_and_comes_back(monkeypatch):
    server = ObjectServer(signed=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    store = make("s3", server.options)
    server.start()
    try:
        (place,) = store.put(DAY, [b"image"])
        server.kill()
        began_s = time.monotonic()
        for attempt in (lambda: store.get(place), lambda: store.put(DAY, [b"image"])):
            with pytest.raises(StoreError, match="Connection refused") as caught:
                attempt()
            assert not isinstance(caught.value, ImageLostError)
        assert time.monotonic() - began_s < 3
        server.start()
        assert store.get(*store.put(DAY, [b"more"])) == b"more"
    finally:
        server.kill()


SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
ANSWERS = {
    "503": b"HTTP/1.1 503 Slow Down\r\nContent-Length: %d\r\n\r\n%s" % (len(SLOW_DOWN), SLOW_DOWN),
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "404 of a proxy": b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nwhat?",
    "another range": b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/9\r\nContent-Length: 4\r\n\r\n0123",
    "cut": b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 13-19/20\r\nContent-Length: 7\r\n\r\n012",
    "junk": bytes(range(256)),
    "nothing": b"",
}


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_s3_that_answers_wrongly_loses_nothing(answer):
    def serve(listening: socket.socket) -> None:
        while True:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as sent:
                if sent.readline().startswith(b"STOP"):
                    return
                # read to its end before it is answered: what is answered earlier may be answered by a reset
                headers = http.client.parse_headers(sent)
                sent.read(int(headers.get("Content-Length", 0)))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        serving = threading.Thread(target=serve, args=(listening,))
        serving.start()
        try:
            store = make("s3", {"bucket": BUCKET, "endpoint": f"http://127.0.0.1:{port}", "timeout_s": 5})
            attempts = [lambda: store.get(VALID)]
            if b" 206 " not in answer:
                attempts += [lambda: store.put(DAY, [b"image"])]
            for attempt in attempts:
                with pytest.raises(StoreError) as caught:
                    attempt()
                assert not isinstance(caught.value, ImageLostError)
                assert "\n" not in str(caught.value)
                if SLOW_DOWN in answer:
                    assert "SlowDown: Please reduce your request rate." in str(caught.value)
        finally:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"STOP\r\n")
            serving.join()


@pytest.mark.usefixtures("credentials")
def test_s3_that_refuses_says_why_and_tells_no_secret(server, monkeypatch):
    (place,) = make("s3", server.options).put(DAY, [b"image"])
    for values, says in (
        ({"AWS_SECRET_ACCESS_KEY": "not-the-secret"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "nobody-known"}, "InvalidAccessKeyId"),
    ):
        with monkeypatch.context() as patch:
            for name, value in values.items():
                patch.setenv(name, value)
            store = make("s3", server.options)
            for attempt in (lambda made=store: made.put(DAY, [b"image"]), lambda made=store: made.get(place)):
                with pytest.raises(StoreError, match=says) as caught:
                    attempt()
                assert not isinstance(caught.value, ImageLostError)
                told = f"{caught.value!r} {caught.value.__cause__!r} {vars(store)} {store._driver.__dict__}"
                assert not any(os.environ[name] in told for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    absent = make("s3", {**server.options, "bucket": "absent"})
    for attempt in (lambda: absent.put(DAY, [b"image"]), lambda: absent.get(place), lambda: absent.packs(DAY)):
        with pytest.raises(StoreError, match=r"absent: NoSuchBucket") as caught:
            attempt()
        assert not isinstance(caught.value, ImageLostError)


def test_s3_takes_its_credentials_from_the_environment_alone(monkeypatch):
    options: dict[str, object] = {"bucket": BUCKET, "endpoint": f"http://127.0.0.1:{free_port()}"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="environment: AWS_SECRET_ACCESS_KEY not set"):
        make("s3", options)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    make("s3", options)
    for wrong in (
        {"endpoint": "http://user:password@127.0.0.1"},
        {"endpoint": "ftp://127.0.0.1"},
        {"bucket": "A"},
        {"prefix": "../x"},
        {"prefix": "/"},
        {"timeout_s": 0},
        {"access_key_id": "x"},
    ):
        with pytest.raises(ConfigurationError, match=f"options: {next(iter(wrong))}"):
            make("s3", {**options, **wrong})


def test_s3_without_its_sdk_fails_only_when_it_is_asked_for_and_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "storage.stores.s3", raising=False)
    monkeypatch.delattr(storage.stores, "s3", raising=False)
    assert "s3" in plugins.names("storage.stores")
    with pytest.raises(MissingExtraError, match=r"andon\[s3\]"):
        make("s3", {"bucket": BUCKET})
