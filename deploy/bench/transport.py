"""Hand-over of frames from one process to another, beside one memcpy of the same pixels and beside ZeroMQ's ways.

`filled`: the camera has filled the slot, as a driver's DMA does. `copied`: its pixels lie in memory of its own, and are
copied into the slot. Either way it counts from there until the worker has them as an array that inference takes, and
the grabber has its answer. Processor time is both processes' together.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import zmq

from config.bus import Bus
from config.curve import Keys
from config.errors import ServiceError
from config.handover import Giver, Taker
from config.messages import Answered, AnyMessage, Buffer, Credit, Frame, PixelFormat, Slot
from config.ring import RingReader, RingWriter
from deploy.bench.report import Report, Target

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Shape = tuple[int, int, int]
    Way = Literal["filled", "copied", "tcp", "curve"]

_SHAPES: dict[str, Shape] = {
    "0.3mp_mono": (480, 640, 1),
    "0.3mp_colour": (480, 640, 3),
    "5mp_mono": (2048, 2448, 1),
    "5mp_colour": (2048, 2448, 3),
    "20mp_mono": (3648, 5472, 1),
    "20mp_colour": (3648, 5472, 3),
}
_BESIDE = ("0.3mp_mono", "5mp_mono", "20mp_mono")  # the sizes at which the other ways are measured
_ROUNDS = 5
_ROUND_S = 0.25
_SLOTS = 8
_IN_FLIGHT = 8  # a worker's credit: its largest batch
_TOGETHER = _IN_FLIGHT // 2  # handed over at once: the worker reads one half while the other is copied
_READY_S = 30.0
_REST_MS = 1000


def run() -> Report:
    """Measure frames per second handed over against copies per second, in turns."""
    figures: dict[str, float] = {}
    targets = []
    for name, shape in _SHAPES.items():
        sources = _pictures(shape)
        target = np.empty((_SLOTS, *shape), np.uint8)
        copies: list[float] = []
        frames: dict[Way, list[float]] = {"filled": [], "copied": []}
        cpu_us: dict[Way, list[float]] = {"filled": [], "copied": []}
        with _Handover(sources) as handover:
            for _ in range(_ROUNDS):
                copies.append(_copies_per_s(sources, target))
                for way, rates in frames.items():
                    per_s, each_us = handover.measure(way)
                    rates.append(per_s)
                    cpu_us[way].append(each_us)
        figures[f"memcpy_{name}_per_s"] = median(copies)
        for way, each in frames.items():
            figures[f"{way}_{name}_frames_per_s"] = median(each)
            figures[f"{way}_over_memcpy_{name}"] = median(copy / one for copy, one in zip(copies, each, strict=True))
            figures[f"{way}_{name}_cpu_us"] = median(cpu_us[way])
            targets.append(Target(f"{way}_over_memcpy_{name}", 2.0, at_least=False))
        if name in _BESIDE:
            figures |= _beside(name, sources, figures[f"copied_{name}_cpu_us"])
    figures["handover_over_memcpy"] = max(figures[target.figure] for target in targets)
    return Report("transport", figures, tuple(targets))


def _beside(name: str, sources: Pixels, copied_cpu_us: float) -> dict[str, float]:
    """Measure ZeroMQ's ipc with and without its copies, and the way to other machines, open and encrypted."""
    figures: dict[str, float] = {}
    for copy in (True, False):
        with _Ipc(sources, copy=copy) as ipc:
            per_s, each_us = ipc.measure()
        way = "ipc_copy" if copy else "ipc_no_copy"
        figures[f"{way}_{name}_frames_per_s"], figures[f"{way}_{name}_cpu_us"] = per_s, each_us
        figures[f"cpu_copied_over_{way}_{name}"] = copied_cpu_us / each_us
    rates: dict[Way, list[float]] = {"tcp": [], "curve": []}
    with _Handover(sources, "tcp") as tcp, _Handover(sources, "curve") as curve:
        for _ in range(3):
            for way, handover in (("tcp", tcp), ("curve", curve)):
                rates[way].append(handover.measure(way)[0])  # type: ignore[index,arg-type]  # a literal, through a tuple
    figures[f"tcp_{name}_frames_per_s"] = median(rates["tcp"])
    figures[f"curve_{name}_frames_per_s"] = median(rates["curve"])
    pairs = zip(rates["tcp"], rates["curve"], strict=True)
    figures[f"curve_costs_{name}"] = median(open_ / encrypted for open_, encrypted in pairs)
    return figures


