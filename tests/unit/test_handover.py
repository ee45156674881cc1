"""Both ends of the hand-over, in real processes that are really killed."""

import multiprocessing
import os
import signal
import socket
import time
from collections import Counter

import numpy as np
import pytest
import zmq

from config.bus import Bus
from config.errors import ConfigurationError
from config.handover import Giver, Inlet, Outlet, Taker
from config.messages import Answered, Credit, Frame, PixelFormat, Prediction, Predictions, Slot

CREDIT = Credit(worker="w", capacity=8, shares_memory=True)


def frame(number, slot=None):
    return Frame(
        frame_id=f"{number}/top",
        part_id=str(number),
        camera="top",
        recipe="r",
        shape=(4, 4, 1),
        pixel_format=PixelFormat.MONO8,
        trigger_ns=0,
        deadline_ns=0,
        slot=slot,
    )


class End:
    """One end, its messages and what it lost."""

    def __init__(self, make):
        self.bus, self.counters, self.heard, self.lost = Bus(), Counter(), [], []
        self.end = make(self)
        self._poller = zmq.Poller()
        for source in self.end.sources:
            self._poller.register(source, zmq.POLLIN)

    def handle(self, message, payload, peer):
        self.heard.append((message, payload, peer))

    def until(self, condition, within_s=5.0):
        """Handle what comes until the condition holds; return how long that took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < within_s, (self.heard, self.lost)
            for source, _ in self._poller.poll(20):
                self.end.sources[source]()
        return time.monotonic() - began

    def close(self):
        self.end.close()
        self.bus.close()


def giving(*endpoints):
    return End(lambda end: Giver(end.bus, endpoints, end.handle, end.lost.append, end.counters))


def taking(endpoint, identity="w.1"):
    return End(lambda end: Taker(end.bus, endpoint, identity, end.handle, end.counters))


@pytest.fixture
def lane(tmp_path):
    return f"ipc://{tmp_path}/camera.sock"


@pytest.fixture
def ends():
    made = []
    yield made
    for end in made:
        end.close()


def test_frames_go_there_and_answers_come_back(lane, ends):
    taker = taking(lane)
    ends.append(taker)
    assert not taker.end.send(CREDIT), "the grabber is not there yet"
    giver = giving(lane)
    ends.append(giver)
    assert taker.end.send(CREDIT)
    giver.until(lambda: giver.heard)
    message, _, peer = giver.heard.pop()
    assert message == CREDIT
    slot = Slot(ring="r", index=1, generation=2)
    assert giver.end.send_all(peer, [frame(number, slot) for number in range(200)])
    taker.until(lambda: len(taker.heard) == 200)
    assert [message for message, _, _ in taker.heard] == [frame(number, slot) for number in range(200)]
    assert taker.end.send(Answered(frame_ids=tuple(f"{number}/top" for number in range(200))))
    giver.until(lambda: giver.heard)
    assert len(giver.heard[0][0].frame_ids) == 200


def a_worker(lane):
    taker = taking(lane)
    while not taker.end.send(CREDIT):
        time.sleep(0.01)
    taker.until(lambda: False, 60)


def test_a_killed_worker_is_noticed_at_once(lane, ends):
    giver = giving(lane)
    ends.append(giver)
    process = multiprocessing.get_context("spawn").Process(target=a_worker, args=(lane,))
    process.start()
    giver.until(lambda: giver.heard, 20)
    peer = giver.heard[0][2]
    assert giver.end.reachable(peer)
    os.kill(process.pid, signal.SIGKILL)
    assert giver.until(lambda: giver.lost) < 0.2
    assert giver.lost == [peer]
    assert not giver.end.reachable(peer)
    assert not giver.end.send(peer, frame(1))
    process.join()


def a_grabber(lane):
    giver = giving(lane)
    giver.until(lambda: False, 60)


def test_a_killed_grabber_leaves_a_socket_that_the_next_one_takes_over(lane, ends, tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=a_grabber, args=(lane,))
    process.start()
    taker = taking(lane)
    ends.append(taker)
    began = time.monotonic()
    while not taker.end.send(CREDIT):
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    with pytest.raises(ConfigurationError, match="another process of its kind is running"):
        giving(lane)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / "camera.sock").exists(), "what a killed process leaves"
    giver = giving(lane)
    ends.append(giver)
    taker.until(lambda: taker.end.send(CREDIT))
    giver.until(lambda: giver.heard)
    assert giver.heard[0][0] == CREDIT


def test_what_is_no_message_is_counted_and_harms_nobody(lane, ends, tmp_path):
    giver = giving(lane)
    ends.append(giver)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(tmp_path / "camera.sock"))
        for packet in (b"x", b"credit/2 {}", b"\n", b"\xff" * 60_000, b"credit/2 " + b"[" * 50_000):
            stranger.send(packet)
        giver.until(lambda: giver.counters["malformed_message"] >= 5)
        assert not giver.heard
    giver.until(lambda: giver.lost)


def test_a_worker_that_takes_nothing_more_blocks_nobody(lane, ends, tmp_path):
    giver = giving(lane)
    ends.append(giver)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.connect(str(tmp_path / "camera.sock"))
        deaf.send(b'credit/2 {"worker":"w","capacity":8,"shares_memory":true}')
        giver.until(lambda: giver.heard)
        peer = giver.heard[0][2]
        began = time.monotonic()
        assert not all(giver.end.send(peer, frame(number)) for number in range(100_000))
        assert time.monotonic() - began < 2


def test_pixels_go_to_another_machine_in_the_memory_that_zeromq_has(lane, ends):
    giver = giving(lane, "tcp://127.0.0.1:*")
    ends.append(giver)
    (remote,) = (source for source in giver.end.sources if isinstance(source, zmq.Socket))
    taker = taking(remote.getsockopt_string(zmq.LAST_ENDPOINT))
    ends.append(taker)
    assert not taker.end.shares_memory
    assert taker.end.send(CREDIT)
    giver.until(lambda: giver.heard)
    pixels = np.arange(16, dtype=np.uint8)
    assert giver.end.send(giver.heard[0][2], frame(1), [pixels.data])
    taker.until(lambda: taker.heard)
    message, (received,), _ = taker.heard[0]
    assert message == frame(1)
    assert isinstance(received, memoryview)
    assert (np.frombuffer(received, np.uint8) == pixels).all()


def predictions(number, side):
    one = Prediction(
        frame_id=f"{number}/top",
        part_id=str(number),
        camera="top",
        score=1.0,
        map_shape=(side, side),
        frame_shape=(4, 4, 1),
        bundle_digest="sha256:0",
        worker="w",
        batch_size=1,
        received_ns=0,
        started_ns=0,
        finished_ns=0,
    )
    return Predictions(each=(one,)), np.full((side, side), number, np.float32).tobytes()


def test_predictions_go_by_the_lane_and_those_that_no_packet_holds_by_zeromq(tmp_path, ends):
    endpoint = f"ipc://{tmp_path}/predictions.sock"
    outlet = End(lambda end: Outlet(end.bus, endpoint, end.counters))
    assert outlet.end.send(*predictions(0, 4)), "kept until decision is there"
    inlet = End(lambda end: Inlet(end.bus, [endpoint], end.handle, end.counters))
    ends += [outlet, inlet]
    sent = [predictions(number, side) for number, side in enumerate((4, 28, 400, 4))]
    assert all(outlet.end.send(*each) for each in sent[1:])
    inlet.until(lambda: len(inlet.heard) == 4)
    heard = sorted(inlet.heard, key=lambda one: one[0].each[0].part_id)
    assert [(message, bytes(payload)) for message, (payload,), _ in heard] == sent
    assert [peer for _, _, peer in heard] == [b"", b"lane.1", b"", b"lane.1"]


def test_predictions_of_a_decision_that_was_killed_reach_the_next_one(tmp_path, ends):
    endpoint = f"ipc://{tmp_path}/predictions.sock"
    outlet = End(lambda end: Outlet(end.bus, endpoint, end.counters))
    first = multiprocessing.get_context("spawn").Process(target=a_decision, args=(endpoint,))
    first.start()
    began = time.monotonic()
    while not (tmp_path / "predictions.lane").exists():
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    assert outlet.end.send(*predictions(1, 4))
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert outlet.end.send(*predictions(2, 4)), "nobody has told yet that it is dead"
    inlet = End(lambda end: Inlet(end.bus, [endpoint], end.handle, end.counters))
    ends += [outlet, inlet]
    inlet.until(lambda: [message.each[0].part_id for message, _, _ in inlet.heard] == ["2"])


def a_decision(endpoint):
    End(lambda end: Inlet(end.bus, [endpoint], end.handle, end.counters)).until(lambda: False, 60)
