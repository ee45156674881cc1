"""Redis as the console's one reader sees it: what came into the streams, who is healthy, which pictures there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from config.errors import MessageError, StoreError
from config.log import Condition
from config.messages import Event, GateReport, Group, Health, Verdict, from_json
from storage.live import Keys

_TIMEOUT_S = 2.0
_COUNT = 200
_EMPTY = b"0-0"

Entry = tuple[bytes, dict[bytes, bytes]]
PictureKey = tuple[str, str, str]  # part_id, camera, purpose
Kind = TypeVar("Kind", bound=Group)


@dataclass
class News:
    """What came into the streams, oldest first."""

    verdicts: list[Verdict] = field(default_factory=list)
    gate_reports: list[GateReport] = field(default_factory=list)


class Streams:
    """Read one station's live picture from the Redis at `url`; every method raises StoreError while it is away."""

    def __init__(self, url: str, station: str, malformed: Condition) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0), protocol=2
        )
        self._keys = Keys(station)
        self._malformed = malformed
        self._last = {self._keys.parts: _EMPTY, self._keys.gates: _EMPTY}

    async def recall(self, limit: int) -> News:
        """Return the last entries of both streams and go on from there."""
        news = News()
        for stream in self._last:
            try:
                found = cast("list[Entry]", await self._redis.xrevrange(stream, count=limit))
            except RedisError as error:
                raise _away(error) from error
            self._last[stream] = found[0][0] if found else _EMPTY
            self._take(news, stream, reversed(found))
        return news

    async def read(self, within_ms: int) -> News:
        """Return what comes in `within_ms`, as soon as there is something."""
        try:
            answer = await self._redis.xread(dict(self._last), count=_COUNT, block=within_ms)  # type: ignore[arg-type]  # a dict is not covariant
        except RedisError as error:
            raise _away(error) from error
        news = News()
        for name, entries in cast("list[tuple[bytes, list[Entry]]]", answer):
            stream = name.decode()
            self._take(news, stream, entries)
            self._last[stream] = entries[-1][0]
        return news

    async def health(self, services: Sequence[str]) -> dict[str, Health]:
        """Return the last word of each service that spoke lately."""
        try:
            found = cast("list[bytes | None]", await self._redis.mget([self._keys.health(name) for name in services]))
        except RedisError as error:
            raise _away(error) from error
        decoded = (self._decode(Health, text) for text in found if text is not None)
        return {health.service: health for health in decoded if health is not None}

    async def alarms(self) -> list[Event]:
        """Return the beginnings of the conditions that are on, the newest first."""
        try:
            found = cast("list[bytes]", await self._redis.hvals(self._keys.alarms))
        except RedisError as error:
            raise _away(error) from error
        decoded = [event for text in found if (event := self._decode(Event, text)) is not None]
        return sorted(decoded, key=lambda event: (-event.time_ns, event.event_id))

    async def counters(self) -> dict[str, str]:
        """Return the counters of the present run, and `run`."""
        try:
            found = cast("dict[bytes, bytes]", await self._redis.hgetall(self._keys.counters))
        except RedisError as error:
            raise _away(error) from error
        return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in found.items()}

    async def which_exist(self, pictures: Sequence[PictureKey]) -> set[PictureKey]:
        """Return those of `pictures` of whole views that are there."""
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for part_id, camera, purpose in pictures:
                    pipeline.exists(self._keys.image(part_id, camera, purpose, None))
                found = cast("list[int]", await pipeline.execute())
        except RedisError as error:
            raise _away(error) from error
        return {picture for picture, there in zip(pictures, found, strict=True) if there}

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _take(self, news: News, stream: str, entries: Iterable[Entry]) -> None:
        for _, fields in entries:
            if stream == self._keys.parts:
                verdict = self._decode(Verdict, fields.get(b"verdict", b""))
                news.verdicts += [verdict] if verdict else []
            else:
                report = self._decode(GateReport, fields.get(b"gate_report", b""))
                news.gate_reports += [report] if report else []

    def _decode(self, kind: type[Kind], text: bytes) -> Kind | None:
        try:
            decoded = from_json(kind, text)
        except MessageError as error:
            self._malformed.occur(kind=kind.__name__, error=str(error))
            return None
        self._malformed.end()
        return decoded


def _away(error: RedisError) -> StoreError:
    return StoreError(f"Redis: {error}")
