"""What every PLC driver must do, against real peers: no driver is tried against its own library only."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import npm_packages
import pytest
from plc_peers import END, CmEthernetip, Libmodbus, Middle, Peer, Simulator, Snap7, free_port
from pydantic import BaseModel, ValidationError

from config import plugins
from config.errors import ConfigurationError, DeviceError
from config.messages import GateCommand, GateOutcome, Judgement
from decision import registers
from decision.gate import Driver, PlcInputs, PlcSignals, StationOutputs, StationSignals, StationState
from decision.registers import ErrorCode, Outcome, Result

PEERS: dict[str, tuple[type[Peer], ...]] = {
    "ethernetip": (CmEthernetip,),
    "modbus": (Simulator, Libmodbus),
    "s7": (Snap7,),
}
READER = Path(__file__).parent.parent / "s7_reader.cjs"
TIMEOUT_MS = 150
SLACK_S = 0.6  # of a busy machine; a byte each 0.1 s would take 1.2 s and more
JUNK = [b"\x00" * 300, b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256)), b"\xff" * 5]
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
    assert driver.read_heartbeat() == 65535
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
        began = time.monotonic()
        try:
            with pytest.raises(DeviceError):
                open_and_write(driver)
            assert 0.05 < time.monotonic() - began < 0.1 + SLACK_S
        finally:
            driver.close()


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_talks_nonsense_is_a_device_error(name: str, junk: bytes) -> None:
    def talk(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.recv(1000)
            connection.sendall(junk)
            connection.recv(1000)  # until the driver has had enough

    with socket.create_server(("127.0.0.1", 0)) as server:
        talker = threading.Thread(target=talk, args=(server,))
        talker.start()
        driver = make(name, {"port": server.getsockname()[1], "timeout_ms": 100})
        try:
            with pytest.raises(DeviceError):
                open_and_write(driver)
        finally:
            driver.close()
            talker.join()


def open_and_write(driver: Driver) -> None:
    """Some protocols greet each other when they connect, some do not: either may fail."""
    driver.open()
    driver.write_results([result(0)])


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1].__name__.lower()}")
def tampered(request: pytest.FixtureRequest) -> Iterator[tuple[Driver, Middle, Peer]]:
    """Give a driver that has agreed with its PLC through somebody who can do what he likes to the answers."""
    name, kind = request.param
    peer = kind()
    peer.start()
    middle = Middle(int(str(peer.options["port"])))
    driver = make(name, peer.options | {"port": middle.port, "timeout_ms": TIMEOUT_MS})
    come_back(driver)
    try:
        yield driver, middle, peer
    finally:
        driver.close()
        middle.close()
        peer.stop()


ACTIONS: dict[str, Callable[[Driver], object]] = {
    "read_inputs": lambda driver: driver.read_inputs(),
    "read_outcomes": lambda driver: driver.read_outcomes(1, 3),
    "write_results": lambda driver: driver.write_results([result(2)]),
    "clear_results": lambda driver: driver.clear_results(),
}


@pytest.mark.parametrize("action", ["read_inputs", "write_results"])
def test_an_answer_that_is_cut_damaged_or_slow_is_a_device_error_in_time(
    tampered: tuple[Driver, Middle, Peer], action: str
) -> None:
    driver, middle, peer = tampered
    for tamper in (cut_in_the_middle, cut_before_it, trickle, swallow, *(instead(junk) for junk in JUNK)):
        middle.tamper = tamper
        began = time.monotonic()
        with pytest.raises(DeviceError):
            ACTIONS[action](driver)
        assert time.monotonic() - began < TIMEOUT_MS / 1000 + SLACK_S, tamper
        driver.close()
        assert time.monotonic() - began < TIMEOUT_MS / 1000 + SLACK_S, tamper
        middle.tamper = None
        come_back(driver)
    assert result(0) in held(peer)


def come_back(driver: Driver) -> PlcInputs:
    """Open again, as the link does: on a busy machine also a good PLC may answer too late once."""
    ends = time.monotonic() + 5
    while True:
        try:
            open_and_write(driver)
            return driver.read_inputs()
        except DeviceError:
            driver.close()
            if time.monotonic() > ends:
                raise


def test_whatever_is_changed_in_an_answer_a_driver_raises_a_device_error_or_nothing(
    tampered: tuple[Driver, Middle, Peer],
) -> None:
    driver, middle, _ = tampered
    random = Random(5)
    for number in range(24):
        middle.tamper = None if number % 3 else lambda answer, sink: bool(sink.sendall(changed(answer, random)))
        began = time.monotonic()
        with contextlib.suppress(DeviceError):
            driver.open()
            middle.tamper = lambda answer, sink: bool(sink.sendall(changed(answer, random)))
            list(ACTIONS.values())[number // 4 % len(ACTIONS)](driver)
        driver.close()
        assert time.monotonic() - began < 8 * TIMEOUT_MS / 1000 + 1


def test_an_answer_that_comes_too_late_is_never_taken_for_the_next_ones(tampered: tuple[Driver, Middle, Peer]) -> None:
    driver, middle, peer = tampered
    peer.write(registers.REQUESTED_JOB, [1])
    late: list[tuple[bytes, socket.socket]] = []
    middle.tamper = lambda answer, sink: bool(late.append((answer, sink)))
    with pytest.raises(DeviceError):
        driver.read_inputs()
    peer.write(registers.REQUESTED_JOB, [2])
    middle.tamper = None
    for answer, sink in late:
        with contextlib.suppress(OSError):
            sink.sendall(answer)
    with contextlib.suppress(DeviceError):
        assert driver.read_inputs().requested_job == 2
    driver.close()
    assert come_back(driver).requested_job == 2


def cut_in_the_middle(answer: bytes, sink: socket.socket) -> bool:
    sink.sendall(answer[: len(answer) * 2 // 3])
    return True


def cut_before_it(_answer: bytes, _sink: socket.socket) -> bool:
    return True


def swallow(_answer: bytes, _sink: socket.socket) -> bool:
    return False


def trickle(answer: bytes, sink: socket.socket) -> bool:
    """Send a byte now and then: each of them comes in time, and the answer never ends."""
    for at in range(len(answer)):
        sink.sendall(answer[at : at + 1])
        if select.select([sink], [], [], 0.1)[0]:
            break  # the driver has had enough
    return True


def instead(junk: bytes) -> Callable[[bytes, socket.socket], bool]:
    return lambda _answer, sink: bool(sink.sendall(junk))


def changed(answer: bytes, random: Random) -> bytes:
    """Return an answer with a few of its bytes changed, some missing, or some too many."""
    data = bytearray(answer)
    for _ in range(random.randint(1, 3)):
        data[random.randrange(len(data))] = random.choice((0, 0xFF, random.randrange(256)))
    match random.randrange(4):
        case 0:
            del data[random.randrange(len(data)) :]
        case 1:
            data += random.randbytes(random.randrange(40))
    return bytes(data)


def test_modbus_a_refusal_is_a_device_error_that_says_so() -> None:
    peer = Simulator()
    peer.start()
    client = importlib.import_module("decision.plc.modbus")
    driver = client.Driver(client.Options(port=peer.options["port"]))
    try:
        driver.open()
        with pytest.raises(
            DeviceError, match=r"writing 1 registers at 17: refused: exception 2, illegal data address;"
        ):
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


@pytest.mark.parametrize("options", [{"db": 8}, {"db": 7, "rack": 0}], ids=["no-block", "short-block"])
def test_s7_a_refusal_is_a_device_error_that_says_what_is_needed(options: dict[str, object]) -> None:
    peer = Snap7(words=200)
    peer.start()
    driver = make("s7", peer.options | options)
    try:
        driver.open()
        needed = rf"refused: .*DB{options['db']} must have {END} words"
        with pytest.raises(DeviceError, match=rf"writing 4 registers at 500: {needed}"):
            driver.write_results([result(100)])
        with pytest.raises(DeviceError, match=rf"reading 12 registers at 2000: {needed}"):
            driver.read_outcomes(1, 3)
    finally:
        driver.close()
        peer.stop()


def test_s7_requests_are_as_large_as_the_plc_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Snap7()
    peer.start()
    sizes: list[int] = []
    middle = Middle(int(str(peer.options["port"])))
    middle.watch = lambda request: sizes.append(len(request))
    driver = make("s7", peer.options | {"port": middle.port})
    try:
        for granted in (960, 480, 240):
            monkeypatch.setattr("decision.plc.s7._PDU", granted)
            driver.open()
            sizes.clear()
            driver.clear_results()
            assert max(sizes) in (granted + 7, granted + 7 - 2)  # 7 bytes of framing; whole words
            assert len(sizes) == -(-2048 // ((granted - 28) // 2 * 2))
            outcomes = driver.read_outcomes(1, 256)
            assert len(outcomes) == (granted - 18) // 8
    finally:
        driver.close()
        middle.close()
        peer.stop()


def test_s7_an_independent_client_reads_what_the_driver_wrote() -> None:
    environment = npm_packages.environment("nodes7")
    peer = Snap7()
    peer.start()
    driver = make("s7", peer.options)

    def nodes7(word: int, count: int) -> list[int]:
        arguments = [str(peer.options["port"]), str(peer.options["db"]), str(word), str(count)]
        command = [npm_packages.NODE, str(READER), *arguments]
        text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=20).stdout
        return list(json.loads(text))

    try:
        driver.open()
        driver.write_outputs(StationOutputs(11, StationState.READY, 7, line_stop=False, run=0x0003_0004))
        driver.write_results([Result(70_000, GateCommand.REJECT, Judgement.REVIEW)])
        assert nodes7(registers.STATION_HEARTBEAT.address, 3) == [11, 1, 7]
        assert nodes7(registers.RUN.address, 2) == [3, 4]
        # slot 70,000 mod 256 = 112; 70,001 = 1 * 65,536 + 4,465; reject; review
        assert nodes7(registers.RESULTS.address + 112 * 4, 4) == [1, 4465, 2, 3]
    finally:
        driver.close()
        peer.stop()


@pytest.mark.parametrize("tag", ["Missing", "Whole", "Short"])
def test_ethernetip_a_refusal_is_a_device_error_that_says_what_is_needed(tag: str) -> None:
    peer = CmEthernetip()
    peer.start()
    driver = make("ethernetip", peer.options | {"tag": tag})
    try:
        driver.open()
        with pytest.raises(DeviceError, match=rf"writing 4 registers at 500: refused: .*{tag} must be INT\[{END}\]"):
            driver.write_results([result(100)])
        with pytest.raises(DeviceError, match=rf"reading 12 registers at 2000: .*{tag}.* must be INT\[{END}\]"):
            driver.read_outcomes(1, 3)
    finally:
        driver.close()
        peer.stop()


@pytest.mark.parametrize("tag", ["Andon", "A" * 40, f"Program:{'P' * 40}.{'A' * 40}"])
def test_ethernetip_no_message_is_longer_than_its_connection(tag: str) -> None:
    peer = CmEthernetip(tag)
    peer.start()
    middle = Middle(int(str(peer.options["port"])))
    messages: list[bytes] = []
    middle.watch = messages.append
    driver = make("ethernetip", peer.options | {"port": middle.port})
    try:
        driver.open()
        driver.write_results([result(sequence) for sequence in range(registers.SLOTS)])
        assert len(held(peer)) == registers.SLOTS
        # 44 bytes stand before the part that the connection's size is about
        longest = max(len(message) - 44 for message in messages)
        assert 490 < longest <= 500
    finally:
        driver.close()
        middle.close()
        peer.stop()


def test_ethernetip_names_that_no_controller_has_are_refused() -> None:
    for tag in ("", "1st", "Andon[0]", "A" * 41, "Program:Main", "Andon.results", "Andön"):
        with pytest.raises(ConfigurationError, match=r"plc\.options: tag"):
            make("ethernetip", {"tag": tag})
    for host in ("", "::1", "10.0.0.1/bp/0", "10.0.0.1:44818", "a b"):
        with pytest.raises(ConfigurationError, match=r"plc\.options: host"):
            make("ethernetip", {"host": host})


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70])
def test_a_host_that_is_nobodys_is_a_device_error(name: str, host: str) -> None:
    driver = make(name, {"host": host})
    with pytest.raises(DeviceError, match=host):
        driver.open()
    driver.close()
