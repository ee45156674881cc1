"""What every plug-in for digital inputs and outputs must do, against couplers by another library than its own."""

from __future__ import annotations

import importlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from coupler_peers import Libmodbus, free_port
from pydantic import BaseModel, ValidationError

from config import plugins
from config.errors import ConfigurationError, DeviceError
from decision.coupler import Driver

WHOLE: dict[str, dict[str, object]] = {
    "modbus": {
        "outputs": 10,
        "output_address": 3,
        "inputs": 12,
        "input_address": 5,
        "counters": [{"address": 20}, {"address": 24, "bits": 16}, {"address": 30, "low_word_first": True}],
        "watchdog": {"address": 40, "value": 250},
    }
}


def test_every_plug_in_has_a_peer_to_be_tried_against() -> None:
    assert plugins.names("decision.io") == sorted(WHOLE)


@pytest.fixture(params=WHOLE)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Driver, Libmodbus]]:
    peer = Libmodbus()
    peer.start()
    driver = make(request.param, peer.port)
    driver.open()
    try:
        yield driver, peer
    finally:
        driver.close()
        peer.stop()


def make(name: str, port: int, **others: object) -> Driver:
    module = plugins.load("decision.io", name)
    driver: Driver = module.Driver(plugins.options(module, {**WHOLE[name], "port": port, **others}, "io: options"))
    return driver


@pytest.mark.parametrize("name", plugins.names("decision.io"))
def test_options_have_defaults_and_refuse_what_they_do_not_know(name: str) -> None:
    module = importlib.import_module(f"decision.io.{name}")
    assert issubclass(module.Options, BaseModel)
    module.Options()
    with pytest.raises(ValidationError):
        module.Options(no_such_option=1)
    with pytest.raises(ConfigurationError, match="io: options: no_such_option: unknown field"):
        plugins.options(module, {"no_such_option": 1}, "io: options")


def test_it_says_what_it_has(pair: tuple[Driver, Libmodbus]) -> None:
    driver, _ = pair
    assert (driver.outputs, driver.inputs, driver.counter_bits) == (10, 12, (32, 16, 32))


def test_outputs_arrive_and_nothing_beside_them_changes(pair: tuple[Driver, Libmodbus]) -> None:
    driver, peer = pair
    peer.memory.coils[2] = peer.memory.coils[13] = 1
    wanted = [True, False, True, True, False, False, False, True, False, True]
    driver.write(wanted)
    assert peer.memory.coils[2:14] == [1, *wanted, 1]
    driver.write([False] * 10)
    assert peer.memory.coils[2:14] == [1, *[0] * 10, 1]


def test_inputs_and_counters_come_as_they_are(pair: tuple[Driver, Libmodbus]) -> None:
    driver, peer = pair
    peer.memory.inputs[4] = peer.memory.inputs[5] = peer.memory.inputs[16] = peer.memory.inputs[17] = 1
    for address, word in {20: 0xFFFF, 21: 0xFFFE, 24: 0xABCD, 30: 0x0002, 31: 0x8001}.items():
        peer.memory.input_registers[address] = word
    before_ns = time.monotonic_ns()
    inputs = driver.read()
    assert inputs.bits == (True, *[False] * 10, True)
    assert inputs.counts == (0xFFFF_FFFE, 0xABCD, 0x8001_0002)
    assert before_ns < inputs.read_ns < time.monotonic_ns()


def test_a_lost_peer_is_a_device_error_and_opening_again_works(pair: tuple[Driver, Libmodbus]) -> None:
    driver, peer = pair
    driver.read()
    peer.stop()
    with pytest.raises(DeviceError):
        driver.read()
    driver.close()
    with pytest.raises(DeviceError, match=str(peer.port)):
        driver.open()
    peer.start()
    driver.open()
    driver.write([True] * 10)
    assert peer.memory.coils[3:13] == [1] * 10


@pytest.mark.parametrize("name", WHOLE)
def test_a_coupler_that_takes_the_connection_and_never_answers_is_noticed_in_time(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        driver = make(name, frozen.getsockname()[1], timeout_ms=100, watchdog=None)
        try:
            driver.open()
            began = time.monotonic()
            with pytest.raises(DeviceError):
                driver.write([False] * 10)
            assert 0.05 < time.monotonic() - began < 0.4
        finally:
            driver.close()
            driver.close()


@pytest.mark.parametrize("junk", [b"\x00" * 300, b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256)), b"\xff" * 5])
@pytest.mark.parametrize("name", WHOLE)
def test_a_peer_that_talks_nonsense_is_a_device_error(name: str, junk: bytes) -> None:
    def talk(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(junk)
            connection.recv(1000)  # until the driver has had enough

    with socket.create_server(("127.0.0.1", 0)) as server:
        talker = threading.Thread(target=talk, args=(server,))
        talker.start()
        driver = make(name, server.getsockname()[1], timeout_ms=100, watchdog=None)
        try:
            driver.open()
            with pytest.raises(DeviceError):
                driver.read()
        finally:
            driver.close()
            talker.join()


def modbus(peer: Libmodbus, **others: Any) -> Driver:
    return make("modbus", peer.port, **others)


def test_modbus_arms_the_watchdog_whenever_it_connects(pair: tuple[Driver, Libmodbus]) -> None:
    driver, peer = pair
    assert peer.memory.holding_registers[40] == 250
    peer.memory.holding_registers[40] = 0
    driver.close()
    driver.open()
    assert peer.memory.holding_registers[40] == 250


def test_modbus_counters_may_be_holding_registers(pair: tuple[Driver, Libmodbus]) -> None:
    first, peer = pair
    first.close()
    driver = modbus(peer, counters_in="holding_registers")
    peer.memory.holding_registers[24] = 77
    try:
        driver.open()
        assert driver.read().counts == (0, 77, 0)
    finally:
        driver.close()


def test_modbus_a_refusal_is_a_device_error_that_says_so(pair: tuple[Driver, Libmodbus]) -> None:
    first, peer = pair
    first.close()
    driver = modbus(peer, output_address=60)
    try:
        driver.open()
        with pytest.raises(DeviceError, match="writing 10 coils at 60: refused: exception 2, illegal data address;"):
            driver.write([False] * 10)
    finally:
        driver.close()


def test_modbus_counters_must_fit_one_request() -> None:
    with pytest.raises(ConfigurationError, match="within 125 registers"):
        make("modbus", free_port(), counters=[{"address": 0}, {"address": 124}])


@pytest.mark.parametrize("name", plugins.names("decision.io"))
def test_a_host_that_is_nobodys_is_a_device_error(name: str) -> None:
    for host in ("no-such-host.invalid", "x" * 70):
        with pytest.raises(DeviceError, match=host):
            make(name, 502, host=host).open()
