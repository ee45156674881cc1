"""The recent pictures in Redis, bounded: by their age, by their number, and by the memory that they take."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

from redis import Redis, ResponseError
from redis.client import Pipeline

LIFE_S = 600


@dataclass(frozen=True)
class Bound:
    """How many pictures there are at most, and what they take."""

    count: int = 4000
    size_bytes: int = 64 * 1024 * 1024


class Pictures:
    """Set pictures whose keys begin with `prefix`; the sorted set `index` says to all which there are, oldest first.

    The oldest go first. Redis lets them go after their time by itself, and earlier where its policy says so.
    """

    def __init__(self, prefix: str, index: str, bound: Bound) -> None:
        self._prefix = prefix
        self._index = index
        self._bound = bound
        self._kept: OrderedDict[str, tuple[int, int]] = OrderedDict()  # name -> size, since when (monotonic)
        self._size_bytes = 0

    def recall(self, redis: Redis) -> None:
        """Find out what there is already; what the index does not name is not ours."""
        self._kept.clear()
        self._size_bytes = 0
        try:
            found = cast("list[bytes]", redis.zrange(self._index, -self._bound.count, -1))
            redis.zremrangebyrank(self._index, 0, -self._bound.count - 1)
        except ResponseError:
            return  # another type at our key: each write will say so
        names = [name.decode(errors="replace") for name in found]
        with redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.strlen(f"{self._prefix}{name}")
            sizes = pipeline.execute(raise_on_error=False)
        now_ns = time.monotonic_ns()
        for name, size in zip(names, sizes, strict=True):
            if isinstance(size, int) and size:
                self._keep(name, size, now_ns)

    def set(self, pipeline: Pipeline, name: str, content: bytes) -> None:
        """Set a picture, and remove what is too much then."""
        now_ns = time.monotonic_ns()
        self._forget(name)
        self._keep(name, len(content), now_ns)
        self._remove(pipeline, self._too_many(now_ns))
        if name in self._kept:  # else it is larger than all may be together
            pipeline.set(f"{self._prefix}{name}", content, ex=LIFE_S)
            pipeline.zadd(self._index, {name: time.time_ns() // 1_000_000})

    def halve(self, redis: Redis) -> None:
        """Remove the older half: Redis has no memory left."""
        gone = list(self._kept)[: (len(self._kept) + 1) // 2]
        with redis.pipeline(transaction=False) as pipeline:
            self._remove(pipeline, gone)
            if gone:
                pipeline.execute(raise_on_error=False)

    def _too_many(self, now_ns: int) -> list[str]:
        size_bytes, count, gone = self._size_bytes, len(self._kept), []
        for name, (size, since_ns) in self._kept.items():
            fits = size_bytes <= self._bound.size_bytes and count <= self._bound.count
            if fits and now_ns - since_ns < LIFE_S * 10**9:
                break
            gone.append(name)
            size_bytes -= size
            count -= 1
        return gone

    def _remove(self, pipeline: Pipeline, names: list[str]) -> None:
        for name in names:
            self._forget(name)
        if names:
            pipeline.delete(*(f"{self._prefix}{name}" for name in names))
            pipeline.zrem(self._index, *names)

    def _keep(self, name: str, size: int, now_ns: int) -> None:
        self._kept[name] = (size, now_ns)
        self._size_bytes += size

    def _forget(self, name: str) -> None:
        size, _ = self._kept.pop(name, (0, 0))
        self._size_bytes -= size
