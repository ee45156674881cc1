"""The live picture in Redis: what happened lately, for the console and for anybody else who reads these keys.

All begin with `andon:{station}:`. Losing Redis loses nothing but this picture.

    parts             stream, the last 500 or so: fields `part_id` and `verdict` (a Verdict as JSON)
    gates             stream, the last 500 or so: fields `part_id` and `gate_report` (a GateReport as JSON)
    counters          hash: `run`, and of this run PASS REJECT REVIEW FAULT (parts by verdict) and
                      PASSED EJECTED UNSEEN (parts by what the PLC saw at the gate)
    health:{service}  a Health as JSON, gone 5 s after the process's last word
    image:{part_id}:{camera}:{purpose}:{region}
                      a JPEG, gone after 10 minutes; `region` is empty for a whole view
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import cast

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry

from config.errors import StoreError
from config.log import Condition
from config.messages import Event, Evidence, GateOutcome, GateReport, Health, Judgement, Verdict

LiveMessage = Verdict | GateReport | Evidence | Event | Health
_Entry = tuple[LiveMessage, Sequence[bytes]]

_STREAM_LENGTH = 500
_HEALTH_MS = 5_000
_IMAGE_S = 600
_WAITING = 4096  # messages; while Redis is away they are not kept but counted
_BATCH = 256
_REMEMBERED = 10_000
_RETRY_NS = 500_000_000
_TIMEOUT_S = 1.0
_UNSEEN = "UNSEEN"
_COUNTED = (*(judgement.value for judgement in Judgement), *(outcome.value for outcome in GateOutcome), _UNSEEN)


class Keys:
    """Names of one station's keys."""

    def __init__(self, station: str) -> None:
        prefix = f"andon:{station}:"
        self.parts = f"{prefix}parts"
        self.gates = f"{prefix}gates"
        self.counters = f"{prefix}counters"
        self.all_health = f"{prefix}health:*"
        self._prefix = prefix

    def health(self, service: str) -> str:
        """Name a process's health."""
        return f"{self._prefix}health:{service}"

    def image(self, part_id: str, camera: str, purpose: str, region: int | None) -> str:
        """Name a JPEG."""
        return f"{self._prefix}image:{part_id}:{camera}:{purpose}:{'' if region is None else region}"


