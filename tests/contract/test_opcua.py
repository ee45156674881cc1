"""The OPC UA driver against node-opcua as the PLC, by the same contract as every other driver's."""

from __future__ import annotations

import datetime as dt
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import npm_packages
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

# what every driver must do: collected here once more, with this file's `pair`
from test_plc_drivers import (  # noqa: F401 - pytest collects them by name
    free_port,
    held,
    make,
    result,
    test_a_result_arrives_in_its_slot_and_in_no_other,
    test_an_outcome_that_means_nothing_is_none,
    test_clearing_leaves_no_result_and_nothing_else_changed,
    test_inputs_come_from_their_registers,
    test_outcomes_are_read_by_number_round_the_ring,
    test_outputs_arrive_in_their_registers,
)

from config.errors import DeviceError
from decision import registers
from decision.gate import Driver, StationOutputs, StationState
from decision.plc import opcua
from decision.registers import Kind, Register

PLC = Path(__file__).parent.parent / "opcua_plc.cjs"


class NodeOpcua:
    """A PLC by node-opcua: JavaScript, and nothing in common with asyncua."""

    def __init__(self, **settings: object) -> None:
        self.port = free_port()
        self.options: dict[str, object] = {"url": f"opc.tcp://127.0.0.1:{self.port}", "timeout_ms": 3000}
        self._environment = npm_packages.environment("node-opcua")
        variables = [
            {"id": node_id(register), "type": kind(register), "length": length(register)}
            for register in registers.TABLE
        ]
        self._arguments = {"port": self.port, "variables": variables} | settings

    def start(self) -> None:
        self._process = subprocess.Popen(
            [npm_packages.NODE, str(PLC), json.dumps(self._arguments)],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        while (line := self._process.stdout.readline().strip()) != "ready":
            assert line or self._process.poll() is None, "the PLC did not start"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            end.close()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def read(self, register: Register, slot: int = 0) -> list[int]:
        return self._words(register, slot, self._ask({"read": node_id(register)}))

    def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        if length(register):
            whole = self._ask({"read": node_id(register)})
            whole[slot * register.words : (slot + 1) * register.words] = words
            value = whole
        else:
            value = registers.value(words) if register.kind is Kind.U32 else words[0]
        self._ask({"write": node_id(register), "value": value})

    def _words(self, register: Register, slot: int, held: object) -> list[int]:
        if isinstance(held, list):
            return held[slot * register.words : (slot + 1) * register.words]
        return registers.words(held) if register.kind is Kind.U32 else [held]

    def _ask(self, asked: dict[str, object]):  # type: ignore[no-untyped-def]  # a number or a list of them
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def node_id(register: Register) -> str:
    return f"ns=2;s=Andon.{register.name}"


def kind(register: Register) -> str:
    return "UInt32" if register.kind is Kind.U32 else "UInt16"


def length(register: Register) -> int:
    return register.slots * register.words if register.kind in registers.FIELDS else 0


@pytest.fixture(scope="module")
def plc() -> Iterator[NodeOpcua]:
    peer = NodeOpcua()
    peer.start()
    yield peer
    peer.stop()


@pytest.fixture
def pair(plc: NodeOpcua) -> Iterator[tuple[Driver, NodeOpcua]]:
    driver = make("opcua", plc.options)
    driver.open()
    driver.clear_results()
    yield driver, plc
    driver.close()


@pytest.fixture
def own_plc() -> Iterator[NodeOpcua]:
    """A PLC that the test may stop."""
    peer = NodeOpcua()
    peer.start()
    yield peer
    peer.stop()


def test_a_plc_that_freezes_and_one_that_is_gone_are_device_errors_and_opening_again_works(own_plc: NodeOpcua) -> None:
    driver = make("opcua", own_plc.options | {"timeout_ms": 500})
    driver.open()
    own_plc.freeze()
    began = time.monotonic()
    with pytest.raises(DeviceError, match=r"writing 4 words at 100: no answer within 0\.5 s"):
        driver.write_results([result(0)])
    assert 0.4 < time.monotonic() - began < 1.5
    began = time.monotonic()
    driver.close()
    assert time.monotonic() - began < 0.5
    own_plc.thaw()
    driver.open()
    driver.write_results([result(1)])
    assert result(1) in held(own_plc)
    own_plc.stop()
    with pytest.raises(DeviceError, match=str(own_plc.port)):
        driver.read_inputs()
    driver.close()
    own_plc.start()
    driver.open()
    driver.write_results([result(4)])
    assert held(own_plc) == [result(4)]
    driver.close()
    driver.close()


def test_where_nothing_listens_opening_is_a_device_error_that_names_the_place() -> None:
    driver = make("opcua", {"url": f"opc.tcp://127.0.0.1:{(port := free_port())}"})
    driver.close()
    with pytest.raises(DeviceError, match="not connected"):
        driver.read_inputs()
    with pytest.raises(DeviceError, match=str(port)):
        driver.open()
    driver.close()
    driver.close()


def test_a_plc_that_takes_the_connection_and_never_answers_is_noticed_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        driver = make("opcua", {"url": f"opc.tcp://127.0.0.1:{frozen.getsockname()[1]}", "timeout_ms": 100})
        began = time.monotonic()
        with pytest.raises(DeviceError, match="connecting"):
            driver.open()
        assert 0.05 < time.monotonic() - began < 1.0
        driver.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00" * 300,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes(range(256)),
        b"\xff" * 5,
        b"ACKF\x1c\x00\x00\x00" + b"\xff" * 20,
        b"ERRF\x10\x00\x00\x00\x00\x00\x80\x80\xff\xff\xff\xff",
        b"ACKF\x00\x00\x00\x00",
        b"ACKF\x1c\x00\x00\x00" + b"\x00\x00\x01\x00" * 5 + b"OPNF\x40\x00\x00\x00" + b"\x07" * 56,
    ],
)
def test_a_peer_that_talks_nonsense_is_a_device_error(junk: bytes) -> None:
    def talk(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(junk)
            while connection.recv(1000):  # until the driver has had enough
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        talker = threading.Thread(target=talk, args=(server,))
        talker.start()
        driver = make("opcua", {"url": f"opc.tcp://127.0.0.1:{server.getsockname()[1]}", "timeout_ms": 50})
        try:
            with pytest.raises(DeviceError, match="connecting"):
                driver.open()
        finally:
            driver.close()
            talker.join()


def test_a_map_that_is_not_as_it_must_be_is_told_at_once(plc: NodeOpcua) -> None:
    wrong = {
        "ns=2;s=nobody": r"ns=2;s=nobody: refused: BadNodeIdUnknown; see the register map",
        "ns=2;s=Andon.active_job": r"ns=2;s=Andon.active_job holds UInt16, run must be UInt32",
        "ns=2;s=Andon.results": r"ns=2;s=Andon.results holds UInt16\[1024\], run must be UInt32",
        "nsu=urn:nowhere;s=Andon.run": r"it has no namespace urn:nowhere: there are http://opcfoundation.org/UA/",
    }
    for node, message in wrong.items():
        driver = make("opcua", plc.options | {"nodes": {"run": node}})
        with pytest.raises(DeviceError, match=message):
            driver.open()
        driver.close()


def test_a_namespace_is_found_by_its_uri_whatever_its_number(plc: NodeOpcua) -> None:
    driver = make("opcua", plc.options | {"node": "nsu=urn:andon:test:plc;s=Andon.{name}"})
    driver.open()
    driver.write_results([result(9)])
    assert plc.read(registers.RESULTS, 9)[:2] == [0, 10]
    driver.close()


def test_signals_are_written_after_what_they_tell_of(plc: NodeOpcua) -> None:
    """Two requests: a server may take the values of one in any order."""
    driver = make("opcua", plc.options)
    driver.open()
    sent: list[list[str]] = []
    write = driver._words._write
    driver._words._write = lambda what, parts, words: (
        sent.append([part.register.name for part in parts]),
        write(what, parts, words),
    )
    first = registers.OUTPUTS[0].address
    words = [0] * (registers.OUTPUTS[-1].end - first)
    signals = registers.STATION_SIGNALS
    others = [register.name for register in registers.OUTPUTS if register is not signals]
    for change in (1, 1, 2):
        words[signals.address - first] = change
        driver._words.write(first, words)
    assert sent == [others, [signals.name], others, others, [signals.name]]
    assert plc.read(signals) == [2]
    driver.close()


def test_what_signals_tell_of_is_read_after_them(plc: NodeOpcua) -> None:
    driver = make("opcua", plc.options)
    driver.open()
    read = driver._words._read
    asked: list[int] = []

    def slow_plc(what: str, parts: list[object], words: list[int]) -> None:
        read(what, parts, words)
        asked.append(len(parts))
        plc.write(registers.PART_NUMBER, [0, 77])  # after the first answer

    plc.write(registers.PART_NUMBER, [0, 76])
    plc.write(registers.PLC_SIGNALS, [3])
    driver._words._read = slow_plc
    assert driver.read_inputs().part_number == 77
    driver.read_inputs()
    assert asked == [6, 5, 6]
    plc.write(registers.PLC_SIGNALS, [0])
    driver.close()


def test_what_is_no_part_of_the_map_cannot_be_written(plc: NodeOpcua) -> None:
    driver = make("opcua", plc.options)
    driver.open()
    for address, words in ((registers.RUN.address, [1]), (registers.RESULTS.address - 1, [1, 2])):
        with pytest.raises(ValueError, match=r"in the register map|cut run in two"):
            driver._words.write(address, words)
    driver.close()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"url": "http://127.0.0.1:4840"}, "expected opc.tcp://HOST:PORT"),
        ({"url": "opc.tcp://plc"}, "expected opc.tcp://HOST:PORT"),
        ({"url": "opc.tcp://me:secret@plc:4840"}, "without user and password"),
        ({"node": "ns=2;s=run"}, "expected a node id with {name}"),
        ({"node": "Andon.{name}"}, "no node id such as ns=2;s=Andon.station_heartbeat"),
        ({"nodes": {"runs": "ns=2;i=4"}}, "no such register: there are station_heartbeat"),
        ({"nodes": {"run": "four"}}, "'four' is no node id such as ns=2;s=Andon.run"),
        ({"certificate": __file__}, "belong together"),
        ({"certificate": "nowhere.pem"}, "does not point to a file"),
    ],
)
def test_options_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        opcua.Options.model_validate(values)


