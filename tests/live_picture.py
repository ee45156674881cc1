"""The live picture as another program reads it: by the keys that `storage/live.py` documents alone."""

from __future__ import annotations

from typing import Any

from redis import Redis

from config.messages import Event, GateReport, Health, Verdict, from_json


class LivePictureReader:
    """Read the keys of one station."""

    def __init__(self, url: str, station: str) -> None:
        self.redis: Redis = Redis.from_url(url, socket_timeout=2)
        self._prefix = f"andon:{station}:"

    def key(self, name: str) -> str:
        return self._prefix + name

    def parts(self, limit: int = 50) -> list[Verdict]:
        return [from_json(Verdict, fields[b"verdict"]) for fields in self._newest("parts", limit)]

    def gates(self, limit: int = 50) -> list[GateReport]:
        return [from_json(GateReport, fields[b"gate_report"]) for fields in self._newest("gates", limit)]

    def events(self, limit: int = 50) -> list[Event]:
        return [from_json(Event, fields[b"event"]) for fields in self._newest("events", limit)]

    def alarms(self) -> dict[str, Event]:
        found: Any = self.redis.hgetall(self.key("alarms"))
        return {name.decode(): from_json(Event, text) for name, text in found.items()}

    def counters(self) -> dict[str, int]:
        found: Any = self.redis.hgetall(self.key("counters"))
        return {name.decode(): int(count) for name, count in found.items() if name != b"run"}

    def health(self) -> list[Health]:
        names = sorted(self.redis.scan_iter(self.key("health:*"), count=1000))
        found: Any = self.redis.mget(names) if names else []
        return [from_json(Health, text) for text in found if text is not None]

    def image(self, part_id: str, camera: str, purpose: str, region: int | None = None) -> bytes | None:
        found: Any = self.redis.get(self.key(f"image:{part_id}:{camera}:{purpose}:{'' if region is None else region}"))
        return found  # type: ignore[no-any-return]  # redis-py allows for more than comes

    def images(self) -> list[str]:
        found: Any = self.redis.zrange(self.key("images"), 0, -1)
        return [name.decode() for name in found]

    def close(self) -> None:
        self.redis.close()

    def _newest(self, stream: str, limit: int) -> list[dict[bytes, bytes]]:
        found: Any = self.redis.xrevrange(self.key(stream), count=limit)
        return [fields for _, fields in found]
