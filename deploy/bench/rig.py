"""A station to be measured: real processes of its cameras, workers and decision stage, and a storage that is played.

Cameras play pictures that are there before their trigger; the PLC is the simulator, which is not counted.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import zmq

from config import bus
from config.bus import Receiver
from config.errors import ServiceError
from config.home import Home, Run
from config.messages import AnyMessage, Event, Evidence, GateReport, Health, Judgement, Recorded, Verdict
from config.station import Station
from deploy import stations

_READY_S = 120.0
_FIRST_S = 1.5  # of a run, in which things happen that happen once
_START_NS = 300_000_000
_POLL_MS = 20
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Held:
    """What the processes of a kind hold; what several share is divided among them (PSS of proc(5), smaps_rollup).

    `files_mb` of it are rings and the outbox: as large as they were made, once every page has been used.
    """

    pss_mb: float
    files_mb: float
    descriptors: int


@dataclass
class Seen:
    """What has come of the parts that were judged in a while."""

    frames: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # parts, by reason
    trigger_to_verdict_ms: list[float] = field(default_factory=list)
    trigger_to_worker_ms: list[float] = field(default_factory=list)
    inference_ms: list[float] = field(default_factory=list)
    inferred_to_verdict_ms: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    cpu_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # by kind of process

    @property
    def cpu_ms_per_frame(self) -> float:
        """Return the processor time of all counted processes for a frame."""
        return 1e3 * sum(self.cpu_s.values()) / max(1, self.frames)

    def extend(self, later: Seen) -> None:
        """Take in what was seen in another while."""
        self.frames += later.frames
        self.faults.update(later.faults)
        for kind, cpu_s in later.cpu_s.items():
            self.cpu_s[kind] += cpu_s
        self.trigger_to_verdict_ms += later.trigger_to_verdict_ms
        self.trigger_to_worker_ms += later.trigger_to_worker_ms
        self.inference_ms += later.inference_ms
        self.inferred_to_verdict_ms += later.inferred_to_verdict_ms
        self.batches += later.batches


class Rig:
    """Run a station while the `with` block lasts."""

    def __init__(self, station: Station, trust: Sequence[Path] = ()) -> None:
        """Take a station with a simulated line and a PLC at port 0, and keys that its bundles are signed with."""
        self._station = stations.place(station, 0)
        self._trust = (*stations.DEMO_KEYS, *trust)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ready: set[str] = set()
        self._seen = Seen()
        self._bus = bus.Bus()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="andon-bench-"))
            stack.callback(shutil.rmtree, folder)
            self._open(Home(folder / "home"), stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def watch(self, seconds: float) -> Seen:
        """Let the line run, answer as storage does, and return what was seen meanwhile."""
        self._seen, before = Seen(), self._cpu_s()
        ends_ns = time.monotonic_ns() + round(seconds * 1e9)
        while time.monotonic_ns() < ends_ns:
            self._turn()
        after = self._cpu_s()
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ServiceError(f"{name} ended with {process.returncode}; it has said why")
            self._seen.cpu_s[name.partition("-")[0]] += after[name] - before[name]
        return self._seen

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let no process of the station run while the `with` block lasts; the line catches up for a while afterwards.

        What became due meanwhile is judged late, as FAULT: watch for a while before parts count again.
        """
        running = [process for process in (self._plc, *self._processes.values()) if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in running:
                process.send_signal(signal.SIGCONT)

    def held(self) -> dict[str, Held]:
        """Return what the processes hold now, by kind: camera, worker, decision."""
        found: dict[str, Held] = {}
        for name, process in self._processes.items():
            folder, kind = Path(f"/proc/{process.pid}"), name.partition("-")[0]
            lines = (folder / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
            kb = {words[0]: int(words[1]) for words in map(str.split, lines)}
            so_far = found.get(kind, Held(0.0, 0.0, 0))
            descriptors = sum(1 for _ in (folder / "fd").iterdir())
            found[kind] = Held(
                so_far.pss_mb + kb["Pss:"] / 1024,
                so_far.files_mb + kb["Pss_Shmem:"] / 1024,
                so_far.descriptors + descriptors,
            )
        return found

    def _open(self, home: Home, stack: ExitStack) -> None:
        home.make()
        stack.callback(shutil.rmtree, home.runtime, ignore_errors=True)
        run = Run(run_id="bench")
        home.write_station(self._station)
        home.write_run(run)
        home.versions().begin(run.run_id, self._station)
        stack.callback(self._bus.close)
        self._records = self._bus.bind(zmq.ROUTER, home.endpoint("records"))
        health = self._bus.bind(zmq.PULL, home.endpoint("health"))
        self._receivers = {socket: Receiver(socket, self._take, Counter()) for socket in (self._records, health)}
        self._poller = zmq.Poller()
        for socket in self._receivers:
            self._poller.register(socket, zmq.POLLIN)
        trust = [part for key in self._trust for part in ("--trust", str(key))]
        self._plc = self._spawn(home, "deploy.plc")
        stack.callback(_end, self._plc)
        self._processes["decision"] = self._spawn(home, "decision")
        for number in range(self._station.workers.count):
            self._processes[f"worker-{number}"] = self._spawn(home, "inference", "--worker", str(number), *trust)
        for camera in self._station.cameras:
            self._processes[f"camera-{camera.name}"] = self._spawn(home, "ingest", "--camera", camera.name)
        for process in self._processes.values():
            stack.callback(_end, process)
        ends_ns = time.monotonic_ns() + round(_READY_S * 1e9)
        while not self._ready.issuperset(self._processes):
            if time.monotonic_ns() > ends_ns or any(one.poll() is not None for one in self._processes.values()):
                late = ", ".join(sorted(self._processes.keys() - self._ready))
                raise ServiceError(f"not READY: {late}")
            self._turn()
        home.write_start(run, time.monotonic_ns() + _START_NS)
        self.watch(_FIRST_S)

    def _spawn(self, home: Home, module: str, *words: str) -> subprocess.Popen[bytes]:
        quiet = {**os.environ, "ANDON_LOG_LEVEL": "error", "OPENCV_LOG_LEVEL": "ERROR"}
        return subprocess.Popen(
            [sys.executable, "-m", module, "--home", str(home.path), *words], env=quiet, stdout=subprocess.DEVNULL
        )

    def _turn(self) -> None:
        for socket, _ in self._poller.poll(_POLL_MS):
            self._receivers[socket]()

    def _cpu_s(self) -> dict[str, float]:
        """Return the processor time of each process (proc(5), stat, fields 14 and 15)."""
        found = {}
        for name, process in self._processes.items():
            fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            found[name] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        return found

    def _take(self, message: AnyMessage, _payload: list[bytes], peer: bytes) -> None:
        match message:
            case Verdict():
                self._judged(message)
            case Health() if message.state == "READY":
                self._ready.add(message.service)
            case _:
                pass
        if isinstance(message, Verdict | GateReport | Evidence | Event):
            answer = Recorded(record_ids=(message.record_id,), journalled_ns=time.monotonic_ns())
            bus.send(self._records, answer, to=peer)

    def _judged(self, verdict: Verdict) -> None:
        seen = self._seen
        if verdict.verdict is Judgement.FAULT:
            seen.faults.update(str(reason) for reason in verdict.reasons)
        seen.trigger_to_verdict_ms.append((verdict.judged_ns - verdict.trigger_ns) / 1e6)
        for view in verdict.views:
            if view.received_ns is not None and view.started_ns is not None and view.finished_ns is not None:
                seen.frames += 1
                seen.trigger_to_worker_ms.append((view.received_ns - verdict.trigger_ns) / 1e6)
                seen.inference_ms.append((view.finished_ns - view.started_ns) / 1e6)
                seen.inferred_to_verdict_ms.append((verdict.judged_ns - view.finished_ns) / 1e6)
                seen.batches.append(view.batch_size or 0)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