class LivePicture(threading.Thread):
    """Keep the picture of `run` at the Redis `url` up to date; never make anybody wait."""

    def __init__(self, url: str, station: str, run: str, counters: Counter[str]) -> None:
        super().__init__(name="redis", daemon=True)
        self._redis = _connect(url)
        self._keys = Keys(station)
        self._run_id = run
        self._ours = f"{station}-{run}-"
        self._counters = counters
        self._waiting: queue.Queue[_Entry | None] = queue.Queue(_WAITING)
        self._crowded = Condition("redis_crowded", counters)
        self._down = Condition("redis_down", counters)
        self._tally: Counter[str] = Counter()
        self._before: Counter[str] | None = None  # what an earlier process of this run counted; None: not read yet
        self._shown: OrderedDict[str, None] = OrderedDict()  # records of late, so that none is counted twice
        self._retry_ns = 0
        self._stopping = threading.Event()
        self.problem: str | None = None

    def offer(self, message: LiveMessage, payload: Sequence[bytes] = ()) -> None:
        """Show a message soon, or count that it never will be."""
        try:
            self._waiting.put_nowait((message, payload))
        except queue.Full:
            self._counters["redis_lost"] += 1
            self._crowded.occur()
        else:
            if self._waiting.qsize() < _WAITING // 2:
                self._crowded.end()

    def stop(self, timeout_s: float) -> None:
        """End the thread, or leave it behind after `timeout_s`."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self.join(timeout_s)

    def run(self) -> None:
        """Take what waits and show it, in batches."""
        while not self._stopping.is_set():
            batch = [self._waiting.get()]
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            entries = [entry for entry in batch if entry is not None]
            away = time.monotonic_ns() < self._retry_ns
            try:
                if self._before is None and not away:
                    self._before = self._recall()
                entries = [entry for entry in entries if self._is_new(entry[0])]
                if away:
                    self._lose(entries)
                else:
                    self._show(entries)
                    self.problem = None
                    self._down.end()
            except RedisError as error:
                self._lose(entries)
                self._retry_ns = time.monotonic_ns() + _RETRY_NS
                self.problem = f"Redis: {error}"
                self._down.occur(error=str(error))

    def _lose(self, entries: Sequence[_Entry]) -> None:
        self._counters["redis_lost"] += len(entries)

    def _recall(self) -> Counter[str]:
        """Read what an earlier process of this run has shown."""
        for stream, kind in ((self._keys.parts, "verdict"), (self._keys.gates, "gate")):
            for entry in reversed(_newest(self._redis, stream, _STREAM_LENGTH)):
                self._shown[f"{kind}:{entry[b'part_id'].decode()}"] = None
        run, counted = _counted(self._redis, self._keys)
        return counted if run == self._run_id else Counter()

    def _is_new(self, message: LiveMessage) -> bool:
        """Tell whether a message has not been seen yet, and count it if it is a record of this run."""
        if not isinstance(message, Verdict | GateReport):
            return True
        if message.record_id in self._shown:
            return False
        self._shown[message.record_id] = None
        if len(self._shown) > _REMEMBERED:
            self._shown.popitem(last=False)
        if message.part_id.startswith(self._ours):
            self._tally[_counted_as(message)] += 1
        return True

    def _show(self, entries: Sequence[_Entry]) -> None:
        with self._redis.pipeline(transaction=False) as pipeline:
            for message, payload in entries:
                match message:
                    case Verdict():
                        _append(pipeline, self._keys.parts, "verdict", message)
                    case GateReport():
                        _append(pipeline, self._keys.gates, "gate_report", message)
                    case Evidence():
                        key = self._keys.image(message.part_id, message.camera, message.purpose, message.region)
                        pipeline.set(key, b"".join(payload), ex=_IMAGE_S)
                    case Health():
                        pipeline.set(self._keys.health(message.service), message.model_dump_json(), px=_HEALTH_MS)
            counts = self._tally + (self._before or Counter())
            pipeline.hset(self._keys.counters, "run", self._run_id)
            for name in _COUNTED:
                pipeline.hset(self._keys.counters, name, str(counts[name]))
            pipeline.execute()


class LiveView:
    """Read the live picture, for the console."""

    def __init__(self, url: str, station: str) -> None:
        self._redis = _connect(url)
        self._keys = Keys(station)

    def parts(self, limit: int = 50) -> list[Verdict]:
        """Return the last verdicts, newest first; raise StoreError if Redis does not answer."""
        return [Verdict.model_validate_json(text) for text in self._newest(self._keys.parts, b"verdict", limit)]

    def gates(self, limit: int = 50) -> list[GateReport]:
        """Return the last gate reports, newest first; raise StoreError if Redis does not answer."""
        return [GateReport.model_validate_json(text) for text in self._newest(self._keys.gates, b"gate_report", limit)]

    def counters(self) -> dict[str, int]:
        """Return this run's counts by name; raise StoreError if Redis does not answer."""
        with _translated():
            return dict(_counted(self._redis, self._keys)[1])

    def health(self) -> list[Health]:
        """Return the last word of every process that spoke in the last 5 s, by name; raise StoreError."""
        with _translated():
            names = sorted(self._redis.scan_iter(self._keys.all_health, count=1000))
            found = self._redis.mget(names) if names else []
        return [Health.model_validate_json(text) for text in found if text is not None]

    def image(self, part_id: str, camera: str, purpose: str, region: int | None = None) -> bytes | None:
        """Return a JPEG of the last ten minutes; raise StoreError if Redis does not answer."""
        with _translated():
            return cast("bytes | None", self._redis.get(self._keys.image(part_id, camera, purpose, region)))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _newest(self, stream: str, field: bytes, limit: int) -> list[bytes]:
        with _translated():
            return [entry[field] for entry in _newest(self._redis, stream, limit)]


def _connect(url: str) -> Redis:
    retry = Retry(NoBackoff(), 0)
    return Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=retry)


def _append(pipeline: Pipeline, stream: str, field: str, message: Verdict | GateReport) -> None:
    pipeline.xadd(
        stream, {"part_id": message.part_id, field: message.model_dump_json()}, maxlen=_STREAM_LENGTH, approximate=True
    )


def _newest(redis: Redis, stream: str, limit: int) -> list[dict[bytes, bytes]]:
    # redis-py allows for text and for no answer too; without decode_responses it is always this
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", redis.xrevrange(stream, count=limit))
    return [fields for _, fields in entries]


def _counted(redis: Redis, keys: Keys) -> tuple[str, Counter[str]]:
    """Return the run that Redis has counters of, and these."""
    found = cast("dict[bytes, bytes]", redis.hgetall(keys.counters))
    run = found.pop(b"run", b"").decode()
    return run, Counter({name.decode(): int(count) for name, count in found.items()})


def _counted_as(message: Verdict | GateReport) -> str:
    if isinstance(message, Verdict):
        return message.verdict.value
    return message.outcome.value if message.outcome else _UNSEEN


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise StoreError(f"Redis: {error}") from error