def _pictures(shape: Shape) -> Pixels:
    """Return different pixels for each slot, none of them in pages that share memory."""
    noise = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    return np.stack([noise + np.uint8(number) for number in range(_SLOTS)])


def _copies_per_s(sources: Pixels, target: Pixels) -> float:
    """Return copies from a camera's memory to a buffer, as a hand-over that shares no memory must at least do."""
    np.copyto(target, sources)
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < _ROUND_S:
        np.copyto(target[count % _SLOTS], sources[count % _SLOTS])
        count += 1
    return count / took


def _cpu_ns(pid: int) -> int:
    """Return the processor time of a process, all its threads together (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~pid << 3) | 2)


class _Reading:
    """Another process that reads."""

    def __init__(self, target: object, *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]  # a function
        self._process.start()

    def cpu_ns(self) -> int:
        return _cpu_ns(self._process.pid or 0) + time.process_time_ns()

    def end(self) -> None:
        self._process.kill()
        self._process.join()


class _Handover:
    """A writer here and a reader in another process, joined as grabber and worker are."""

    def __init__(self, sources: Pixels, way: Way = "copied") -> None:
        self._sources = sources
        self._shape: Shape = sources.shape[1:]
        self._way = way
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self._answered = 0
        self._worker = b""

    def __enter__(self) -> Self:
        folder = Path(self._folder.name)
        keys = Keys.make(folder / "keys") if self._way == "curve" else None
        self._bus = Bus(keys)
        local = self._way not in {"tcp", "curve"}
        endpoint = f"ipc://{folder}/lane.sock" if local else "tcp://127.0.0.1:*"
        self._ring = RingWriter(folder / "ring", _SLOTS, self._sources[0].nbytes)
        self._giver = Giver(self._bus, [endpoint], self._handle, lambda _peer: None, Counter())
        self._poller = zmq.Poller()
        for source in self._giver.sources:
            self._poller.register(source, zmq.POLLIN)
            if isinstance(source, zmq.Socket):
                endpoint = source.getsockopt_string(zmq.LAST_ENDPOINT)
        self._reader = _Reading(_read, folder, endpoint, self._shape, keys)
        ends = time.monotonic() + _READY_S
        while not self._worker:
            self._receive()
            if time.monotonic() > ends:
                raise ServiceError("the reading process did not come up within 30 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.end()
        self._giver.close()
        self._bus.close()
        self._ring.close()
        self._folder.cleanup()

    def measure(self, way: Way) -> tuple[float, float]:
        """Return frames per second, and microseconds of processor time for each."""
        # every page has been touched, and a slot that the camera fills is full
        self._give(range(_SLOTS), "tcp" if way in {"tcp", "curve"} else "copied")
        self._await(_SLOTS)
        self._answered = sent = 0
        cpu_ns, began = self._reader.cpu_ns(), time.perf_counter()
        while (took := time.perf_counter() - began) < _ROUND_S:
            room = _IN_FLIGHT - (sent - self._answered)
            self._give(range(sent, sent + room), way)
            sent += room
            self._receive()
        done, used_ns = self._answered, self._reader.cpu_ns() - cpu_ns
        self._await(sent)
        self._answered = 0
        return done / took, used_ns / done / 1e3

    def _await(self, count: int) -> None:
        while self._answered < count:
            self._receive()

    def _receive(self) -> None:
        for source, _ in self._poller.poll(_REST_MS):
            self._giver.sources[source]()

    def _handle(self, message: AnyMessage, _payload: list[Buffer], peer: bytes) -> None:
        if isinstance(message, Credit):
            self._worker = peer
        elif isinstance(message, Answered):
            self._answered += len(message.frame_ids)

    def _give(self, numbers: range, way: Way) -> None:
        """Hand over all that there is credit for."""
        if way in {"tcp", "curve"}:
            payloads = [[self._sources[number % _SLOTS].data.cast("B")] for number in numbers]
            frames = [self._frame(number, None) for number in numbers]
            sent = all(self._giver.send(self._worker, *both) for both in zip(frames, payloads, strict=True))
        else:
            halves = [numbers[start : start + _TOGETHER] for start in range(0, len(numbers), _TOGETHER)]
            sent = all(self._give_slots(half, way) for half in halves)
        if not sent:
            raise ServiceError("the reading process is gone")

    def _give_slots(self, numbers: range, way: Way) -> bool:
        slots = [self._slot(number % _SLOTS, way) for number in numbers]
        frames = [self._frame(number, slot) for number, slot in zip(numbers, slots, strict=True)]
        return self._giver.send_all(self._worker, frames)

    def _slot(self, index: int, way: Way) -> Slot:
        if way == "copied":
            return self._ring.write(index, self._sources[index])
        self._ring.begin(index, self._shape)
        return self._ring.commit(index)

    def _frame(self, number: int, slot: Slot | None) -> Frame:
        return Frame(
            frame_id=str(number),
            part_id=str(number),
            camera="c",
            recipe="r",
            shape=self._shape,
            pixel_format=PixelFormat.of(self._shape[2]),
            trigger_ns=0,
            deadline_ns=0,
            slot=slot,
        )


class _Tensor:
    """The reader's look at what comes: the array that inference takes, never another copy of it."""

    def __init__(self, ring: RingReader, shape: Shape) -> None:
        self._ring = ring
        self._shape = shape
        self.answered: list[str] = []

    def take(self, frame: AnyMessage, payload: list[Buffer], _peer: bytes) -> None:
        if not isinstance(frame, Frame):
            return
        if payload:
            found: Pixels | None = np.frombuffer(payload[0], np.uint8).reshape(1, *self._shape)
        else:
            found = self._ring.views([frame.slot], self._shape) if frame.slot else None
        if found is not None and (frame.slot is None or self._ring.holds(frame.slot)):
            self.answered.append(frame.frame_id)