def certify(folder: Path, name: str, *, days: int = 1) -> None:
    """Write a self-signed certificate and its key as OPC 10000-6, 6.2.2 wants them; it ends in so many days."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.UniformResourceIdentifier(f"urn:andon:test:{name}"), x509.DNSName(socket.gethostname())]
    uses = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_cert_sign"), True
    )
    others = dict.fromkeys(("key_agreement", "crl_sign", "encipher_only", "decipher_only"), False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=9))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.KeyUsage(**uses, **others), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.SERVER_AUTH]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_certificates_and_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plc", "station", "impostor"):
        certify(tmp_path, name)
    peer = NodeOpcua(certificates=str(tmp_path), user=["andon", "s3cret"], tokenLifetime=600)
    peer.start()
    ours = {
        "certificate": str(tmp_path / "station.pem"),
        "private_key": str(tmp_path / "station.key"),
        "server_certificate": str(tmp_path / "plc.pem"),
        "user": "andon",
    }
    try:
        monkeypatch.setenv(opcua.PASSWORD_VARIABLE, "s3cret")
        driver = make("opcua", peer.options | ours)
        driver.open()
        ends = time.monotonic() + 1.2  # the channel's keys are renewed every 450 ms, while answers are waited for
        sequence = 0
        while time.monotonic() < ends:
            driver.write_results([result(sequence)])
            sequence += 1
            time.sleep(0.02)
        assert held(peer)[-1] == result(sequence - 1)
        driver.close()
        refused = [
            {"user": "nobody"},
            {"server_certificate": str(tmp_path / "impostor.pem")},
            {"certificate": None, "private_key": None, "server_certificate": None},
            {"certificate": str(tmp_path / "plc.key")},  # no certificate is in it
        ]
        for wrong in refused:
            driver = make("opcua", peer.options | ours | wrong)
            with pytest.raises(DeviceError, match="connecting"):
                driver.open()
            driver.close()
        monkeypatch.setenv(opcua.PASSWORD_VARIABLE, "wrong")
        driver = make("opcua", peer.options | ours)
        with pytest.raises(DeviceError, match="connecting"):
            driver.open()
        driver.close()
    finally:
        peer.stop()


def test_the_session_that_is_asked_for_is_short(plc: NodeOpcua) -> None:
    """A PLC has few of them: that of a station that was killed must not be kept for the library's hour."""
    driver = make("opcua", plc.options)
    driver.open()
    driver.write_outputs(StationOutputs(1, StationState.READY, 1, line_stop=False, run=1))
    assert driver._words._client.session_timeout == 30_000  # as the PLC has granted it
    driver.close()
