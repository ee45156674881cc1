"""Hand-over of frames from one process to another, beside one memcpy of the same pixels."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np
import zmq

from config.bus import Bus, send
from config.errors import ServiceError
from config.messages import Answered, Frame, decode
from config.ring import RingReader, RingWriter
from deploy.bench.report import Report, Target

_SHAPES = {
    "0.3mp_mono": (480, 640, 1),
    "0.3mp_colour": (480, 640, 3),
    "5mp_mono": (2048, 2448, 1),
    "5mp_colour": (2048, 2448, 3),
}
_ROUNDS = 5
_ROUND_S = 0.4
_SLOTS = 8
_IN_FLIGHT = 4
_READY_MS = 30_000


def run() -> Report:
    """Measure frames per second handed over against copies per second, in turns."""
    figures: dict[str, float] = {}
    targets = []
    for name, shape in _SHAPES.items():
        copies, frames = [], []
        with _Handover(shape) as handover:
            for _ in range(_ROUNDS):
                copies.append(_copies_per_s(shape))
                frames.append(handover.frames_per_s())
        figures[f"memcpy_{name}_per_s"] = median(copies)
        figures[f"handover_{name}_frames_per_s"] = median(frames)
        ratio = f"handover_over_memcpy_{name}"
        figures[ratio] = median(copy / frame for copy, frame in zip(copies, frames, strict=True))
        targets.append(Target(ratio, 2.0, at_least=False))
    figures["handover_over_memcpy"] = max(figures[target.figure] for target in targets)
    return Report("transport", figures, tuple(targets))


def _copies_per_s(shape: tuple[int, int, int]) -> float:
    """Return copies from fresh pixels to a buffer, as a camera's hand-over must at least do."""
    sources = [np.random.default_rng(number).integers(0, 255, shape, np.uint8) for number in range(_SLOTS)]
    target = np.empty((_SLOTS, *shape), np.uint8)
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < _ROUND_S:
        np.copyto(target[count % _SLOTS], sources[count % _SLOTS])
        count += 1
    return count / took


class _Handover:
    """A writer here and a reader in another process, joined as grabber and worker are."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self._bus = Bus()

    def __enter__(self) -> Self:
        folder = Path(self._folder.name)
        self._ring = RingWriter(folder / "ring", _SLOTS, int(np.prod(self._shape)))
        self._socket = self._bus.bind(zmq.DEALER, f"ipc://{folder}/frames.sock")
        context = multiprocessing.get_context("spawn")
        self._reader = context.Process(target=_read, args=(self._folder.name, self._shape), daemon=True)
        self._reader.start()
        if not self._socket.poll(_READY_MS, zmq.POLLOUT):
            raise ServiceError("the reading process did not come up within 30 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.kill()
        self._reader.join()
        self._bus.close()
        self._ring.close()
        self._folder.cleanup()

    def frames_per_s(self) -> float:
        sources = [np.random.default_rng(number).integers(0, 255, self._shape, np.uint8) for number in range(_SLOTS)]
        for number in range(_SLOTS):  # the reader is there and every page has been touched
            self._give(number, sources)
            self._socket.recv_multipart()
        sent = answered = 0
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < _ROUND_S:
            while sent - answered < _IN_FLIGHT:
                self._give(sent, sources)
                sent += 1
            self._socket.recv_multipart()
            answered += 1
        for _ in range(sent - answered):
            self._socket.recv_multipart()
        return answered / took

    def _give(self, number: int, sources: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> None:
        slot = self._ring.write(number % _SLOTS, sources[number % _SLOTS])
        frame = Frame(
            frame_id=str(number),
            part_id=str(number),
            camera="c",
            recipe="r",
            shape=self._shape,
            trigger_ns=0,
            deadline_ns=0,
            slot=slot,
        )
        send(self._socket, frame)


def _read(folder: str, shape: tuple[int, int, int]) -> None:
    """Answer frames in another process, each copied into the array that inference takes."""
    bus = Bus()
    socket = bus.connect(zmq.DEALER, f"ipc://{folder}/frames.sock")
    ring = RingReader(Path(folder) / "ring")
    images = np.empty((_SLOTS, *shape), np.uint8)
    number = 0
    while True:
        frame, _ = decode(socket.recv_multipart())
        if isinstance(frame, Frame) and frame.slot and ring.read(frame.slot, images[number % _SLOTS]):
            send(socket, Answered(frame_ids=(frame.frame_id,)))
        number += 1
