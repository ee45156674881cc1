"""Delivery at least once, over real sockets, through a receiver that goes and comes."""

import time

import pytest
import zmq

from config.bus import Bus
from config.courier import Courier
from config.messages import GateCommand, GateReport, Recorded, decode, encode

SECOND_NS = 1_000_000_000


def report(number):
    return GateReport(
        part_id=f"p{number}",
        trigger_time_ns=number,
        command=GateCommand.PASS,
        written_ns=None,
        outcome=None,
        reported_ns=number,
    )


@pytest.fixture
def bus():
    made = Bus()
    yield made
    made.close()


def take(router, count):
    found = []
    ends = time.monotonic() + 5
    while len(found) < count and time.monotonic() < ends:
        if router.poll(50):
            peer, *parts = router.recv_multipart()
            found.append((peer, decode(parts)[0]))
    return found


def test_what_is_not_confirmed_is_sent_again_until_it_is(bus, tmp_path):
    endpoint = f"ipc://{tmp_path}/r.sock"
    courier = Courier(bus.connect(zmq.DEALER, endpoint, "sender"))
    for number in range(3):
        courier.send(report(number).record_id, encode(report(number)), now_ns=0)
    assert len(courier) == 3

    first = Bus()
    router = first.bind(zmq.ROUTER, endpoint)
    assert [message.part_id for _, message in take(router, 3)] == ["p0", "p1", "p2"]
    first.close()  # killed before it could say that it has them

    router = bus.bind(zmq.ROUTER, endpoint)
    ends = time.monotonic() + 5
    now_ns, seen = SECOND_NS, []
    while len({message.part_id for _, message in seen}) < 3 and time.monotonic() < ends:
        courier.tick(now_ns)
        now_ns += SECOND_NS
        seen += take(router, 1)
    assert {message.part_id for _, message in seen} == {"p0", "p1", "p2"}

    assert courier.recorded(Recorded(record_ids=("gate:p0", "gate:p2", "gate:unknown"), journalled_ns=1)) == [
        "gate:p0",
        "gate:p2",
    ]
    assert len(courier) == 1
    assert courier.tick(now_ns) in {0, 1}
    courier.recorded(Recorded(record_ids=("gate:p1",), journalled_ns=1))
    assert courier.tick(now_ns + 10 * SECOND_NS) == 0


def test_what_was_just_sent_is_not_sent_again(bus, tmp_path):
    courier = Courier(bus.connect(zmq.DEALER, f"ipc://{tmp_path}/r.sock"))
    courier.send("a", [b"x"], now_ns=0)
    assert courier.tick(SECOND_NS // 10) == 0
    assert courier.drop_oldest() == "a"
    assert len(courier) == 0
