"""What the station adds to the bare session: at saturation in throughput, at half load in time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median, mode
from typing import TYPE_CHECKING, Self

import numpy as np
import zmq

from config import bus
from config.errors import ServiceError
from config.handover import Giver, Inlet
from config.home import Home, Run
from config.messages import Answered, AnyMessage, Buffer, Credit, Frame, PixelFormat, Predictions
from config.ring import RingWriter
from deploy import stations
from deploy.bench import halfload
from deploy.bench.report import Report, Target
from inference.bundle import Bundle
from inference.engine import Engine
from inference.keys import TrustStore

if TYPE_CHECKING:
    import numpy.typing as npt

_ROUNDS = 5
_ROUND_S = 1.5
_SLOTS = 32
_BATCH = 8


def run() -> Report:
    """Measure a worker at saturation and its session alone in turns; then a station at half load."""
    bare: list[float] = []
    largest: list[float] = []
    whole: list[float] = []
    with _Line() as line:
        for _ in range(_ROUNDS):
            whole.append(line.predictions_per_s())
            bare.append(line.session_per_s(line.usual_batch))
            largest.append(line.session_per_s(_BATCH))
    figures = {
        f"session_images_per_s_at_batch_{_BATCH}": median(largest),
        "session_images_per_s": median(bare),
        "worker_predictions_per_s": median(whole),
        "throughput_ratio": median(one / other for one, other in zip(whole, bare, strict=True)),
        "throughput_rounds": len(bare),
        "usual_batch": line.usual_batch,
    }
    told, times_ms = halfload.measure()
    figures |= told
    targets = (
        Target("throughput_ratio", 0.95, at_least=True),
        Target("overhead_p50_ms", 1.0, at_least=False),
        Target("overhead_p99_ms", 3.0, at_least=False),
    )
    return Report("pipeline", figures, targets, samples_ms=times_ms)


class _Line:
    """A worker process between a camera's end and decision's end of the bus, both held here."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        home = Home(Path(self._folder.name) / "home")
        home.make()
        station = stations.read(None)
        self._recipe = station.recipe
        only = {self._recipe: station.recipes[self._recipe]}
        home.write_station(station.model_copy(update={"recipes": only, "simulation": None}))
        home.write_run(Run(run_id="bench"))
        view = next(iter(station.read_recipes()[self._recipe].views.items()))
        self._camera = view[0]
        bundle = Bundle.open(view[1].bundle, TrustStore.load(extra=stations.DEMO_KEYS))
        self._engine = Engine(bundle)
        self._frames = self._pictures(bundle)
        self._engine.warm((1, 2, 4, _BATCH))
        self._bus = bus.Bus()
        addresses = home.addresses(f"camera.{self._camera}")
        self._giver = Giver(self._bus, addresses, self._from_worker, lambda _peer: None, Counter())
        self._inlet = Inlet(self._bus, home.addresses("predictions"), self._predicted, Counter())
        self._ring = RingWriter(home.runtime / "bench.ring", _SLOTS, self._frames[0].nbytes)
        self._home = home
        trust = [part for key in stations.DEMO_KEYS for part in ("--trust", str(key))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "inference", "--home", str(home.path), *trust],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "ANDON_LOG_LEVEL": "error"},
        )
        self._batches: list[int] = []
        self._ended: list[tuple[float, int]] = []
        self._free: list[int] = []
        self._taken: dict[str, int] = {}
        self._peer = b""
        self._sent = 0
        self._meet()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._giver.close()
        self._inlet.close()
        self._bus.close()
        self._ring.close()
        self._folder.cleanup()
        for leftover in self._home.runtime.iterdir():
            leftover.unlink()
        self._home.runtime.rmdir()

    @property
    def usual_batch(self) -> int:
        """Return how large most of the worker's batches were: what it has measured as the quickest."""
        return mode(self._batches)

    def session_per_s(self, size: int) -> float:
        """Return images per second of the session alone, in batches of this size."""
        batch = np.stack(self._frames[:size])
        count, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < _ROUND_S:
            self._engine.run(batch)
            count += size
        return count / took

    def predictions_per_s(self) -> float:
        """Return predictions per second while the worker always has frames waiting.

        It is the time between batches that counts, as it is for the session: from the end of the first to the last.
        """
        self._free = list(range(_SLOTS))
        self._ended.clear()
        sources = {**self._giver.sources, **self._inlet.sources}
        began = time.perf_counter()
        poller = zmq.Poller()
        for source in sources:
            poller.register(source, zmq.POLLIN)
        while (took := time.perf_counter() - began) < _ROUND_S or self._taken:
            while self._free and len(self._taken) < 2 * _BATCH and took < _ROUND_S:
                self._give(self._free.pop(0))
            for source, _ in poller.poll(1000):
                sources[source]()
        ended = [one for one in self._ended if one[0] < began + _ROUND_S]  # later ones are left over and smaller
        return sum(count for _, count in ended[1:]) / (ended[-1][0] - ended[0][0])

    def _pictures(self, bundle: Bundle) -> list[npt.NDArray[np.uint8]]:
        noise = np.random.default_rng(0)
        golden = bundle.golden_frames[0]
        return [np.clip(golden + noise.normal(0, 2, golden.shape), 0, 255).astype(np.uint8) for _ in range(_SLOTS)]

    def _meet(self) -> None:
        (lane,) = self._giver.sources
        poller = zmq.Poller()
        poller.register(lane, zmq.POLLIN)
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            if poller.poll(100):
                self._giver.sources[lane]()
            if self._peer:
                return
        raise ServiceError("the worker did not ask for frames within 30 s")

    def _from_worker(self, message: AnyMessage, _payload: list[Buffer], peer: bytes) -> None:
        if isinstance(message, Credit):
            self._peer = peer
        elif isinstance(message, Answered):
            self._free += [self._taken.pop(frame_id) for frame_id in message.frame_ids]

    def _predicted(self, message: AnyMessage, _payload: list[Buffer], _peer: bytes) -> None:
        if isinstance(message, Predictions):
            self._batches.append(len(message.each))
            self._ended.append((time.perf_counter(), len(message.each)))

    def _give(self, index: int) -> None:
        self._sent += 1
        pixels = self._frames[index]
        height, width, channels = pixels.shape
        now_ns = time.monotonic_ns()
        frame = Frame(
            frame_id=f"{self._sent}/{self._camera}",
            part_id=str(self._sent),
            camera=self._camera,
            recipe=self._recipe,
            shape=(height, width, channels),
            pixel_format=PixelFormat.of(channels),
            trigger_ns=now_ns,
            deadline_ns=now_ns + 10_000_000_000,
            slot=self._ring.write(index, pixels),
        )
        self._taken[frame.frame_id] = index
        self._giver.send(self._peer, frame)
