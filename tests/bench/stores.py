"""Image stores beside bytea and a file each: `PYTHONPATH=tests python tests/bench/stores.py [ROUNDS]`, a table.

20 kB crops, 50 put together, as one transaction of the writer brings them. The ways take turns, round by round: the
machine's noise falls on all of them. PostgreSQL is the embedded one, on the same disk as the folder; the S3 server is
moto on the loopback, in Python and in memory: its figure is a floor of what the driver can do, and no disk is in it.
"""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import time
import zlib
from datetime import date
from pathlib import Path

import psycopg
import sqlalchemy
from live_servers import LiveServer, state_folder
from object_server import ObjectServer

from config.station import ImagesSection
from deploy.servers import Postgres
from storage import store as stores
from storage.store import Store

_CROP_BYTES = 20_000
_TOGETHER = 50
_PUTS = 10  # in a round
_DAY = date(2026, 11, 22)
_READS = 400


class Database:
    """A table with the bytes in it, filled by COPY."""

    def __init__(self, url: str) -> None:
        parts = sqlalchemy.make_url(url).set(drivername="postgresql")
        self._connection = psycopg.connect(parts.render_as_string(hide_password=False))
        self._connection.execute("CREATE TABLE crop (id text PRIMARY KEY, content bytea NOT NULL)")
        self._connection.execute(
            "ALTER TABLE crop ALTER COLUMN content SET STORAGE EXTERNAL"
        )  # as for JPEG: no squeezing
        self._connection.commit()

    def put(self, crops: list[bytes]) -> list[str]:
        names = [secrets.token_hex(8) for _ in crops]
        with self._connection.cursor() as cursor, cursor.copy("COPY crop FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["text", "bytea"])
            for name, crop in zip(names, crops, strict=True):
                copy.write_row((name, crop))
        self._connection.commit()
        return names

    def get(self, name: str) -> bytes:
        row = self._connection.execute("SELECT content FROM crop WHERE id = %s", (name,), binary=True).fetchone()
        self._connection.commit()
        assert row
        return bytes(row[0])


class FileEach:
    """A file and an fsync for each crop: the reference."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def put(self, crops: list[bytes]) -> list[str]:
        names = []
        for crop in crops:
            name = self._folder / f"{secrets.token_hex(8)}.jpg"
            with name.open("xb") as file:
                file.write(crop)
                file.flush()
                os.fsync(file.fileno())
            self._sync()
            names.append(str(name))
        return names

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)

    def get(self, name: str) -> bytes:
        return Path(name).read_bytes()


class FilePut(FileEach):
    """A new file for each put: what the folder store would be if it did not append."""

    def put(self, crops: list[bytes]) -> list[str]:
        name = self._folder / f"{secrets.token_hex(8)}.pack"
        with name.open("xb") as file:
            file.write(b"".join(crops))
            file.flush()
            os.fsync(file.fileno())
        self._sync()
        return [f"{name}:{number * _CROP_BYTES}:{zlib.crc32(crop):08x}" for number, crop in enumerate(crops)]

    def get(self, name: str) -> bytes:
        path, offset, crc32 = name.split(":")
        with Path(path).open("rb") as file:
            file.seek(int(offset))
            crop = file.read(_CROP_BYTES)
        assert zlib.crc32(crop) == int(crc32, 16)
        return crop


class Stored:
    """One of our stores."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, crops: list[bytes]) -> list[str]:
        return self._store.put(_DAY, crops)

    def get(self, name: str) -> bytes:
        return self._store.get(name)


def connect(kind: str, options: dict[str, object]) -> Stored:
    """Return a store of the station file's."""
    store = stores.connect(ImagesSection(type=kind, options=options), "bench")
    assert store
    return Stored(store)


def measure(ways: dict[str, Database | FileEach | Stored], rounds: int) -> None:
    """Put and get in turns; print a row for each way."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    kept: dict[str, list[tuple[str, bytes]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            puts = 1 if name == "a file each" else _PUTS
            batches = [[os.urandom(_CROP_BYTES) for _ in range(_TOGETHER)] for _ in range(puts)]
            began_s = time.perf_counter()
            places = [way.put(crops) for crops in batches]
            rates[name].append(puts * _TOGETHER / (time.perf_counter() - began_s))
            kept[name].append((places[-1][-1], batches[-1][-1]))
            kept[name].append((places[0][7], batches[0][7]))
    sys.stdout.write(
        "| 20 kB crops | put, crops/s (slowest to fastest round) | get p50, ms | get p99, ms |\n|---|---|---|---|\n"
    )
    for name, way in ways.items():
        took_ms = []
        for number in range(_READS):
            place, crop = kept[name][number % len(kept[name])]
            began_s = time.perf_counter()
            found = way.get(place)
            took_ms.append((time.perf_counter() - began_s) * 1000)
            assert found == crop
        centiles = statistics.quantiles(took_ms, n=100)
        sys.stdout.write(
            f"| {name} | {statistics.median(rates[name]):,.0f} ({min(rates[name]):,.0f} to {max(rates[name]):,.0f}) "
            f"| {centiles[49]:.3f} | {centiles[98]:.3f} |\n"
        )


def main() -> None:
    """Start the servers, measure, end."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with state_folder() as folder:
        postgres, objects = LiveServer(Postgres(folder)), ObjectServer()
        try:
            postgres.start()
            objects.start()
            os.environ.update(objects.environment)
            (folder / "images").mkdir()
            measure(
                {
                    "bytea by COPY": Database(postgres.url),
                    "folder": connect("folder", {"path": folder / "images"}),
                    "s3 (moto)": connect("s3", objects.options),
                    "a file for each put": FilePut(folder / "puts"),
                    "a file each": FileEach(folder / "each"),
                },
                rounds,
            )
        finally:
            objects.kill()
            postgres.kill()


if __name__ == "__main__":
    main()
