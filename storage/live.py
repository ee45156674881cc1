"""The live picture in Redis: what happened lately, for the console and for any other program that reads these keys.

All begin with `andon:{station}:`. Losing Redis loses nothing but this picture. JSON is that of the messages of
`config/messages.py`; fields are added to it and never change their meaning, so pass over those that you do not know.

    parts             stream, the last 500 or so verdicts: fields `part_id` and `verdict` (a Verdict). The one to follow
                      from other programs: XREAD from the last id that you saw, or `$`. In the order of their arrival,
                      each once. What came during an outage of Redis is missing here: PostgreSQL has it
    gates             stream, the last 500 or so: fields `part_id` and `gate_report` (a GateReport)
    events            stream, the last 500 or so: fields `event_id` and `event` (an Event)
    alarms            hash: the conditions that are on, `{service}:{name}` to the Event by which it began; gone 5 s
                      after storage's last word, and not there while nothing is on
    counters          hash: `run`, and of this run PASS REJECT REVIEW FAULT (parts by verdict) and
                      PASSED EJECTED UNSEEN (parts by what the PLC saw at the gate)
    health:{service}  a Health, gone 5 s after the process's last word
    image:{part_id}:{camera}:{purpose}:{region}
                      a JPEG or PNG, gone after 10 minutes; `region` is empty for a whole view. All together are at most
                      4000 and 64 MiB: the oldest go first, and half of them whenever Redis has no memory left
    images            sorted set: which images there are, `{part_id}:{camera}:{purpose}:{region}` by Unix time in ms
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import cast

from redis import AuthenticationError, Redis, RedisError, ResponseError
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.retry import Retry

from config.errors import StoreError
from config.log import Condition
from config.messages import Event, Evidence, GateOutcome, GateReport, Health, Judgement, Verdict, as_json
from storage.addresses import REDIS
from storage.pictures import Bound, Pictures

LiveMessage = Verdict | GateReport | Evidence | Event | Health
_Fields = dict[bytes | bytearray | memoryview | str | int | float, bytes | bytearray | memoryview | str | int | float]
_Entry = tuple[LiveMessage, Sequence[bytes]]

_STREAM_LENGTH = 500
_HEALTH_MS = 5_000
_WAITING = 4096  # messages; while Redis is away they are not kept but counted
_BATCH = 2048
_REMEMBERED = 10_000
_PAUSE_S = 0.03
_RETRY_NS = 500_000_000
_TIMEOUT_S = 1.0
_COUNT = re.compile(rb"[0-9]{1,18}")  # of parts; another program may have put anything there
UNSEEN = "UNSEEN"
_COUNTED = (*(judgement.value for judgement in Judgement), *(outcome.value for outcome in GateOutcome), UNSEEN)


class Keys:
    """Names of one station's keys."""

    def __init__(self, station: str) -> None:
        prefix = f"andon:{station}:"
        self.parts = f"{prefix}parts"
        self.gates = f"{prefix}gates"
        self.events = f"{prefix}events"
        self.alarms = f"{prefix}alarms"
        self.counters = f"{prefix}counters"
        self.images = f"{prefix}images"
        self.image_prefix = f"{prefix}image:"
        self._prefix = prefix

    def health(self, service: str) -> str:
        """Name a process's health."""
        return f"{self._prefix}health:{service}"

    def image(self, part_id: str, camera: str, purpose: str, region: int | None) -> str:
        """Name an image."""
        return f"{self.image_prefix}{image_name(part_id, camera, purpose, region)}"


def image_name(part_id: str, camera: str, purpose: str, region: int | None) -> str:
    """Name an image among the station's images."""
    return f"{part_id}:{camera}:{purpose}:{'' if region is None else region}"


