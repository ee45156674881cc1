"""The worker: frames of all cameras to predictions, in batches of whatever waits when it becomes free.

    grabbers --Frame--> worker --Predictions, Loss--> decision
        └--Answered, Credit--┘

No timer adds latency at low load and batches grow by themselves at high load. Which frames go next, in how large a
batch, and which can no longer be judged in time is told by `batching.py`, from what warming up has measured.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from config import bus
from config.errors import BundleError, ConfigurationError, InputError
from config.handover import Outlet, Taker
from config.log import Condition, logger
from config.messages import (
    Answered,
    AnyMessage,
    Buffer,
    Bundles,
    Credit,
    Frame,
    Holding,
    Loss,
    Prediction,
    Predictions,
    Reason,
)
from config.messages import Clock as TheirClock
from config.service import Service
from inference.appearance import Looks, appearance
from inference.batching import Batch, Batcher, Costs
from inference.bundle import Bundle
from inference.clock import Clock
from inference.engine import Engine
from inference.inputs import Inputs
from inference.keys import TrustStore
from inference.memory import FrameMemory
from inference.opening import Loaded, Opening

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from config.home import Home

    Pixels = npt.NDArray[np.uint8]

_CREDIT_NS = 200_000_000
_HANDOVER_NS = 3_000_000  # before the deadline: decision judges 2 ms before it, and the way there takes less than 1 ms
_ROUNDS = 5  # at most, in which is measured what a bundle's batches take;
_MEASURED_NS = 100_000_000  # after so long there is no other: a hundred bundles would wait for each other
_SHED_NS = 1_000_000_000  # without a frame given up: the condition has ended


@dataclass(frozen=True)
class _Waiting:
    frame: Frame
    engine: Engine
    pixels: Buffer | None
    received_ns: int
    offset_ns: int  # of the grabber's clock; what is told of times is told by it


class Worker(Service):
    """The service of one accelerator, or of some threads of the CPU."""

    def __init__(self, home: Home, name: str, trusted: Sequence[Path]) -> None:
        """Name the worker as no other of the station is, whatever its machine, and public keys to trust besides."""
        super().__init__(name, home)
        self._station = home.read_station()
        self._trusted = trusted
        self._buckets = self._station.workers.buckets
        self._engines: dict[str, Loaded] = {}  # by digest
        self._paths: dict[str, Path] = {}  # by digest: where its own files have them
        self._bundles: dict[tuple[str, str], str] = {}  # by recipe and camera, as it began: for frames that name none
        self._unpinned: set[str] = set()  # which are therefore never closed
        self._wanted: Bundles | None = None
        self._opening = Opening(self._load)
        self._products: dict[str, str] = {}  # by recipe
        self._looks = Looks(name, self._station.station)
        device = self._station.workers.device
        self._inputs = Inputs(home.runtime, FrameMemory(device), in_place=device.endswith("cpu"))
        self._batcher: Batcher[_Waiting] = Batcher()
        self._costs: dict[tuple[str, tuple[int, int, int]], Costs] = {}  # by bundle and frame shape
        self._clocks: dict[str, Clock] = {}  # of cameras' machines; none of this one
        self._credit_due_ns = 0
        self._shed = Condition("shed_frame", self.counters)
        self._shed_ns = 0
        self._stale = Condition("stale_frame", self.counters)
        self._refused = Condition("refused_frame", self.counters)

    def open(self) -> None:
        """Load, prove and warm every bundle, then ask for frames."""
        engines: dict[Path, Loaded] = {}
        for name, recipe in self.home.read_recipes().items():
            self._products[name] = recipe.product
            for camera, view in recipe.views.items():
                if view.bundle not in engines:
                    try:
                        engines[view.bundle] = self._load(view.bundle)
                    except BundleError as error:
                        raise ConfigurationError(str(error)) from error  # starting again would not mend the file
                digest = engines[view.bundle].engine.digest
                self._engines[digest], self._paths[digest] = engines[view.bundle], view.bundle
                self._bundles[name, camera] = digest
                if view.bundle_digest is None:
                    self._unpinned.add(digest)
        self.watch(self._opening.fileno(), self._opened)
        self._predictions = Outlet(self.bus, self.home.endpoint("predictions"), self.counters)
        for source, receive in self._predictions.sources.items():
            self.watch(source, receive)
        self._cameras: dict[str, Taker] = {}
        for section in self._station.cameras:
            identity, endpoint = f"{self.name}.{os.getpid()}", self.home.endpoint(f"camera.{section.name}")
            taker = Taker(self.bus, endpoint, identity, partial(self._receive, section.name), self.counters)
            self._cameras[section.name] = taker
            if not taker.shares_memory:
                self._clocks[section.name] = Clock()
            for source, receive in taker.sources.items():
                self.watch(source, receive)

    def tick(self, now_ns: int) -> None:
        """Run the most urgent batch, then grant credit."""
        self.counters["frames_waiting"] = len(self._batcher)
        if len(self._batcher):
            batch, given_up = self._batcher.take(now_ns)
            self._give_up(given_up, now_ns)
            if batch is not None:
                self._run(batch)
        self._tell_looks(now_ns)
        if now_ns >= self._credit_due_ns:
            self._credit_due_ns = now_ns + _CREDIT_NS
            self._grant()

    def close(self) -> None:
        """Tell what was seen since it was told last."""
        self._tell_looks(time.monotonic_ns(), at_once=True)

    def next_ns(self) -> int | None:
        """Go round again at once while frames wait."""
        return 0 if len(self._batcher) else None

    def _grant(self) -> None:
        """Tell each camera what this worker takes."""
        self.counters["credit"] = max(0, self._buckets[-1] * len(self._cameras) - len(self._batcher))
        if self._wanted:  # a camera has said that decision wants to know
            self._tell_bundles()
        bundles = tuple(self._engines)
        for camera, taker in self._cameras.items():
            known = camera not in self._clocks or self._clocks[camera].offset_ns is not None
            credit = Credit(
                worker=self.name,
                capacity=self._buckets[-1] if known else 0,  # without its clock no deadline means anything
                shares_memory=taker.shares_memory,
                bundles=bundles,
                sent_ns=time.monotonic_ns(),
            )
            taker.send(credit)

    def _load(self, path: Path) -> Loaded:
        started_ns = time.monotonic_ns()
        bundle = Bundle.open(path, TrustStore.load(extra=self._trusted))  # a station's own key is made at its first fit
        section = self._station.workers
        engine = Engine(
            bundle,
            section.threads,
            section.device,
            section.precision,
            largest_batch=self._buckets[-1],
            cache=self.home.path / "plans",
        )
        engine.check_golden()
        engine.warm(self._buckets)
        costs = Costs(_measured_ns(engine, self._buckets))
        took_s = (time.monotonic_ns() - started_ns) / 1e9
        each_ms = {bucket: round(costs.of(bucket) / bucket / 1e6, 2) for bucket in self._buckets}
        said = {"bundle": path.name, "digest": bundle.digest, "took_s": round(took_s, 3)}
        logger().info("bundle loaded", **said, ms_for_each_frame_of_a_batch=each_ms)
        return Loaded(engine, costs)

    def _receive(self, camera: str, message: AnyMessage, payload: list[Buffer], _peer: bytes) -> None:
        if isinstance(message, TheirClock):
            self._clocks[camera].answer(message.asked_ns, message.now_ns, time.monotonic_ns())
        if isinstance(message, Bundles):
            self._hold(message)
        if not isinstance(message, Frame):
            return
        self.counters["frames"] += 1
        digest = self._bundles.get((message.recipe, message.camera))
        if digest is None:
            self._refuse(
                [message], Reason.UNKNOWN_RECIPE, f"no recipe {message.recipe!r} for camera {message.camera!r}"
            )
            return
        loaded = self._engines.get(message.bundle or digest)
        if loaded is None:
            self._refuse([message], Reason.WRONG_BUNDLE, f"bundle {message.bundle or digest} is not open")
            return
        wanted = loaded.engine.bundle.manifest.pixel_format
        if message.pixel_format is not wanted:
            self._refuse([message], Reason.WRONG_FRAME, f"pixels are {message.pixel_format}, and {wanted} was trained")
            return
        now_ns = time.monotonic_ns()
        key = loaded.engine.digest, message.shape
        costs = self._costs.get(key) or self._costs.setdefault(key, loaded.costs.anew())
        offset_ns = (self._clocks[camera].offset_ns or 0) if camera in self._clocks else 0
        waiting = _Waiting(message, loaded.engine, payload[0] if payload else None, now_ns, offset_ns)
        deadline_ns = message.deadline_ns - offset_ns - _HANDOVER_NS
        self._batcher.put(key, costs, message.camera, deadline_ns, now_ns, waiting)

    def _hold(self, wanted: Bundles) -> None:
        """Open what is wanted, one after the other, and close what is wanted no more."""
        if self._wanted and (wanted.epoch, wanted.revision) <= (self._wanted.epoch, self._wanted.revision):
            return
        self._wanted = wanted
        self._opening.forget()
        for digest in self._engines.keys() - {*wanted.wanted, *self._unpinned}:
            del self._engines[digest]
            self._costs = {key: costs for key, costs in self._costs.items() if key[0] != digest}
            self.counters["bundles_closed"] += 1
            logger().info("bundle closed", digest=digest)
        self._open_next()

    def _open_next(self) -> None:
        """Begin to open a bundle that is wanted, unless one is being opened."""
        for digest in self._wanted.wanted if self._wanted else ():
            if digest not in self._engines and digest not in self._opening.refused and not self._opening.digest:
                self._opening.begin(digest, self._paths.get(digest) or self.home.bundle(digest))
        self._tell_bundles()

    def _opened(self) -> None:
        """Take a bundle that was opened beside the line."""
        for loaded in self._opening.news():
            digest = loaded.engine.digest
            if self._wanted and digest in self._wanted.wanted:
                self._engines[digest] = loaded
                self.counters["bundles_opened"] += 1
        self._open_next()

    def _tell_bundles(self) -> None:
        refused = self._opening.refused
        self._predictions.send(
            Holding(
                worker=self.name,
                pid=os.getpid(),
                bundles=tuple(self._engines),
                opening=self._opening.digest,
                refused=refused,
            )
        )
        self.detail = "; ".join(refused.values())
        self.state = "DEGRADED" if refused else "READY"

    def _give_up(self, waiting: Sequence[_Waiting], now_ns: int) -> None:
        """Tell decision at once of frames that cannot be judged in time any more."""
        if not waiting:
            if now_ns - self._shed_ns > _SHED_NS:
                self._shed.end()
            return
        self._shed_ns = now_ns
        for one in waiting:
            self._shed.occur(frame_id=one.frame.frame_id)
            loss = Loss(part_id=one.frame.part_id, camera=one.frame.camera, reason=Reason.LATE)
            self._predictions.send(loss)
        self._answer([one.frame for one in waiting])

    def _run(self, chosen: Batch[_Waiting]) -> None:
        engine, shape = chosen.items[0].engine, chosen.items[0].frame.shape
        images, batch = self._gather(chosen, shape)
        if not batch:
            return
        frames = [waiting.frame for waiting in batch]
        started_ns = time.monotonic_ns()
        try:
            scores, maps = engine.run(images)
        except InputError as error:
            self._refuse(frames, Reason.WRONG_FRAME, str(error))
            return
        finished_ns = time.monotonic_ns()
        # the frames that were whole to the end: a batch may also be filled up with what is no frame
        whole = [number for number, waiting in enumerate(batch) if self._inputs.whole(waiting.frame)]
        each = [
            Prediction(
                frame_id=waiting.frame.frame_id,
                part_id=waiting.frame.part_id,
                camera=waiting.frame.camera,
                score=float(scores[number]),
                map_shape=maps.shape[1:],
                frame_shape=shape,
                bundle_digest=engine.digest,
                worker=self.name,
                batch_size=len(batch),
                received_ns=waiting.received_ns + waiting.offset_ns,
                started_ns=started_ns + waiting.offset_ns,
                finished_ns=finished_ns + waiting.offset_ns,
            )
            for number, waiting in ((number, batch[number]) for number in whole)
        ]
        if each:
            kept = maps if len(whole) == len(maps) else maps[whole]
            self._predictions.send(Predictions(each=tuple(each)), kept.tobytes())
        if (engine.digest, shape) in self._costs:  # else it was closed meanwhile
            self._costs[engine.digest, shape].ran(len(images), finished_ns - started_ns)
        self.counters["batches"] += 1
        if len(whole) < len(batch):
            self._stale.occur(frames=len(batch) - len(whole))
        elif len(batch) == len(chosen.items):
            self._stale.end()
        self.counters["predictions"] += len(each)
        self._look([(frames[number], images[number]) for number in whole])
        self._answer(frames)

    def _look(self, predicted: Sequence[tuple[Frame, Pixels]]) -> None:
        """Measure an image of each camera now and then, before it is answered: then its pixels may be gone."""
        for frame, pixels in predicted:
            now_ns = time.monotonic_ns()
            if self._looks.due(frame.camera, now_ns):
                seen = appearance(pixels, frame.pixel_format)
                if self._inputs.whole(frame):
                    self._looks.take(frame.camera, self._products[frame.recipe], seen, now_ns)

    def _tell_looks(self, now_ns: int, *, at_once: bool = False) -> None:
        for message in self._looks.tell(now_ns, time.time_ns(), at_once=at_once):
            if not bus.send(self._health, message):
                self.counters["appearance_lost"] += message.frames

    def _gather(self, chosen: Batch[_Waiting], shape: tuple[int, int, int]) -> tuple[Pixels, list[_Waiting]]:
        """Return one array `(N, H, W, C)`, N a bucket, and the frames that it begins with."""
        arrived = [(waiting.frame, waiting.pixels) for waiting in chosen.items]
        images, there = self._inputs.gather(arrived, chosen.bucket, shape)
        stale = [waiting.frame for waiting, is_there in zip(chosen.items, there, strict=True) if not is_there]
        for frame in stale:
            self._stale.occur(frame_id=frame.frame_id)
        self._answer(stale)
        kept = [waiting for waiting, is_there in zip(chosen.items, there, strict=True) if is_there]
        bucket = next(bucket for bucket in self._buckets if bucket >= len(kept))
        return images[:bucket], kept

    def _refuse(self, frames: list[Frame], reason: Reason, why: str) -> None:
        for frame in frames:
            self._refused.occur(frame_id=frame.frame_id, why=why)
            self._predictions.send(Loss(part_id=frame.part_id, camera=frame.camera, reason=reason))
        self._answer(frames)

    def _answer(self, frames: list[Frame]) -> None:
        for camera in {frame.camera for frame in frames}:
            ids = tuple(frame.frame_id for frame in frames if frame.camera == camera)
            self._cameras[camera].send(Answered(frame_ids=ids))


def _measured_ns(engine: Engine, buckets: Sequence[int]) -> dict[int, int]:
    """Return what a batch of each bucket takes: the least of several rounds, in turns, so that all meet the same."""
    manifest = engine.bundle.manifest
    images = np.zeros((buckets[-1], manifest.frame_height_px, manifest.frame_width_px, engine.channels), np.uint8)
    least_ns = dict.fromkeys(buckets, sys.maxsize)
    ends_ns = time.monotonic_ns() + _MEASURED_NS
    for _ in range(_ROUNDS):
        for bucket in buckets:
            began_ns = time.monotonic_ns()
            engine.run(images[:bucket])
            least_ns[bucket] = min(least_ns[bucket], time.monotonic_ns() - began_ns)
        if time.monotonic_ns() > ends_ns:
            break
    return least_ns
