"""The live picture against a Redis that is full, foreign, closed or read-only: named, survived, and back again."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from live_picture import LivePictureReader
from live_servers import Servers
from redis import Redis
from storage_process import JPEG, until, verdict

from config import events
from config.messages import Evidence, Health
from storage.live import LivePicture
from storage.pictures import Bound

READY = Health(service="storage", state="READY", pid=1, time_ns=0, counters={})


class Live:
    """A live picture that a test feeds, and its reader."""

    def __init__(self, url: str, bound: Bound | None = None) -> None:
        self.counters: Counter[str] = Counter()
        self.picture = LivePicture(url, "st", "r1", self.counters, bound)
        self.reader = LivePictureReader(url, "st")
        self.picture.start()

    def show(self, number: int, image: bytes | None = None) -> None:
        message, _ = verdict(number)
        self.picture.offer(message)
        if image is not None:
            crop = Evidence(
                part_id=message.part_id,
                trigger_time_ns=1,
                camera="top",
                purpose="crop",
                region=0,
                width_px=9,
                height_px=9,
            )
            self.picture.offer(crop, [image])

    def says(self, words: str | None) -> None:
        """Wait until the problem is `words`, as storage goes on talking."""

        def said() -> bool:
            self.picture.offer(READY)
            problem = self.picture.problem
            return problem is None if words is None else words in (problem or "")

        until(said, lambda: str(self.picture.problem))

    def close(self) -> None:
        self.picture.stop(5)
        assert not self.picture.is_alive()
        self.reader.close()


@contextlib.contextmanager
def live(servers: Servers, bound: Bound | None = None) -> Iterator[Live]:
    made = Live(servers.valkey.url, bound)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def redis(servers: Servers) -> Iterator[Redis]:
    """A connection of somebody else's; every setting is as it was when the test ends."""
    client: Redis = Redis.from_url(servers.valkey.url)
    client.flushall()
    names = ("maxmemory", "maxmemory-policy", "requirepass", "replica-read-only")
    before: dict[str, Any] = {name: client.config_get(name)[name] for name in names}  # type: ignore[index]  # not awaited
    yield client
    client.execute_command("REPLICAOF", "NO", "ONE")
    for name, value in before.items():
        client.config_set(name, value)
    client.flushall()
    client.close()


def test_images_are_bounded_by_number_the_oldest_go_first(servers: Servers, redis: Redis) -> None:
    with live(servers, Bound(count=10)) as made:
        for number in range(40):
            made.show(number, JPEG)
        until(lambda: len(made.reader.parts()) == 40)
        made.says(None)
        assert made.reader.images() == [f"st-r1-{number:08}:top:crop:0" for number in range(30, 40)]
        assert made.reader.image("st-r1-00000039", "top", "crop", 0) == JPEG
        assert len(list(redis.scan_iter("andon:st:image:*"))) == 10
        assert 0 < redis.ttl("andon:st:image:st-r1-00000039:top:crop:0") <= 600  # type: ignore[operator]  # not awaited
    with live(servers, Bound(count=10)) as made:  # storage was started again
        made.show(40, JPEG)
        until(lambda: made.reader.image("st-r1-00000040", "top", "crop", 0))
        assert made.reader.images() == [f"st-r1-{number:08}:top:crop:0" for number in range(31, 41)]
        assert len(list(redis.scan_iter("andon:st:image:*"))) == 10


def test_images_are_bounded_by_what_they_take(servers: Servers, redis: Redis) -> None:
    with live(servers, Bound(size_bytes=1_000_000)) as made:
        for number in range(30):
            made.show(number, bytes(90_000))
        made.show(30, bytes(1_100_000))  # larger than all may be together: it is not kept, and nothing else is
        made.show(31, b"small")
        until(lambda: made.reader.image("st-r1-00000031", "top", "crop", 0))
        assert sum(redis.strlen(name) for name in redis.scan_iter("andon:st:image:*")) <= 1_000_000  # type: ignore[misc]  # not awaited
        assert made.reader.image("st-r1-00000030", "top", "crop", 0) is None