def _read(folder: Path, endpoint: str, shape: Shape, keys: Keys | None) -> None:
    """Answer frames in another process, each as the array that inference takes."""
    tensor = _Tensor(RingReader(folder / "ring"), shape)
    taker = Taker(Bus(keys), endpoint, "reader", tensor.take, Counter())
    poller = zmq.Poller()
    for source in taker.sources:
        poller.register(source, zmq.POLLIN)
    while not taker.send(Credit(worker="reader", capacity=_IN_FLIGHT, shares_memory=taker.shares_memory)):
        poller.poll(10)
    while True:
        for source, _ in poller.poll():
            taker.sources[source]()
        if tensor.answered:
            taker.send(Answered(frame_ids=tuple(tensor.answered)))
            tensor.answered.clear()


class _Ipc:
    """ZeroMQ alone: pixels as messages, no header, the shortest of answers."""

    def __init__(self, sources: Pixels, *, copy: bool) -> None:
        self._sources = sources
        self._copy = copy
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self._bus = Bus()

    def __enter__(self) -> Self:
        self._socket = self._bus.bind(zmq.DEALER, f"ipc://{self._folder.name}/s")
        self._reader = _Reading(_read_ipc, f"ipc://{self._folder.name}/s", self._copy)
        if not self._socket.poll(int(_READY_S * 1e3), zmq.POLLOUT):
            raise ServiceError("the reading process did not come up within 30 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.end()
        self._bus.close()
        self._folder.cleanup()

    def measure(self) -> tuple[float, float]:
        """Return frames per second, and microseconds of processor time for each."""
        self._give(0)
        self._socket.recv()
        sent = answered = 0
        cpu_ns, began = self._reader.cpu_ns(), time.perf_counter()
        while (took := time.perf_counter() - began) < 2 * _ROUND_S:
            while sent - answered < _IN_FLIGHT:
                self._give(sent)
                sent += 1
            self._socket.recv()
            answered += 1
        return answered / took, (self._reader.cpu_ns() - cpu_ns) / answered / 1e3

    def _give(self, number: int) -> None:
        self._socket.send(self._sources[number % _SLOTS].data, copy=self._copy)


def _read_ipc(endpoint: str, copy: bool) -> None:  # noqa: FBT001 - what multiprocessing passes has no names
    socket = Bus().connect(zmq.DEALER, endpoint)
    while True:
        image = np.frombuffer(socket.recv() if copy else socket.recv(copy=False).buffer, np.uint8)
        socket.send(b"1" if image.size else b"")
