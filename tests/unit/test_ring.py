import multiprocessing
import os
import signal

import numpy as np
import pytest

from config.errors import InputError, StoreError
from config.messages import Slot
from config.ring import RingReader, RingWriter


@pytest.fixture
def ring(tmp_path):
    writer = RingWriter(tmp_path / "front.1.ring", slots=3, slot_bytes=5 * 7 * 3)
    yield writer
    writer.close()


def frame(value, shape=(5, 7, 3)):
    return np.full(shape, value, np.uint8)


def test_a_reader_gets_the_pixels_that_were_written(ring):
    pixels = np.arange(105, dtype=np.uint8).reshape(5, 7, 3)
    slot = ring.write(1, pixels)
    out = np.empty((5, 7, 3), np.uint8)
    assert RingReader(ring.path).read(slot, out)
    assert (out == pixels).all()
    assert (ring.view(slot, (5, 7, 3)) == pixels).all()


def test_a_reused_slot_is_noticed(ring):
    old = ring.write(0, frame(1))
    new = ring.write(0, frame(2))
    reader, out = RingReader(ring.path), np.empty((5, 7, 3), np.uint8)
    assert not reader.read(old, out)
    assert reader.read(new, out)
    assert (out == 2).all()


def test_a_slot_in_the_middle_of_a_write_is_never_read(tmp_path):
    """A writer killed between its two generation marks leaves a slot that no reader takes for good."""
    path = tmp_path / "ring"

    def write_and_die():
        writer = RingWriter(path, slots=1, slot_bytes=64)
        writer.write(0, frame(1, (8, 8, 1)))
        numpy_copyto = np.copyto

        def half(target, source):
            numpy_copyto(target[:4], source[:4])
            os.kill(os.getpid(), signal.SIGKILL)

        np.copyto = half
        writer.write(0, frame(2, (8, 8, 1)))

    process = multiprocessing.get_context("fork").Process(target=write_and_die)
    process.start()
    process.join()
    reader, out = RingReader(path), np.empty((8, 8, 1), np.uint8)
    for generation in range(5):
        if generation % 2 == 0:
            assert not reader.read(Slot(ring="ring", index=0, generation=generation), out) or generation == 0


def test_frames_that_do_not_fit_are_refused(ring):
    with pytest.raises(InputError, match="does not fit"):
        ring.write(0, frame(0, (50, 50, 3)))


def test_a_slot_that_the_ring_does_not_have_is_refused(ring):
    assert not RingReader(ring.path).read(Slot(ring="x", index=99, generation=2), np.empty((5, 7, 3), np.uint8))


def test_what_is_no_ring_is_refused(tmp_path):
    with pytest.raises(StoreError, match="cannot map"):
        RingReader(tmp_path / "absent")
    for content in (b"x", b"x" * 5000):
        (tmp_path / "junk").write_bytes(content)
        with pytest.raises(StoreError, match=r"too short|not a ring"):
            RingReader(tmp_path / "junk")


def test_memory_that_cannot_be_reserved_is_an_error_at_once(tmp_path):
    with pytest.raises(StoreError, match="cannot reserve"):
        RingWriter(tmp_path / "huge", slots=4096, slot_bytes=1 << 40)
    assert not (tmp_path / "huge").exists()


def test_a_camera_fills_the_slot_and_a_worker_looks_at_it_where_it_is(ring):
    pixels = ring.begin(1, (5, 7, 3))
    reader = RingReader(ring.path)
    half_done = Slot(ring=ring.path.name, index=1, generation=1)
    pixels[...] = 9
    slot = ring.commit(1)
    assert not reader.holds(half_done)
    seen = reader.view(slot, (5, 7, 3))
    assert seen is not None
    assert (seen == 9).all()
    assert not seen.flags.writeable
    again = ring.begin(1, (5, 7, 3))
    assert not reader.holds(slot), "what is being written is nobody's frame"
    again[...] = 8
    assert (seen == 8).all(), "the same memory"
    assert reader.view(slot, (5, 7, 3)) is None


def test_a_picture_that_was_never_finished_is_no_frame_and_the_slot_is_used_again(ring):
    ring.begin(0, (5, 7, 3))
    ring.begin(0, (5, 7, 3))[...] = 3
    slot = ring.commit(0)
    out = np.empty((5, 7, 3), np.uint8)
    assert RingReader(ring.path).read(slot, out)
    assert (out == 3).all()


def test_frames_side_by_side_are_one_batch_without_a_copy(tmp_path):
    writer = RingWriter(tmp_path / "side.ring", slots=4, slot_bytes=8 * 8)
    slots = [writer.write(index, frame(index, (8, 8, 1))) for index in range(4)]
    reader = RingReader(writer.path)
    batch = reader.views(slots[1:], (8, 8, 1))
    assert batch is not None
    assert batch.shape == (3, 8, 8, 1)
    assert batch.flags.c_contiguous
    assert [int(image[0, 0, 0]) for image in batch] == [1, 2, 3]
    writer.begin(2, (8, 8, 1))[...] = 7
    assert (batch[1] == 7).all(), "the same memory"
    assert reader.views(slots[1:], (8, 8, 1)) is None, "one of them is another frame now"
    assert reader.views([slots[3], slots[0]], (8, 8, 1)) is None, "not in this order"
    assert reader.views(slots[:2], (4, 8, 1)) is None, "there is a gap between them"
    assert reader.views(slots[:1], (4, 8, 1)) is not None


def test_views_outside_the_ring_are_refused(ring):
    reader, slot = RingReader(ring.path), ring.write(2, frame(1))
    assert reader.view(slot, (50, 50, 3)) is None
    assert reader.views([slot, Slot(ring="x", index=3, generation=0)], (5, 7, 3)) is None