class LivePicture(threading.Thread):
    """Keep the picture of `run` at the Redis `url` up to date; never make anybody wait."""

    def __init__(self, url: str, station: str, run: str, counters: Counter[str], bound: Bound | None = None) -> None:
        super().__init__(name="redis", daemon=True)
        self._redis = _connect(url)
        self._keys = Keys(station)
        self._pictures = Pictures(self._keys.image_prefix, self._keys.images, bound or Bound())
        self._run_id = run
        self._ours = f"{station}-{run}-"
        self._counters = counters
        self._waiting: queue.Queue[_Entry | None] = queue.Queue(_WAITING)
        self._crowded = Condition("redis_crowded", counters)
        self._down = Condition("redis_down", counters)
        self._refusing = Condition("redis_refuses", counters)
        self._refused: dict[str, str] = {}  # what Redis does not take, and why
        self._tally: Counter[str] = Counter()
        self._before: Counter[str] | None = None  # what an earlier process of this run counted; None: not read yet
        self._shown: OrderedDict[str, None] = OrderedDict()  # records of late, so that none is counted twice
        self._known = False  # whether it has been read which pictures there are
        self._retry_ns = 0
        self._stopping = threading.Event()
        self.alarms: tuple[Event, ...] = ()  # the conditions that are on, for the next batch
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
                if not away:
                    self._recall()
                entries = [entry for entry in entries if self._is_new(entry[0])]
                if away:
                    self._lose(entries)
                else:
                    self._show(entries)
                    self._down.end()
                    self._stopping.wait(_PAUSE_S)  # one request for many: nobody sees a difference
            except RedisError as error:
                self._lose(entries)
                self._known = False
                self._retry_ns = time.monotonic_ns() + _RETRY_NS
                self.problem = f"Redis: {_reason(error)}"
                self._down.occur(error=_reason(error))

    def _lose(self, entries: Sequence[_Entry]) -> None:
        self._counters["redis_lost"] += len(entries)

    def _recall(self) -> None:
        """Read what there is: once, what an earlier process of this run has shown; after each outage, the pictures."""
        if self._before is None:
            for stream, kind in ((self._keys.parts, "verdict"), (self._keys.gates, "gate")):
                for part_id in _part_ids(self._redis, stream):
                    self._shown[f"{kind}:{part_id}"] = None
            self._before = _counted(self._redis, self._keys, self._run_id)
        if not self._known:
            self._pictures.recall(self._redis)
            self._known = True

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

    def _show(self, entries: Sequence[_Entry], *, again: bool = False) -> None:
        """Write everything at once; what Redis refuses is lost alone, or written after making room for it."""
        with self._redis.pipeline(transaction=False) as pipeline:
            written: list[tuple[str, int]] = []  # of each command: what it writes, and which entry it shows
            for index, (message, payload) in enumerate(entries):
                what = self._add(pipeline, message, payload)
                written += [(what, index)] * (len(pipeline) - len(written))
            self._add_counters(pipeline)
            self._add_alarms(pipeline)
            written += [("counters", -1)] + [("alarms", -1)] * (len(pipeline) - len(written) - 1)
            answers = pipeline.execute(raise_on_error=False)
        refused = {place: answer for place, answer in zip(written, answers, strict=True) if _is_error(answer)}
        lost = sorted({index for _, index in refused} - {-1})
        if not again and any(isinstance(error, OutOfMemoryError) for error in refused.values()):
            self._pictures.halve(self._redis)
            self._show([entries[index] for index in lost], again=True)
            return
        for what in {what for what, _ in written}:
            self._refused.pop(what, None)
        self._refused.update({what: f"{what}: {_reason(error)}" for (what, _), error in refused.items()})
        self._counters["redis_lost"] += len(lost)
        self.problem = f"Redis refuses {'; '.join(sorted(self._refused.values()))}" if self._refused else None
        if self.problem:
            self._refusing.occur(reason=self.problem)
        else:
            self._refusing.end()

    def _add(self, pipeline: Pipeline, message: LiveMessage, payload: Sequence[bytes]) -> str:
        """Add what shows a message, and return what is written."""
        match message:
            case Verdict():
                _append(pipeline, self._keys.parts, {"part_id": message.part_id, "verdict": as_json(message)})
                return "parts"
            case GateReport():
                fields: _Fields = {"part_id": message.part_id, "gate_report": as_json(message)}
                _append(pipeline, self._keys.gates, fields)
                return "gates"
            case Evidence():
                name = image_name(message.part_id, message.camera, message.purpose, message.region)
                self._pictures.set(pipeline, name, b"".join(payload))
                return "images"
            case Event():
                _append(pipeline, self._keys.events, {"event_id": message.event_id, "event": as_json(message)})
                return "events"
            case Health():
                pipeline.set(self._keys.health(message.service), as_json(message), px=_HEALTH_MS)
                return "health"

    def _add_counters(self, pipeline: Pipeline) -> None:
        counts = self._tally + (self._before or Counter())
        values: _Fields = {"run": self._run_id, **{name: str(counts[name]) for name in _COUNTED}}
        pipeline.hset(self._keys.counters, mapping=values)

    def _add_alarms(self, pipeline: Pipeline) -> None:
        pipeline.delete(self._keys.alarms)
        on: _Fields = {f"{event.service}:{event.name}": as_json(event) for event in self.alarms}
        if on:
            pipeline.hset(self._keys.alarms, mapping=on)
            pipeline.pexpire(self._keys.alarms, _HEALTH_MS)


