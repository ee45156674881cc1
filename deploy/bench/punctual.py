"""The decision process alone, between a camera, a worker and a storage that are played: how soon the PLC has a verdict.

A real `python -m decision` with its outbox, link and driver, on its real sockets; the PLC is an observer of its own
(`observer.py`). Beside it, at the same rate and in the same moments, a bare client of the driver's library writes.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zmq
from pymodbus.client import ModbusTcpClient

from config import bus
from config.bus import Receiver
from config.errors import ServiceError
from config.home import Home, Run
from config.messages import (
    AnyMessage,
    Enlist,
    GateReport,
    Health,
    Judgement,
    Prediction,
    Predictions,
    Recorded,
    Trigger,
    Verdict,
)
from config.station import CameraSection, DecisionSection, PlcSection, Station
from deploy.bench.observer import SPARE, Observer, Seen, fifo, observe

OBSERVER_PRIORITY = 60  # above what is measured: a PLC has a processor of its own
WORLD_PRIORITY = 40
DECISION_PRIORITY = 20
_PARTS_PER_S = 150
_WARM_UP_PARTS = 150
_DEADLINE_MS = 20  # from the trigger; nothing is inferred here
_REJECT_EVERY = 10
_MAP = (28, 28)
_ENLIST_NS = 300_000_000
_END_NS = 3_000_000_000
_HEALTH_NS = 1_100_000_000
_WAIT_S = 20.0
_S = 1_000_000_000
_MS = 1_000_000


class Condition(NamedTuple):
    """Under what the station runs: beside as many busy processes as there are cores, and with SCHED_FIFO, or not."""

    loaded: bool
    fifo: bool

    @property
    def suffix(self) -> str:
        """What figures under this condition have in their names."""
        return f"{'_loaded' if self.loaded else ''}{'_fifo' if self.fifo else ''}"


CONDITIONS = tuple(Condition(loaded=loaded, fifo=fifo) for loaded in (False, True) for fifo in (False, True))


@dataclass
class Times:
    """What a part met, monotonic; None: never."""

    trigger_ns: int
    judged_ns: int | None = None
    fault: bool = False
    written_ns: int | None = None


@dataclass(frozen=True)
class Measured:
    """Times of the parts that count, in milliseconds where not said otherwise."""

    observer: str
    intervals_ms: dict[str, list[float]]
    misses: int
    parts: int
    garbage_us: int  # the longest search
    garbage_in_path: int  # searches while a part was open
    faults_per_part: float  # pages that were not in memory when touched


def fifo_allowed() -> bool:
    """Tell whether this user may have the priorities that are needed here."""
    with ThreadPoolExecutor(1) as thread:  # a priority is a thread's own
        return thread.submit(fifo, OBSERVER_PRIORITY).result()


def measure(condition: Condition, parts: int, library: str | None) -> Measured:
    """Send parts under a condition to a PLC made of `library` (`observer.libmodbus()`).

    Raise ServiceError where the processes do not come up.
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="andon-bench-"))
        stack.callback(shutil.rmtree, folder)
        plc = stack.enter_context(_process(observe, OBSERVER_PRIORITY, library))
        about: Observer = _received(plc)
        home = _home(folder, about.port, DECISION_PRIORITY if condition.fifo else 0)
        stack.callback(shutil.rmtree, home.runtime, ignore_errors=True)
        if condition.loaded:
            stack.enter_context(_load())
        quiet = {**os.environ, "ANDON_LOG_LEVEL": "error"}
        decision = subprocess.Popen([sys.executable, "-m", "decision", "--home", str(home.path)], env=quiet)
        stack.callback(_end, decision)
        bare_priority = DECISION_PRIORITY + 1 if condition.fifo else 0  # as the link's thread
        bare = stack.enter_context(_process(_write_bare, about.port, parts, bare_priority))
        world = stack.enter_context(_process(_play, home.path, decision.pid, parts))
        times, counters, faults = _received(world, _WAIT_S + (parts + _WARM_UP_PARTS) / _PARTS_PER_S * 1.5)
        bare_ns: list[int] = _received(bare)
        plc.send(None)
        seen: dict[int, Seen] = _received(plc)
        if decision.poll() is not None or not times:
            raise ServiceError("the decision process ended; it has said why")
    return _sum_up(about.name, times, seen, bare_ns, counters, faults)