def test_redis_without_memory_loses_images_and_then_goes_on(servers: Servers, redis: Redis) -> None:
    with live(servers) as made:
        for number in range(40):
            made.show(number, bytes(50_000))
        until(lambda: len(made.reader.images()) == 40)
        used: Any = redis.info("memory")
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", used["used_memory"] - 500_000)  # another program took the rest
        made.show(41, b"x")  # some of ours go instead
        until(lambda: made.reader.parts(1)[0].sequence == 41)
        assert 0 < len(made.reader.images()) <= 21
        redis.config_set("maxmemory", 1)
        made.says("its memory is full (maxmemory)")
        made.show(42)
        redis.config_set("maxmemory", 0)
        made.says(None)
        made.show(43)
        until(lambda: made.reader.parts(1)[0].sequence == 43)
        until(lambda: made.reader.counters().get("PASS") == 43)
        assert made.counters["redis_refuses"] > 0


def test_foreign_keys_at_our_places_cost_only_themselves(servers: Servers, redis: Redis) -> None:
    redis.mset({"andon:st:parts": "mine", "andon:st:counters": "mine", "andon:st:images": "mine"})
    redis.xadd("andon:st:gates", {b"\xff": b"\xff"})
    redis.set("andon:st:events", "mine")
    with live(servers) as made:
        made.show(1, JPEG)
        made.picture.alarms = (events.began("st", "storage", "x", "WARNING"),)
        made.picture.offer(events.happened("st", "storage", "y", "INFO"))
        made.says("parts: another program has put something else at this key: remove it")
        made.says("events: another program has put something else at this key: remove it")
        until(lambda: list(made.reader.alarms()) == ["storage:x"])
        assert made.reader.image("st-r1-00000001", "top", "crop", 0) == JPEG
        assert redis.get("andon:st:parts") == b"mine"
        redis.delete("andon:st:parts", "andon:st:counters", "andon:st:images", "andon:st:events")
        made.picture.offer(events.happened("st", "storage", "y", "INFO"))
        made.show(2, JPEG)
        made.says(None)
        assert [part.sequence for part in made.reader.parts()] == [2]
        assert made.reader.counters()["PASS"] == 2
        assert made.reader.images() == ["st-r1-00000002:top:crop:0"]


def test_counters_that_make_no_sense_are_begun_anew(servers: Servers, redis: Redis) -> None:
    counters = {"run": "r1", "PASS": "many", "FAULT": "9" * 5000, "REJECT": "3", b"\xff": "1"}
    redis.hset("andon:st:counters", mapping=counters)
    with live(servers) as made:
        made.show(1)
        until(made.reader.parts)
        assert redis.hmget("andon:st:counters", "PASS", "FAULT", "REJECT") == [b"1", b"0", b"3"]


def test_password_that_is_asked_for_is_named(servers: Servers, redis: Redis) -> None:
    with live(servers) as made:
        made.says(None)
        before: Any = redis.config_get("requirepass")
        redis.config_set("requirepass", "other")
        redis.execute_command("AUTH", "other")
        redis.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
        made.says("does not accept our name or password (ANDON_REDIS_URL)")
        made.show(1)
        redis.config_set("requirepass", before["requirepass"])
        made.says(None)
        assert made.counters["redis_lost"] > 0


def test_read_only_replica_is_named(servers: Servers, redis: Redis) -> None:
    with live(servers) as made:
        made.says(None)
        redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        made.says("it is a read-only replica")
        redis.execute_command("REPLICAOF", "NO", "ONE")
        made.says(None)


def test_flushed_redis_is_filled_again(servers: Servers, redis: Redis) -> None:
    with live(servers) as made:
        for number in range(5):
            made.show(number, JPEG)
        made.picture.alarms = (events.began("st", "storage", "x", "WARNING"),)
        until(lambda: made.reader.counters().get("PASS") == 5)
        redis.flushall()
        made.show(5, JPEG)
        made.says(None)
        until(lambda: made.reader.counters().get("PASS") == 6)
        assert list(made.reader.alarms()) == ["storage:x"]
