"""Pictures of judged parts, and how they give way to the line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq

from config import bus
from config.messages import Evidence, Fidelity, GateCommand, Judgement, Recorded, Region, Slot, Verdict, View, decode
from ingest import keeper as keeping
from ingest.camera import Exposure
from ingest.evidence import Judged, pictures
from ingest.keeper import Keeper
from ingest.shutter import Shutter

SIDE_PX = 40
SLOTS = 16


def noise(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (60, 80, channels), dtype=np.uint8)


def verdict(judgement: Judgement = Judgement.REJECT, number: int = 0) -> Verdict:
    region = Region(x_px=20, y_px=10, width_px=8, height_px=6, area_px=40, score=9.0)
    regions = () if judgement is Judgement.PASS else (region,)
    return Verdict(
        part_id=f"st-r1-{number:08}",
        sequence=number,
        station="st",
        line="1",
        recipe="cap",
        recipe_version=1,
        recipe_digest="sha256:r",
        product="cap",
        verdict=judgement,
        reasons=(),
        views=(View(camera="top", verdict=judgement, regions=regions),),
        gate=GateCommand.REJECT,
        trigger_ns=0,
        trigger_time_ns=0,
        deadline_ns=1,
        judged_ns=0,
    )


def made(
    fidelity: Fidelity, *, live: bool = False, channels: int = 3, judgement: Judgement = Judgement.REJECT
) -> dict[str, tuple[Evidence, np.ndarray | None]]:
    found = pictures(Judged(None, noise(channels), verdict(judgement), "top", fidelity, live), SIDE_PX)
    decoded = [cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) for _, content in found]
    return {header.purpose: (header, pixels) for (header, _), pixels in zip(found, decoded, strict=True)}


@pytest.mark.parametrize("channels", [1, 3])
def test_exact_is_every_pixel_as_the_camera_gave_it(channels):
    header, pixels = made(Fidelity.EXACT, channels=channels)["image"]
    assert (header.encoding, header.width_px, header.height_px) == ("png", 80, 60)
    assert np.array_equal(pixels.reshape(60, 80, channels), noise(channels))


@pytest.mark.parametrize(("fidelity", "size"), [(Fidelity.REDUCED, (40, 30)), (Fidelity.FULL, (80, 60))])
def test_jpegs_are_reduced_or_of_full_size(fidelity, size):
    header, pixels = made(fidelity)["image"]
    assert (header.encoding, header.width_px, header.height_px) == ("jpeg", *size)
    assert pixels.shape[1::-1] == size


def test_what_is_kept_follows_from_the_fidelity_and_the_live_picture_is_always_reduced():
    assert set(made(Fidelity.EXACT, live=True)) == {"live", "image", "crop"}
    assert set(made(Fidelity.REDUCED)) == {"image", "crop"}
    assert set(made(Fidelity.EXACT, judgement=Judgement.PASS)) == {"image"}
    only = made(Fidelity.NONE, live=True)
    assert set(only) == {"live"}
    assert (only["live"][0].encoding, only["live"][0].width_px) == ("jpeg", SIDE_PX)


class _NoCamera:
    """What a shutter needs for its ring."""

    def open(self) -> int:
        return noise().nbytes

    def exposures(self, first: int) -> Iterator[Exposure]:
        yield from [][first:]

    def close(self) -> None:
        pass


class Desk:
    """A keeper whose encoder does not run until it is told to, its shutter, and what storage gets of it."""

    def __init__(self, folder: Path) -> None:
        self.shutter = Shutter(_NoCamera(), "top", folder, SLOTS)
        self._bus = bus.Bus()
        endpoint = f"ipc://{folder}/records.sock"
        self._storage = self._bus.bind(zmq.ROUTER, endpoint)
        records = self._bus.connect(zmq.DEALER, endpoint, "camera-top")
        self.counters: Counter[str] = Counter()
        self.keeper = Keeper(self.shutter, SLOTS, SIDE_PX, records, self.counters)
        self.number = 0

    def job(self, fidelity: Fidelity = Fidelity.EXACT, *, live: bool = False) -> Judged:
        """Take a slot and return what is to be kept of it."""
        slot = Slot(ring="r", index=self.shutter._free.pop(), generation=2)
        self.number += 1
        return Judged(slot, noise(), verdict(number=self.number), "top", fidelity, live)

    def finish(self, frames: int) -> None:
        """Let the encoder run until so many frames are through."""
        self.keeper.start()
        while frames:
            before = self.keeper._encoding
            poller = zmq.Poller()
            poller.register(self.keeper.fileno(), zmq.POLLIN)
            assert poller.poll(5000)
            self.keeper.collect()
            frames -= before - self.keeper._encoding

    def received(self) -> list[tuple[Evidence, int]]:
        found = []
        while self._storage.poll(200):
            header, payload = decode(self._storage.recv_multipart()[1:])
            assert isinstance(header, Evidence)
            found.append((header, len(payload[0])))
        return found

    def close(self) -> None:
        if not self.keeper._maker._thread.ident:
            self.keeper.start()
        self.keeper.close()
        self.shutter.close()
        self._bus.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def test_pictures_become_plainer_then_none_when_the_encoder_falls_behind_and_every_slot_comes_back(desk):
    desk.shutter._free += range(SLOTS, 2 * SLOTS)  # the ring is not short of slots here
    for _ in range(12):
        desk.keeper.keep(desk.job())
    assert desk.counters == {"evidence_reduced": 4, "evidence_shed": 4}
    desk.finish(8)
    assert desk.shutter.free_slots == 2 * SLOTS
    images = [header for header, _ in desk.received() if header.purpose == "image"]
    assert [header.encoding for header in images] == ["png"] * 4 + ["jpeg"] * 4
    desk.keeper.keep(desk.job())
    assert desk.counters["evidence_reduced"] == 4, "it is over"


def test_waiting_pictures_are_given_up_before_the_ring_is_full(desk):
    for _ in range(6):
        desk.keeper.keep(desk.job())
    flight = [desk.job() for _ in range(7)]  # parts that wait for their verdict: 3 slots are free
    desk.keeper.make_room()
    assert desk.shutter.free_slots == SLOTS // 4
    assert desk.counters["evidence_shed"] == 1
    for job in flight:
        desk.keeper.keep(job)
    assert desk.shutter.free_slots >= SLOTS // 4


def test_a_picture_for_the_live_page_alone_is_given_up_without_a_word(desk):
    for _ in range(13):
        desk.keeper.keep(desk.job(Fidelity.NONE, live=True))
    assert not desk.counters
    assert desk.shutter.free_slots == SLOTS - 8


def test_what_is_not_kept_frees_its_slot_at_once(desk):
    desk.keeper.keep(desk.job(Fidelity.NONE))
    assert desk.shutter.free_slots == SLOTS


def test_what_waits_for_storage_is_bound_by_its_bytes(desk, monkeypatch):
    monkeypatch.setattr(keeping, "_KEPT_BYTES", 40_000)
    for _ in range(4):
        desk.keeper.keep(desk.job())
    desk.finish(4)
    received = desk.received()
    assert len(received) == 8, "all were sent once: an image and a crop each"
    assert desk.counters["evidence_lost"] > 0
    waiting = dict(desk.keeper._bytes)
    assert sum(waiting.values()) <= 40_000
    assert sum(size for header, size in received if header.record_id in waiting) == sum(waiting.values())
    desk.keeper.recorded(Recorded(record_ids=tuple(waiting), journalled_ns=1))
    assert not desk.keeper._bytes
    assert desk.counters["evidence"] == 8