def _sum_up(
    observer: str,
    times: dict[int, Times],
    seen: dict[int, Seen],
    bare_ns: Sequence[int],
    counters: dict[str, int],
    faults: int,
) -> Measured:
    counted = {number: one for number, one in times.items() if number >= _WARM_UP_PARTS}
    intervals: dict[str, list[float]] = {"bare_write": [took_ns / _MS for took_ns in bare_ns]}
    misses = 0
    for number, one in counted.items():
        plc = seen.get(number)
        if plc is None or one.judged_ns is None or one.written_ns is None:
            misses += 1
            continue
        misses += one.fault or plc.changed_ns - one.trigger_ns > _DEADLINE_MS * _MS
        for name, begin_ns, end_ns in (
            ("trigger_to_verdict", one.trigger_ns, one.judged_ns),
            ("verdict_to_write", one.judged_ns, plc.request_ns),
            ("write_to_plc", plc.request_ns, plc.changed_ns),
            ("verdict_to_plc", one.judged_ns, plc.changed_ns),
            ("verdict_to_answer", one.judged_ns, one.written_ns),
        ):
            intervals.setdefault(name, []).append((end_ns - begin_ns) / _MS)
    return Measured(
        observer=observer,
        intervals_ms=intervals,
        misses=misses,
        parts=len(counted),
        garbage_us=counters.get("garbage_longest_us", 0),
        garbage_in_path=counters.get("garbage_in_path", 0),
        faults_per_part=faults / max(1, len(times)),
    )


def _home(folder: Path, port: int, priority: int) -> Home:
    recipe = folder / "recipe.toml"
    (folder / "b").touch()  # that there is a bundle: the worker is played
    view = '[views.front]\nbundle = "b"\nreview_above = 2.0\nreject_above = 3.0\n'
    recipe.write_text(f'product = "bench"\njob = 1\ndeadline_ms = {_DEADLINE_MS}\n{view}', encoding="utf-8")
    home = Home(folder / "home")
    home.make()
    home.write_station(
        Station(
            station="bench",
            recipes={"bench": recipe},
            recipe="bench",
            cameras=(CameraSection(name="front", type="simulated"),),
            plc=PlcSection(type="modbus", options={"port": port}),
            decision=DecisionSection(realtime_priority=priority),
        )
    )
    home.write_run(Run(run_id="bench"))
    return home


@contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        ours.close()


def _received(channel: Connection, within_s: float = _WAIT_S) -> Any:  # noqa: ANN401 - what its process sends
    try:
        if channel.poll(within_s):
            return channel.recv()
    except EOFError as error:
        raise ServiceError("a process of the bench ended; it has said why") from error
    raise ServiceError(f"a process of the bench said nothing within {within_s:.0f} s")


@contextmanager
def _load() -> Iterator[None]:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)


def _due_ns(count: int, seed: int) -> Iterator[int]:
    """Yield times after the begin, at uneven steps, so that nothing falls in step with anything."""
    steps, at_ns = random.Random(seed), 0.0  # noqa: S311 - when, not a secret
    for _ in range(count):
        at_ns += _S / _PARTS_PER_S * steps.uniform(0.4, 1.6)
        yield round(at_ns)


def _write_bare(channel: Connection, port: int, count: int, priority: int) -> None:
    """Write as many words as a result has, at the parts' rate; send how long each write took, in nanoseconds."""
    if priority:
        fifo(priority)
    client = ModbusTcpClient("127.0.0.1", port=port)
    client.connect()  # type: ignore[no-untyped-call]  # pymodbus has no annotation here
    took_ns = []
    begin_ns = time.monotonic_ns() + _WARM_UP_PARTS * _S // _PARTS_PER_S
    for number, due_ns in enumerate(_due_ns(count, seed=2)):
        time.sleep(max(0, begin_ns + due_ns - time.monotonic_ns()) / _S)
        began_ns = time.monotonic_ns()
        client.write_registers(SPARE, [0, number % 1000, 1, 1])
        took_ns.append(time.monotonic_ns() - began_ns)
    channel.send(took_ns)


