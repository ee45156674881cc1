"""What every reporter must do, against a real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mqtt_broker import Broker, mosquitto, until

from config import plugins
from config.errors import DeviceError
from storage.report import REST, Reporter, Values

NOW: Values = {**REST, "Line": "7", "State": "READY", "Parts/PASS": 41, "Last Part/Score": 1.5}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with mosquitto(tmp_path) as made:
        yield made


def make(port: int) -> Reporter:
    module = plugins.load("storage.reports", "sparkplug")
    reporter: Reporter = module.Reporter(plugins.options(module, {"port": port}, "report: options"), "north")
    return reporter


def test_every_reporter_is_tried_here() -> None:
    assert plugins.names("storage.reports") == ["sparkplug"]


def test_birth_tells_everything_then_only_what_changes_and_death_ends_it(broker: Broker) -> None:
    reporter = make(broker.port)
    reporter.tell(NOW)
    until(lambda: broker.of("NBIRTH"))
    birth = broker.of("NBIRTH")[0]
    assert birth.seq == 0
    assert {name: birth.metrics[name] for name in NOW} == NOW
    assert not birth.metrics["Node Control/Rebirth"]
    assert reporter.tell(NOW) == 0
    assert reporter.tell({**NOW, "Parts/PASS": 42}) == 1
    until(lambda: broker.of("NDATA"))
    data = broker.of("NDATA")[0]
    assert (data.seq, data.metrics) == (1, {"Parts/PASS": 42})
    reporter.close()
    until(lambda: broker.of("NDEATH"))
    assert broker.of("NDEATH")[0].metrics["bdSeq"] == birth.metrics["bdSeq"]


def test_order_to_be_born_again_is_the_only_one(broker: Broker) -> None:
    reporter = make(broker.port)
    reporter.tell(NOW)
    until(lambda: broker.of("NBIRTH"))

    def order(name: str) -> bytes:
        content = b"\x0a" + bytes([len(name)]) + name.encode() + b"\x20\x0b\x70\x01"  # a boolean that is true
        return b"\x12" + bytes([len(content)]) + content + b"\x18\x00"

    broker.order(b"\xff junk")
    broker.order(order("Parts/PASS"))
    broker.order(order("Node Control/Rebirth"))
    until(lambda: reporter.tell(NOW))
    until(lambda: len(broker.of("NBIRTH")) == 2)
    assert {name: broker.of("NBIRTH")[1].metrics[name] for name in NOW} == NOW
    reporter.close()


def test_a_broker_that_is_away_is_a_device_error_and_its_return_a_birth(broker: Broker) -> None:
    reporter = make(broker.port)
    broker.stop()
    with pytest.raises(DeviceError, match=str(broker.port)):
        reporter.tell(NOW)
    broker.start()
    reporter.tell(NOW)
    until(lambda: broker.of("NBIRTH"))
    broker.stop()

    def is_lost() -> bool:
        try:
            reporter.tell({**NOW, "Parts/PASS": time.monotonic_ns()})
        except DeviceError:
            return True
        return False

    until(is_lost)
    broker.start()
    births = len(broker.of("NBIRTH"))
    reporter.tell({**NOW, "Parts/PASS": 7})
    until(lambda: len(broker.of("NBIRTH")) > births)
    assert broker.of("NBIRTH")[-1].metrics["Parts/PASS"] == 7
    reporter.close()