class LiveImages:
    """Read the images of the last minutes, for the console."""

    def __init__(self, url: str, station: str) -> None:
        self._redis = _connect(url)
        self._keys = Keys(station)

    def image(self, part_id: str, camera: str, purpose: str, region: int | None = None) -> bytes | None:
        """Return an image of the last ten minutes; raise StoreError if Redis does not answer."""
        try:
            return cast("bytes | None", self._redis.get(self._keys.image(part_id, camera, purpose, region)))
        except RedisError as error:
            raise StoreError(f"Redis: {error}") from error


def _connect(url: str) -> Redis:
    retry = Retry(NoBackoff(), 0)
    return Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=retry, protocol=2)


def _append(pipeline: Pipeline, stream: str, fields: _Fields) -> None:
    pipeline.xadd(stream, fields, maxlen=_STREAM_LENGTH, approximate=True)


def _part_ids(redis: Redis, stream: str) -> list[str]:
    """Return the parts in a stream, oldest first; none where the key is not ours to read."""
    try:
        # redis-py allows for text and for no answer too; without decode_responses it is always this
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", redis.xrevrange(stream, count=_STREAM_LENGTH))
    except ResponseError:
        return []
    return [fields.get(b"part_id", b"").decode(errors="replace") for _, fields in reversed(entries)]


def _counted(redis: Redis, keys: Keys, run: str) -> Counter[str]:
    """Return what Redis has counted of `run` by now; nothing where the key is not ours to read."""
    try:
        found = cast("dict[bytes, bytes]", redis.hgetall(keys.counters))
    except ResponseError:
        return Counter()
    if found.get(b"run") != run.encode():
        return Counter()
    counts = {name: found.get(name.encode(), b"") for name in _COUNTED}
    return Counter({name: int(count) for name, count in counts.items() if _COUNT.fullmatch(count)})


def _counted_as(message: Verdict | GateReport) -> str:
    if isinstance(message, Verdict):
        return message.verdict.value
    return message.outcome.value if message.outcome else UNSEEN


def _is_error(answer: object) -> bool:
    return isinstance(answer, RedisError)


def _reason(error: object) -> str:
    """Say why Redis does not take something, where we know."""
    if isinstance(error, OutOfMemoryError):
        return "its memory is full (maxmemory)"
    if isinstance(error, ReadOnlyError):
        return "it is a read-only replica"
    if isinstance(error, AuthenticationError):
        return f"it does not accept our name or password ({REDIS}): {error}"
    if "WRONGTYPE" in str(error):
        return "another program has put something else at this key: remove it"
    return str(error)
