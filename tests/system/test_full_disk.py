"""The database's own disk, really full: the line is recorded all the same; and retention makes room before that."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
from live_servers import LiveServer, Servers, state_folder
from redis import Redis
from sqlalchemy.pool import NullPool
from storage_process import RUN, Sender, Storage, until, verdict
from stored_parts import StoredPart, review_part, store_parts

from config.messages import Evidence
from deploy.servers import Postgres
from storage.migrate import migrate

MB = 1024 * 1024
DISK_MB = 230
PICTURE = random.Random(1).randbytes(100_000)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a small disk is mounted for PostgreSQL")


class SmallDisk:
    """A storage process whose embedded PostgreSQL has a disk of its own, and a small one."""

    def __init__(self, servers: Servers, folder: Path, disk: Path, limits: dict[str, object]) -> None:
        self.disk = disk
        self.postgres = LiveServer(Postgres(folder / "home"))
        self.postgres.start()
        migrate(self.postgres.url)
        self.storage = Storage(folder, self.postgres.url, servers.valkey.url, **limits)

    def fill(self, leave_mb: int) -> None:
        """Put ballast there, so that so much is left."""
        (self.disk / "ballast").write_bytes(bytes(self.free_mb() * MB - leave_mb * MB))

    def free_mb(self) -> int:
        state = os.statvfs(self.disk)
        return state.f_bavail * state.f_frsize // MB

    def send(self, sender: Sender, first: int, count: int) -> None:
        for number in range(first, first + count):
            message, payload = verdict(number)
            sender.send(message, payload)
            seen = {"part_id": message.part_id, "trigger_time_ns": message.trigger_time_ns, "camera": "top"}
            sender.send(Evidence(**seen, purpose="image", region=None, width_px=9, height_px=9), [PICTURE])
            sender.take(1)

    def is_ready(self) -> bool:
        health = self.storage.health()
        return health is not None and health.state == "READY"

    def wait_for(self, said: str) -> None:
        until(
            lambda: (
                (health := self.storage.health()) is not None and health.state == "DEGRADED" and said in health.detail
            ),
            self.storage.said,
        )


@contextlib.contextmanager
def small_disk(servers: Servers, **limits: object) -> Iterator[SmallDisk]:
    Redis.from_url(servers.valkey.url).flushall()
    with state_folder() as folder:
        disk = folder / "disk"
        disk.mkdir()
        (folder / "home").mkdir()
        (folder / "home").chmod(0o711)
        command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs", disk]
        if subprocess.run(command, check=False).returncode:
            pytest.skip("no disk can be mounted here")
        made = None
        try:
            (folder / "home" / "postgres").symlink_to(disk / "postgres")
            made = SmallDisk(servers, folder, disk, {"free_disk_mb": 0} | limits)
            yield made
        finally:
            if made is not None:
                made.storage.close()
                made.postgres.kill()
            until(lambda: subprocess.run(["/bin/umount", disk], check=False).returncode == 0)


def test_full_disk_of_postgres_loses_and_doubles_nothing(servers: Servers) -> None:
    with small_disk(servers, retention={"free_disk_mb": 8}) as small:
        storage, sent = small.storage, 20
        storage.start()
        sender = storage.sender()
        small.send(sender, 0, sent)
        sender.finish()
        until(lambda: storage.stored() == sent, storage.said)
        small.fill(leave_mb=5)
        until_s = time.monotonic() + 30
        while storage.events("not_written began") == 0:
            small.send(sender, sent, 20)
            sent += 20
            assert time.monotonic() < until_s, storage.said()
        small.send(sender, sent, 50)
        sent += 50
        sender.finish()  # every record is journalled
        small.wait_for("PostgreSQL")
        small.wait_for("the database: storage.retention.free_disk_mb is 8, but")
        health = storage.health()
        assert health is not None
        assert health.counters["journal_backlog_bytes"] > 50 * len(PICTURE)
        assert storage.process is not None
        assert storage.process.poll() is None

        (small.disk / "ballast").unlink()
        assert small.postgres.process is not None
        if not small.postgres.server.ready():  # PostgreSQL gives up where it cannot write its log ahead
            small.postgres.process.wait(20)
            small.postgres.start()  # as the supervisor does
        until(lambda: storage.stored() == sent and storage.stored("image") == sent, storage.said, 60)
        summary = storage.query.summary(RUN)
        assert (summary.recorded, summary.doubled) == (sent, 0)
        until(small.is_ready, storage.said)
        assert storage.events("not_written began") == storage.events("not_written ended") == 1


def test_room_is_made_before_a_disk_is_full_and_where_none_can_be_made_it_is_said(servers: Servers) -> None:
    with small_disk(servers, retention={"free_disk_mb": 60}) as small:
        storage = small.storage
        small.fill(leave_mb=50)
        storage.start()
        sender = storage.sender()
        small.send(sender, 0, 20)
        small.wait_for("nothing more can be removed")
        sender.finish()
        until(lambda: storage.stored("image") == 20, storage.said)
        (small.disk / "ballast").unlink()
        until(small.is_ready, storage.said)
        assert storage.events("space_short began") == storage.events("space_short ended") == 1
        storage.stop()

        old = datetime.now(UTC) - timedelta(days=20)
        parts = [StoredPart(f"st-r0-{number:08}", old + timedelta(days=number // 100)) for number in range(400)]
        engine = sqlalchemy.create_engine(small.postgres.url, poolclass=NullPool)
        with engine.begin() as connection:
            store_parts(connection, parts, PICTURE)
            review_part(connection, parts[5])
        small.fill(leave_mb=50)
        storage.start()
        until(lambda: storage.events("swept") == 1, storage.said)
        swept = next(line for line in storage.lines() if line["event"] == "swept")
        assert 100 <= int(str(swept["images_removed"])) <= 399
        assert swept["rows_removed"] == 0
        assert small.free_mb() >= 60
        assert storage.stored() == 420
        assert storage.events("space_short began") == 1
