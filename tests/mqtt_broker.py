"""A real MQTT broker for tests, somebody who listens to it, and a reader of Sparkplug B payloads of the tests' own."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

KINDS = ("NBIRTH", "NDATA", "NDEATH")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Told:
    """A Sparkplug B payload (sparkplug_b.proto): field 2 metrics, 3 seq."""

    seq: int | None = None
    metrics: dict[str, object] = field(default_factory=dict)


def told(payload: bytes) -> Told:
    found = Told()
    for number, value in fields(payload):
        if number == 3:
            assert isinstance(value, int)
            found.seq = value
        elif number == 2:
            assert isinstance(value, bytes)
            name, content = metric(value)
            found.metrics[name] = content
    return found


def metric(content: bytes) -> tuple[str, object]:
    """Return name (field 1) and value: int 10, long 11, double 13, boolean 14, string 15."""
    known = dict(fields(content))
    name = known[1]
    assert isinstance(name, bytes)
    value: object = next((known[number] for number in (10, 11, 14) if number in known), None)
    for number, read in ((13, lambda raw: struct.unpack("<d", raw)[0]), (15, bytes.decode)):
        if number in known:
            value = read(known[number])
    return name.decode(), value


def fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field (Protocol Buffers, "Encoding")."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(content):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = varint() if key & 7 == 2 else {1: 8, 5: 4}[key & 7]
            yield key >> 3, content[at : at + size]
            at += size


def until(true: Callable[[], object], within_s: float = 5.0) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.02)


class Broker:
    """Mosquitto, and somebody who listens to all of it."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self._program = program
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.heard: list[tuple[str, Told]] = []

    def start(self) -> None:
        command = [self._program, "-c", str(self._configuration)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subscribed: list[int] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, one: self.heard.append((one.topic, told(one.payload)))
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(f"spBv1.0/andon/{kind}/north", 0) for kind in KINDS]
        )
        self._client.on_subscribe = lambda *_: subscribed.append(1)
        until(self._connects)
        self._client.loop_start()
        until(lambda: subscribed)

    def _connects(self) -> bool:
        with contextlib.suppress(OSError):
            self._client.connect("127.0.0.1", self.port)
            return True
        return False

    def order(self, payload: bytes) -> None:
        self._client.publish("spBv1.0/andon/NCMD/north", payload, qos=1).wait_for_publish(5)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._process.terminate()
        self._process.wait(5)

    def of(self, kind: str) -> list[Told]:
        return [one for topic, one in self.heard if topic == f"spBv1.0/andon/{kind}/north"]


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[Broker]:
    """Run a broker; skip the test where there is none."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed (Debian: mosquitto): the reporter was NOT tried against a broker")
    made = Broker(program, folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()