def _play(channel: Connection, path: Path, decision: int, count: int) -> None:
    """Be camera, worker and storage; send the parts' times, the decision process's counters and page faults."""
    fifo(WORLD_PRIORITY)
    world = _World(Home(path))
    world.wait_ready()
    begin_ns = time.monotonic_ns()
    faults = 0
    for number, due_ns in enumerate(_due_ns(count + _WARM_UP_PARTS, seed=1)):
        if number == _WARM_UP_PARTS:
            faults = _page_faults(decision)
        world.take_until(begin_ns + due_ns)
        world.send(number)
    faults = _page_faults(decision) - faults
    end_ns = time.monotonic_ns() + _END_NS
    while time.monotonic_ns() < end_ns and any(one.written_ns is None for one in world.times.values()):
        world.take_until(time.monotonic_ns() + 20 * _MS)
    world.take_until(time.monotonic_ns() + _HEALTH_NS)  # the counters that come last
    channel.send((world.times, world.counters, faults))


def _page_faults(pid: int) -> int:
    """Return the minor and major faults of a process (proc(5), fields 10 and 12)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[7]) + int(fields[9])


class _World:
    def __init__(self, home: Home) -> None:
        self.times: dict[int, Times] = {}
        self.counters: dict[str, int] = {}
        self._bus = bus.Bus()
        self._triggers = self._bus.connect(zmq.DEALER, home.endpoint("triggers"), "front")
        self._predictions = self._bus.connect(zmq.PUSH, home.endpoint("predictions"))
        self._records = self._bus.bind(zmq.ROUTER, home.endpoint("records"))
        health = self._bus.bind(zmq.PULL, home.endpoint("health"))
        self._receivers = {
            int(socket.getsockopt(zmq.FD)): Receiver(socket, self._take, Counter())
            for socket in (self._triggers, self._records, health)
        }
        self._enlist_ns = 0
        self._ready = False
        noise = np.random.default_rng(0)
        self._map = noise.random(_MAP, np.float32)
        self._bad_map = self._map.copy()
        self._bad_map[10:14, 10:14] += 4.0

    def wait_ready(self) -> None:
        """Enlist until the decision process says that it is READY."""
        until_ns = time.monotonic_ns() + round(_WAIT_S * _S)
        while not self._ready:
            if time.monotonic_ns() > until_ns:
                raise ServiceError(f"the decision process was not READY within {_WAIT_S:.0f} s")
            self.take_until(time.monotonic_ns() + 20 * _MS)

    def take_until(self, until_ns: int) -> None:
        """Take what comes and answer it."""
        while True:
            for receiver in self._receivers.values():
                receiver()
            now_ns = time.monotonic_ns()
            if now_ns >= self._enlist_ns:
                self._enlist_ns = now_ns + _ENLIST_NS
                bus.send(self._triggers, Enlist(camera="front", workers=1))
            if now_ns >= until_ns:
                return
            select.select(list(self._receivers), [], [], (min(until_ns, self._enlist_ns) - now_ns) / _S)

    def send(self, number: int) -> None:
        """Send a trigger and at once the prediction of its one view."""
        part_id = f"bench-bench-{number:08}"
        bad = number % _REJECT_EVERY == 0
        anomaly_map = self._bad_map if bad else self._map
        trigger_ns = time.monotonic_ns()
        self.times[number] = Times(trigger_ns)
        trigger = Trigger(
            part_id=part_id,
            sequence=number,
            station="bench",
            camera="front",
            views=("front",),
            recipe="bench",
            trigger_ns=trigger_ns,
            trigger_time_ns=time.time_ns(),
            deadline_ns=trigger_ns + _DEADLINE_MS * _MS,
        )
        prediction = Prediction(
            frame_id=part_id,
            part_id=part_id,
            camera="front",
            score=float(anomaly_map.max()),
            map_shape=_MAP,
            frame_shape=(320, 320, 3),
            bundle_digest="sha256:0",
            worker="worker-0",
            batch_size=1,
            received_ns=trigger_ns,
            started_ns=trigger_ns,
            finished_ns=trigger_ns,
        )
        bus.send(self._triggers, trigger)
        bus.send(self._predictions, Predictions(each=(prediction,)), [anomaly_map.tobytes()])

    def _take(self, message: AnyMessage, _payload: list[bytes], peer: bytes) -> None:
        match message:
            case Verdict() if not peer:
                one = self.times[message.sequence]
                one.judged_ns, one.fault = message.judged_ns, message.verdict is Judgement.FAULT
            case GateReport():
                self.times[int(message.part_id[-8:])].written_ns = message.written_ns
            case Health():
                self.counters, self._ready = message.counters, message.state == "READY"
            case _:
                pass
        if peer and isinstance(message, Verdict | GateReport):
            answer = Recorded(record_ids=(message.record_id,), journalled_ns=time.monotonic_ns())
            bus.send(self._records, answer, to=peer)
