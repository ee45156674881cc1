"""A real worker between a grabber's end and decision's, both held here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from live_servers import state_folder

from config import bus
from config.handover import Giver
from config.home import Home, Run
from config.messages import Answered, Bundles, Credit, Frame, Holding, Loss, PixelFormat, Predictions, Reason, decode
from config.ring import RingWriter
from deploy.bench import small
from inference import bundle
from inference.bundle import Bundle, Manifest
from inference.keys import SigningKey, TrustStore

SHAPE = (small.SIDE_PX, small.SIDE_PX, 1)
MS = 1_000_000


class Ends:
    """What a worker talks to."""

    def __init__(self, folder: Path) -> None:
        station = small.station(folder / "small", cameras=1, products=2, parts_per_s=1.0)
        self.home = Home(folder / "home")
        self.home.make()
        self.home.write_station(station)
        self.home.write_run(Run(run_id="r"))
        self.home.versions().begin("r", station)
        self._bus = bus.Bus()
        self.answered: list[str] = []
        self.credit: Credit | None = None
        self._peer = b""
        counters = Counter[str]()
        addresses = self.home.addresses("camera.camera0")
        self._giver = Giver(self._bus, addresses, self._take, lambda _peer: None, counters)
        self.predictions = self._bus.bind(zmq.PULL, self.home.endpoint("predictions"))
        self.ring = RingWriter(self.home.runtime / "r.ring", 32, small.SIDE_PX**2)
        trust = [part for key in small.keys(folder / "small") for part in ("--trust", str(key))]
        self.keys = folder / "keys"  # none yet: a station makes its own with its first bundle
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inference", "--home", str(self.home.path), *trust],
            env=os.environ | {"ANDON_KEYS": str(self.keys)},
        )
        self.until(lambda: self.credit is not None)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._giver.close()
        self._bus.close()
        self.ring.close()

    def until(self, done) -> None:
        ends = time.monotonic() + 30
        while not done():
            assert time.monotonic() < ends
            assert self.process.poll() is None
            for receive in self._giver.sources.values():
                receive()
            time.sleep(0.002)

    def give(
        self,
        number: int,
        deadline_ns: int,
        grey: int = 51,
        recipe: str = "product0",
        pixel_format: PixelFormat = PixelFormat.MONO8,
    ) -> None:
        frame = Frame(
            frame_id=f"{number}/camera0",
            part_id=str(number),
            camera="camera0",
            recipe=recipe,
            shape=SHAPE,
            pixel_format=pixel_format,
            trigger_ns=time.monotonic_ns(),
            deadline_ns=deadline_ns,
            slot=self.ring.write(number % 32, np.full(SHAPE, grey, np.uint8)),
        )
        assert self._giver.send(self._peer, frame)

    def told(self) -> Loss | Predictions:
        assert self.predictions.poll(5000)
        message, payload = decode(self.predictions.recv_multipart())
        assert isinstance(message, Loss | Predictions)
        if isinstance(message, Predictions):
            cells = [one.map_shape[0] * one.map_shape[1] for one in message.each]
            assert len(payload[0]) == 4 * sum(cells)
        return message

    def want(self, *digests: str) -> None:
        assert self._giver.send(self._peer, Bundles(epoch=1, revision=1, wanted=digests))

    def _take(self, message, _payload, peer: bytes) -> None:
        self._peer = peer
        if isinstance(message, Credit):
            self.credit = message
        elif isinstance(message, Answered):
            self.answered += message.frame_ids


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    with state_folder() as folder:
        ends = Ends(folder)
        try:
            yield ends
        finally:
            ends.close()


def test_what_cannot_be_judged_in_time_is_told_at_once(ends: Ends) -> None:
    """Its deadline is still to come, but nothing could be judged by it any more."""
    began_ns = time.monotonic_ns()
    ends.give(1, began_ns + 2 * MS)
    ends.give(2, began_ns + 2000 * MS)
    told = [ends.told() for _ in range(2)]
    losses = [one for one in told if isinstance(one, Loss)]
    # alone it would have been tried; then it is a prediction that comes too late, and decision has judged by itself
    if losses:
        assert losses == [Loss(part_id="1", camera="camera0", reason=Reason.LATE)]
    judged = [each.part_id for one in told if isinstance(one, Predictions) for each in one.each]
    assert "2" in judged
    assert time.monotonic_ns() - began_ns < 1000 * MS
    ends.until(lambda: {"1/camera0", "2/camera0"} <= set(ends.answered))


def test_a_frame_whose_deadline_has_passed_is_never_judged(ends: Ends) -> None:
    ends.give(3, time.monotonic_ns() - MS)
    assert ends.told() == Loss(part_id="3", camera="camera0", reason=Reason.LATE)
    ends.until(lambda: "3/camera0" in ends.answered)


def test_pixels_that_the_bundle_was_not_trained_on_are_never_judged(ends: Ends) -> None:
    ends.give(4, time.monotonic_ns() + 2000 * MS, pixel_format=PixelFormat.BAYER_RGGB8)
    assert ends.told() == Loss(part_id="4", camera="camera0", reason=Reason.WRONG_FRAME)
    ends.until(lambda: "4/camera0" in ends.answered)


def test_frames_that_wait_are_all_judged_each_by_its_bundle(ends: Ends) -> None:
    deadline_ns = time.monotonic_ns() + 5000 * MS
    for number in range(8, 24):
        ends.give(number, deadline_ns, grey=10 * number, recipe=f"product{number % 2}")
    scores: dict[str, float] = {}
    while len(scores) < 16:
        message = ends.told()
        assert isinstance(message, Predictions)
        assert len({one.bundle_digest for one in message.each}) == 1
        scores |= {one.part_id: one.score for one in message.each}
    assert scores == {str(number): pytest.approx(10 * number / 255, abs=1e-3) for number in range(8, 24)}
    ends.until(lambda: {f"{number}/camera0" for number in range(8, 24)} <= set(ends.answered))


def test_an_unknown_recipe_is_told(ends: Ends) -> None:
    ends.give(30, time.monotonic_ns() + 5000 * MS, recipe="nobody")
    assert ends.told() == Loss(part_id="30", camera="camera0", reason=Reason.UNKNOWN_RECIPE)


def test_a_bundle_sealed_by_a_key_that_was_made_meanwhile_is_opened(
    ends: Ends, brightness_manifest: Manifest, brightness_model: bytes
) -> None:
    made = ends.home.path / "bundles" / "made.andon"
    made.parent.mkdir(exist_ok=True)
    golden = (np.full((6, 8, 1), 51, np.uint8), np.full((6, 8, 1), 204, np.uint8))
    bundle.write(made, brightness_manifest, brightness_model, golden, SigningKey.load(ends.keys))
    digest = Bundle.open(made, TrustStore.load(ends.keys)).digest
    made.rename(made.with_name(f"brightness-{digest.removeprefix('sha256:')}.andon"))
    ends.want(digest)
    holding = None
    while not (holding and digest in {*holding.bundles, *holding.refused}):
        assert ends.predictions.poll(5000)
        message, _ = decode(ends.predictions.recv_multipart())
        holding = message if isinstance(message, Holding) else holding
    assert holding.refused == {}
