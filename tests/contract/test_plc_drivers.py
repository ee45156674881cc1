"""What every PLC driver must do, against real peers: no driver is tried against its own library only."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from ctypes.util import find_library
from typing import Protocol

import pytest
from pydantic import BaseModel, ValidationError

from config import plugins
from config.errors import ConfigurationError, DeviceError
from config.messages import GateCommand, GateOutcome, Judgement
from decision import registers
from decision.gate import Driver, PlcInputs, PlcSignals, StationOutputs, StationSignals, StationState
from decision.registers import ErrorCode, Outcome, Register, Result
from deploy.plcsim import Memory

END = max(register.end for register in registers.TABLE)


class Peer(Protocol):
    """A PLC whose memory the test can see."""

    options: dict[str, object]

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def read(self, register: Register, slot: int = 0) -> list[int]: ...

    def write(self, register: Register, words: list[int], slot: int = 0) -> None: ...


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Simulator:
    """The memory of our own PLC simulator, which pymodbus serves."""

    def __init__(self) -> None:
        self._port = free_port()
        self.options: dict[str, object] = {"port": self._port}

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._memory = self._run(self._serve())

    async def _serve(self) -> Memory:
        memory = Memory("127.0.0.1", self._port)
        await memory.serve()
        return memory

    def stop(self) -> None:
        self._run(self._memory.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def read(self, register: Register, slot: int = 0) -> list[int]:
        return self._run(self._memory.read(register, slot))

    def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        self._run(self._memory.write(register, words, slot))

    def _run(self, coroutine):  # type: ignore[no-untyped-def]  # any result
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)


class _Mapping(ctypes.Structure):
    """modbus_mapping_t of libmodbus 3.1."""

    _fields_ = (
        *((f"int{number}", ctypes.c_int) for number in range(8)),
        *((f"table{number}", ctypes.POINTER(ctypes.c_uint8)) for number in range(2)),
        *((f"words{number}", ctypes.POINTER(ctypes.c_uint16)) for number in range(2)),
    )


class Libmodbus:
    """A server by libmodbus: C, and nothing in common with pymodbus."""

    def __init__(self) -> None:
        name = find_library("modbus")
        if name is None:
            pytest.skip("libmodbus is not installed (Debian: libmodbus5): the driver was NOT tried against it")
        self._library = ctypes.CDLL(name)
        self._library.modbus_new_tcp.restype = ctypes.c_void_p
        self._library.modbus_mapping_new.restype = ctypes.POINTER(_Mapping)
        self._port = free_port()
        self.options: dict[str, object] = {"port": self._port}
        self._mapping = self._library.modbus_mapping_new(0, 0, END, 0)

    def start(self) -> None:
        self._context = ctypes.c_void_p(self._library.modbus_new_tcp(b"127.0.0.1", self._port))
        self._listening = ctypes.c_int(self._library.modbus_tcp_listen(self._context, 1))
        self._stopping = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        for descriptor in (self._listening.value, self._library.modbus_get_socket(self._context)):
            with contextlib.suppress(OSError), socket.socket(fileno=descriptor) as end:
                end.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._library.modbus_free(self._context)

    def read(self, register: Register, slot: int = 0) -> list[int]:
        address = register.address + slot * register.words
        return list(self._mapping.contents.words1[address : address + register.words])

    def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        for offset, word in enumerate(words):
            self._mapping.contents.words1[register.address + slot * register.words + offset] = word

    def _serve(self) -> None:
        query = (ctypes.c_uint8 * 260)()
        while not self._stopping:
            if self._library.modbus_tcp_accept(self._context, ctypes.byref(self._listening)) < 0:
                return
            while (length := self._library.modbus_receive(self._context, query)) >= 0:
                self._library.modbus_reply(self._context, query, length, self._mapping)


PEERS: dict[str, tuple[type[Peer], ...]] = {"modbus": (Simulator, Libmodbus)}
CASES = [(driver, peer) for driver, peers in PEERS.items() for peer in peers]


def test_every_driver_has_peers_to_be_tried_against() -> None:
    assert plugins.names("decision.plc") == sorted([*PEERS, "opcua"])  # opcua's are in test_opcua.py


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1].__name__.lower()}")
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Driver, Peer]]:
    name, kind = request.param
    peer = kind()
    peer.start()
    driver = make(name, peer.options)
    driver.open()
    try:
        yield driver, peer
    finally:
        driver.close()
        peer.stop()


def make(name: str, values: dict[str, object]) -> Driver:
    module = plugins.load("decision.plc", name)
    driver: Driver = module.Driver(plugins.options(module, values, "plc.options"))
    return driver


def result(sequence: int, command: GateCommand = GateCommand.PASS) -> Result:
    return Result(sequence, command, Judgement.PASS if command is GateCommand.PASS else Judgement.FAULT)


def held(peer: Peer) -> list[Result]:
    """Return every result that the PLC holds."""
    slots = (registers.read_result(peer.read(registers.RESULTS, slot)) for slot in range(registers.SLOTS))
    return sorted((one for one in slots if one), key=lambda one: one.sequence)


@pytest.mark.parametrize("name", plugins.names("decision.plc"))
def test_options_have_defaults_and_refuse_what_they_do_not_know(name: str) -> None:
    module = importlib.import_module(f"decision.plc.{name}")
    assert issubclass(module.Options, BaseModel)
    module.Options()
    with pytest.raises(ValidationError):
        module.Options(no_such_option=1)
    with pytest.raises(ConfigurationError, match=r"plc\.options: no_such_option: unknown field"):
        plugins.options(module, {"no_such_option": 1}, "plc.options")


def test_outputs_arrive_in_their_registers(pair: tuple[Driver, Peer]) -> None:
    driver, peer = pair
    signals = StationSignals(ready=True, busy=True, error=True)
    outputs = StationOutputs(
        65535,
        StationState.DEGRADED,
        7,
        line_stop=True,
        run=0xDEAD_BEEF,
        refused_job=8,
        acked_part=0x0001_0002,
        error_code=ErrorCode.TRIGGER_LOST,
        error_part=0x0003_0004,
        result=result(65536 + 4, GateCommand.REJECT),
        signals=signals,
    )
    driver.write_outputs(outputs)
    words = [word for register in registers.OUTPUTS for word in peer.read(register)]
    assert words == [65535, 2, 7, 8, 1, 1, 2, 3, 3, 4, 1, 5, 2, 4, 0b1000_1001, 0xDEAD, 0xBEEF]
    driver.write_outputs(StationOutputs(0, StationState.STOPPED, 0, line_stop=False, run=1))
    assert [word for register in registers.OUTPUTS for word in peer.read(register)] == [0] * 16 + [1]


def test_a_result_arrives_in_its_slot_and_in_no_other(pair: tuple[Driver, Peer]) -> None:
    driver, peer = pair
    driver.write_results([result(65536 + 3, GateCommand.STOP)])
    assert peer.read(registers.RESULTS, 3) == [1, 4, 3, 4]
    assert held(peer) == [result(65539, GateCommand.STOP)]


def test_many_results_with_gaps_and_round_the_ring(pair: tuple[Driver, Peer]) -> None:
    driver, peer = pair
    sequences = [*range(200, 300), 302, 303, *range(310, 350)]
    commands = list(GateCommand)
    results = [result(sequence, commands[sequence % 3]) for sequence in sequences]
    driver.write_results(results)
    assert held(peer) == results
    driver.write_results(results)
    assert held(peer) == results
    driver.write_results([])
    driver.write_results([result(200 + registers.SLOTS)])
    assert result(200, commands[200 % 3]) not in held(peer)


def test_clearing_leaves_no_result_and_nothing_else_changed(pair: tuple[Driver, Peer]) -> None:
    driver, peer = pair
    driver.write_outputs(StationOutputs(1, StationState.READY, 7, line_stop=False, run=5))
    peer.write(registers.OUTCOMES, [0, 1, 1, 0], 0)
    driver.write_results([result(sequence) for sequence in range(registers.SLOTS)])
    assert len(held(peer)) == registers.SLOTS
    driver.clear_results()
    assert held(peer) == []
    assert peer.read(registers.RUN) == [0, 5]
    assert peer.read(registers.OUTCOMES, 0) == [0, 1, 1, 0]


def test_inputs_come_from_their_registers(pair: tuple[Driver, Peer]) -> None:
    driver, peer = pair
    driver.write_outputs(StationOutputs(1, StationState.READY, 0, line_stop=False, run=0x0001_0002))
    peer.write(registers.PLC_HEARTBEAT, [65535])
    peer.write(registers.REQUESTED_JOB, [9])
    peer.write(registers.OUTCOME_COUNT, [2, 3])
    peer.write(registers.PART_NUMBER, [4, 5])
    peer.write(registers.PLC_SIGNALS, [0b0011])
    assert driver.read_inputs() == PlcInputs(
        run=0x0001_0002,
        heartbeat=65535,
        requested_job=9,
        outcome_count=131075,
        part_number=0x0004_0005,
        signals=PlcSignals(trigger_enable=True, trigger=True),
    )


def test_outcomes_are_read_by_number_round_the_ring(pair: tuple[Driver, Peer]) -> None:
    driver, peer = pair
    outcomes = [Outcome(10_000 + number, list(GateOutcome)[number % 2]) for number in range(1, 301)]
    for number, outcome in enumerate(outcomes, 1):
        peer.write(registers.OUTCOMES, registers.outcome_words(outcome), registers.slot(number - 1))
    found: list[Outcome | None] = []
    while len(found) < 250:
        more = driver.read_outcomes(51 + len(found), 250 - len(found))
        assert more
        found += more
    assert found == outcomes[50:]


def test_an_outcome_that_means_nothing_is_none(pair: tuple[Driver, Peer]) -> None:
    driver, peer = pair
    peer.write(registers.OUTCOMES, [0, 5, 77, 0], 0)
    assert driver.read_outcomes(1, 1) == [None]


def test_a_lost_peer_is_a_device_error_and_opening_again_works(pair: tuple[Driver, Peer]) -> None:
    driver, peer = pair
    driver.read_inputs()
    peer.stop()
    with pytest.raises(DeviceError):
        driver.read_inputs()
    driver.close()
    peer.start()
    driver.open()
    driver.write_results([result(4)])
    assert result(4) in held(peer)


@pytest.mark.parametrize("name", PEERS)
def test_where_nothing_listens_opening_is_a_device_error_that_names_the_place(name: str) -> None:
    port = free_port()
    driver = make(name, {"port": port})
    driver.close()
    with pytest.raises(DeviceError, match=str(port)):
        driver.open()
    driver.close()
    driver.close()


@pytest.mark.parametrize("name", PEERS)
def test_a_plc_that_takes_the_connection_and_never_answers_is_noticed_in_time(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        driver = make(name, {"port": frozen.getsockname()[1], "timeout_ms": 100})
        try:
            driver.open()
            began = time.monotonic()
            with pytest.raises(DeviceError):
                driver.write_results([result(0)])
            assert 0.05 < time.monotonic() - began < 0.4
        finally:
            driver.close()


@pytest.mark.parametrize("junk", [b"\x00" * 300, b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256)), b"\xff" * 5])
@pytest.mark.parametrize("name", PEERS)
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
        driver = make(name, {"port": server.getsockname()[1], "timeout_ms": 100})
        try:
            driver.open()
            with pytest.raises(DeviceError):
                driver.read_inputs()
        finally:
            driver.close()
            talker.join()


def test_modbus_a_refusal_is_a_device_error_that_says_so() -> None:
    peer = Simulator()
    peer.start()
    client = importlib.import_module("decision.plc.modbus")
    driver = client.Driver(client.Options(port=peer.options["port"]))
    try:
        driver.open()
        with pytest.raises(DeviceError, match=r"writing 1 registers at 17: refused"):
            driver._words.write(registers.PLC_HEARTBEAT.address, [1])
        assert peer.read(registers.PLC_HEARTBEAT) == [0]
    finally:
        driver.close()
        peer.stop()


def test_modbus_an_independent_client_reads_what_the_driver_wrote() -> None:
    program = shutil.which("mbpoll")
    if program is None:
        pytest.skip("mbpoll is not installed (Debian: mbpoll): the registers were NOT read by an independent client")
    peer = Simulator()
    peer.start()
    driver = make("modbus", peer.options)
    try:
        driver.open()
        driver.write_outputs(StationOutputs(11, StationState.READY, 7, line_stop=False, run=0x0003_0004))
        driver.write_results([Result(70_000, GateCommand.REJECT, Judgement.REVIEW)])
        assert mbpoll(program, peer, 0, 17) == [11, 1, 7, *[0] * 12, 3, 4]
        # slot 70,000 mod 256 = 112; 70,001 = 1 * 65,536 + 4,465; reject; review
        assert mbpoll(program, peer, 100 + 112 * 4, 4) == [1, 4465, 2, 3]
    finally:
        driver.close()
        peer.stop()


def mbpoll(program: str, peer: Peer, address: int, count: int) -> list[int]:
    """Return holding registers as mbpoll (libmodbus) reads them."""
    where = ["-p", str(peer.options["port"]), "127.0.0.1"]
    what = ["-m", "tcp", "-t", "4", "-0", "-r", str(address), "-c", str(count), "-1", "-q"]
    text = subprocess.run([program, *what, *where], capture_output=True, text=True, check=True, timeout=10).stdout
    return [int(word) % 65536 for word in re.findall(r"^\[\d+\]:\s+(-?\d+)", text, re.MULTILINE)]
