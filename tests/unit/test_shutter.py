"""The camera's film: whose memory is whose, and when it may be written again."""

import gc

import numpy as np
import pytest

from config.messages import Reason
from config.ring import RingReader
from ingest.camera import Exposure
from ingest.shutter import Shutter

SHAPE = (4, 8, 1)


class Roll:
    """A camera with slots of 64 bytes that exposes what it is given."""

    def __init__(self):
        self.exposed = []

    def open(self):
        return 64

    def exposures(self, _first):
        return iter(self.exposed)

    def close(self):
        pass


@pytest.fixture
def shutter(tmp_path):
    made = Shutter(Roll(), "top", tmp_path, slots=2)
    yield made
    made.close()
    assert not list(tmp_path.glob("*.ring"))


def expose(shutter, *pictures):
    shutter._camera.exposed = [Exposure(number, number, pixels) for number, pixels in enumerate(pictures)]
    shutter._run(0)
    *taken, end = shutter.mailbox.drain()
    assert end is None
    return taken


def picture(shutter, value, shape=SHAPE):
    pixels = shutter.frame(shape)
    pixels[...] = value
    return pixels


def test_what_the_camera_filled_is_in_its_slot_without_a_copy(shutter, tmp_path):
    pixels = picture(shutter, 7)
    (taken,) = expose(shutter, pixels)
    assert np.shares_memory(shutter.view(taken.slot, SHAPE), pixels)
    seen = RingReader(tmp_path / taken.slot.ring).view(taken.slot, SHAPE)
    assert seen is not None
    assert (seen == 7).all()


def test_memory_of_the_cameras_own_is_copied(shutter):
    (taken,) = expose(shutter, np.full(SHAPE, 5, np.uint8))
    assert (shutter.view(taken.slot, SHAPE) == 5).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.full(SHAPE, np.nan, np.float32),
        np.zeros(SHAPE, np.int16),
        np.zeros(SHAPE, bool),
        np.zeros((4, 8), np.uint8),
        np.zeros((4, 8, 4), np.uint8),
        np.zeros((4, 8, 0), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
        [[[1, 2, 3]]],
    ],
    ids=lambda pixels: f"{pixels.dtype}{pixels.shape}" if isinstance(pixels, np.ndarray) else "list",
)
def test_what_is_no_picture_is_a_fault_of_that_part_alone(shutter, pixels):
    wrong, right = expose(shutter, pixels, np.full(SHAPE, 5, np.uint8))
    assert (wrong.slot, wrong.reason) == (None, Reason.UNREADABLE_FRAME)
    assert "not" in wrong.detail
    assert (shutter.view(right.slot, SHAPE) == 5).all()


def test_pixels_that_lie_otherwise_in_memory_are_the_same_picture(shutter):
    pixels = np.arange(32, dtype=np.uint8).reshape(SHAPE)
    for one in (np.asfortranarray(pixels), pixels[::-1, ::-1][::-1, ::-1]):
        (taken,) = expose(shutter, one)
        assert (shutter.view(taken.slot, SHAPE) == pixels).all()


def test_a_full_ring_is_an_overrun_and_what_was_discarded_is_free(shutter):
    pictures = [picture(shutter, value) for value in range(3)]
    taken = expose(shutter, *pictures)
    assert [one.reason for one in taken] == [None, None, Reason.OVERRUN]
    shutter.free(taken[0].slot)
    shutter.discard(picture(shutter, 9))
    assert shutter.free_slots == 1
    (again,) = expose(shutter, picture(shutter, 4))
    assert again.slot.index == taken[0].slot.index
    assert again.slot.generation > taken[0].slot.generation


def test_a_frame_too_large_for_a_slot_has_a_ring_of_its_own_until_it_is_freed(shutter, tmp_path):
    large = (32, 32, 1)
    taken = expose(shutter, *(picture(shutter, value, large) for value in range(3)))
    assert [one.reason for one in taken] == [None, None, Reason.OVERRUN], "as many as the ring has slots, no more"
    for value, one in enumerate(taken[:2]):
        seen = RingReader(tmp_path / one.slot.ring).view(one.slot, large)
        assert seen is not None
        assert (seen == value).all()
        assert (shutter.view(one.slot, large) == value).all()
        shutter.free(one.slot)
        assert not (tmp_path / one.slot.ring).exists()
    assert shutter.free_slots == 2


def test_a_slot_is_not_used_again_while_it_is_being_sent(shutter):
    (taken,) = expose(shutter, picture(shutter, 1))
    sending = [shutter.lend(taken.slot, SHAPE), shutter.lend(taken.slot, SHAPE)]
    assert bytes(sending[0]) == b"\1" * 32
    shutter.free(taken.slot)
    assert shutter.free_slots == 1
    sending.pop()
    gc.collect()
    assert shutter.free_slots == 1
    sending.pop()
    gc.collect()
    assert shutter.free_slots == 2


def test_rings_of_a_dead_run_are_removed(tmp_path):
    for leftover in ("top.1.ring", "top.2.ring", "other.1.ring"):
        (tmp_path / leftover).write_bytes(b"left")
    shutter = Shutter(Roll(), "top", tmp_path, slots=2)
    assert len(list(tmp_path.glob("top.*.ring"))) == 1
    assert (tmp_path / "other.1.ring").exists(), "another camera's"
    shutter.close()
