"""The worker: frames of all cameras to predictions, in batches of whatever waits when it becomes free.

    grabbers --Frame--> worker --Prediction--> decision
        └--Answered, Credit--┘

No timer adds latency at low load and batches grow by themselves at high load: a batch is the largest bucket that the
waiting frames of one bundle and size fill, those with the nearest deadline first.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import zmq

from config import bus
from config.errors import BundleError, ConfigurationError, InputError, StoreError
from config.log import Condition, logger
from config.messages import Answered, AnyMessage, Credit, Frame, Loss, Prediction, Reason
from config.ring import RingReader
from config.service import Service
from inference.bundle import Bundle
from inference.engine import Engine

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from config.home import Home
    from inference.keys import TrustStore

    Pixels = npt.NDArray[np.uint8]

_CREDIT_NS = 200_000_000


@dataclass(frozen=True)
class _Waiting:
    frame: Frame
    pixels: bytes | None
    received_ns: int


class Worker(Service):
    """The service of one accelerator, or of some threads of the CPU."""

    def __init__(self, home: Home, number: int, trust: TrustStore) -> None:
        super().__init__(f"worker-{number}", home)
        self._station = home.read_station()
        self._trust = trust
        self._buckets = self._station.workers.buckets
        self._engines: dict[tuple[str, str], Engine] = {}  # by recipe and camera
        self._queues: dict[tuple[int, tuple[int, int, int]], deque[_Waiting]] = {}  # by engine and frame shape
        self._rings: dict[str, RingReader] = {}
        self._credit_due_ns = 0
        self._expired = Condition("expired_frame", self.counters)
        self._stale = Condition("stale_frame", self.counters)
        self._refused = Condition("refused_frame", self.counters)

    def open(self) -> None:
        """Load, prove and warm every bundle, then ask for frames."""
        engines: dict[Path, Engine] = {}
        for name, recipe in self._station.read_recipes().items():
            for camera, view in recipe.views.items():
                if view.bundle not in engines:
                    engines[view.bundle] = self._load(view.bundle)
                self._engines[name, camera] = engines[view.bundle]
        self._predictions = self.bus.connect(zmq.PUSH, self.home.endpoint("predictions"))
        self._cameras: dict[str, bus.Socket] = {}
        for section in self._station.cameras:
            identity = f"{self.name}.{os.getpid()}"
            socket = self.bus.connect(zmq.DEALER, self.home.endpoint(f"camera.{section.name}"), identity)
            self._cameras[section.name] = socket
            self.watch(socket, bus.Receiver(socket, self._receive, self.counters))

    def tick(self, now_ns: int) -> None:
        """Grant credit and run the most urgent batch."""
        if now_ns >= self._credit_due_ns:
            self._credit_due_ns = now_ns + _CREDIT_NS
            for camera, socket in self._cameras.items():
                local = self.home.endpoint(f"camera.{camera}").startswith("ipc://")
                bus.send(socket, Credit(worker=self.name, capacity=self._buckets[-1], shares_memory=local))
        key = min(
            (key for key, queue in self._queues.items() if queue),
            key=lambda key: self._queues[key][0].frame.deadline_ns,
            default=None,
        )
        if key is not None:
            self._run(key)

    def next_ns(self) -> int | None:
        """Go round again at once while frames wait."""
        return 0 if any(self._queues.values()) else None

    def _load(self, path: Path) -> Engine:
        started_ns = time.monotonic_ns()
        try:
            bundle = Bundle.open(path, self._trust)
            engine = Engine(bundle, threads=self._station.workers.threads, device=self._station.workers.device)
            engine.check_golden()
        except BundleError as error:
            raise ConfigurationError(str(error)) from error  # starting again would not mend the file
        engine.warm(self._buckets)
        took_s = (time.monotonic_ns() - started_ns) / 1e9
        logger().info("bundle loaded", bundle=path.name, digest=bundle.digest, took_s=round(took_s, 3))
        return engine

    def _receive(self, message: AnyMessage, payload: list[bytes], _peer: bytes) -> None:
        if not isinstance(message, Frame):
            return
        self.counters["frames"] += 1
        engine = self._engines.get((message.recipe, message.camera))
        if engine is None:
            self._refuse(
                [message], Reason.UNKNOWN_RECIPE, f"no recipe {message.recipe!r} for camera {message.camera!r}"
            )
            return
        waiting = _Waiting(message, payload[0] if payload else None, time.monotonic_ns())
        self._queues.setdefault((id(engine), message.shape), deque()).append(waiting)

    def _run(self, key: tuple[int, tuple[int, int, int]]) -> None:
        queue = self._queues[key]
        size = max(bucket for bucket in self._buckets if bucket <= len(queue))
        batch = [queue.popleft() for _ in range(size)]
        if not queue:
            del self._queues[key]  # frames of this size may never come again
        engine = self._engines[batch[0].frame.recipe, batch[0].frame.camera]
        images, batch = self._gather(batch, key[1])
        if not batch:
            return
        frames = [waiting.frame for waiting in batch]
        started_ns = time.monotonic_ns()
        try:
            scores, maps = engine.infer(images)
        except InputError as error:
            self._refuse(frames, Reason.WRONG_FRAME, str(error))
            return
        finished_ns = time.monotonic_ns()
        self.counters["batches"] += 1
        for waiting, score, anomaly_map in zip(batch, scores, maps, strict=True):
            frame = waiting.frame
            prediction = Prediction(
                frame_id=frame.frame_id,
                part_id=frame.part_id,
                camera=frame.camera,
                score=float(score),
                map_shape=anomaly_map.shape,
                frame_shape=frame.shape,
                bundle_digest=engine.digest,
                worker=self.name,
                batch_size=len(batch),
                received_ns=waiting.received_ns,
                started_ns=started_ns,
                finished_ns=finished_ns,
            )
            bus.send(self._predictions, prediction, [np.ascontiguousarray(anomaly_map, np.float32).tobytes()])
        self.counters["predictions"] += len(batch)
        self._answer(frames)

    def _gather(self, batch: list[_Waiting], shape: tuple[int, int, int]) -> tuple[Pixels, list[_Waiting]]:
        """Copy the pixels of those frames that still can be judged in time into one array `(N, H, W, C)`."""
        images = np.empty((len(batch), *shape), np.uint8)
        kept: list[_Waiting] = []
        passed: list[Frame] = []
        now_ns = time.monotonic_ns()
        for waiting in batch:
            if waiting.frame.deadline_ns <= now_ns:
                self._expired.occur(frame_id=waiting.frame.frame_id)
                passed.append(waiting.frame)
            elif not self._read(waiting, images[len(kept)]):
                self._stale.occur(frame_id=waiting.frame.frame_id)
                passed.append(waiting.frame)
            else:
                kept.append(waiting)
        if not passed:
            self._expired.end()
            self._stale.end()
        self._answer(passed)
        return images[: len(kept)], kept

    def _read(self, waiting: _Waiting, out: Pixels) -> bool:
        frame = waiting.frame
        if waiting.pixels is not None:
            if len(waiting.pixels) != out.nbytes:
                return False
            out[...] = np.frombuffer(waiting.pixels, np.uint8).reshape(out.shape)
            return True
        if frame.slot is None:
            return False
        ring = self._rings.get(frame.camera)
        if ring is None or ring.name != frame.slot.ring:
            try:
                ring = self._rings[frame.camera] = RingReader(self.home.runtime / frame.slot.ring)
            except StoreError:
                return False
        return ring.read(frame.slot, out)

    def _refuse(self, frames: list[Frame], reason: Reason, why: str) -> None:
        for frame in frames:
            self._refused.occur(frame_id=frame.frame_id, why=why)
            bus.send(self._predictions, Loss(part_id=frame.part_id, camera=frame.camera, reason=reason))
        self._answer(frames)

    def _answer(self, frames: list[Frame]) -> None:
        for camera in {frame.camera for frame in frames}:
            ids = tuple(frame.frame_id for frame in frames if frame.camera == camera)
            bus.send(self._cameras[camera], Answered(frame_ids=ids))
