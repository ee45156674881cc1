"""OPC UA: the PLC is the server and holds the register map as variables, one for each register of the table.

A register of one word is a UInt16, an unsigned 32-bit value a UInt32, a result an array of UInt16 with its words, and a
ring one with its slots, one behind the other; parts of it go by index range (OPC 10000-4, 7.27).

The library (asyncua, LGPL-3.0-or-later) is an extra of its own, `opcua`: only this file and decision/vision import it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.crypto.uacrypto import CertProperties
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError
from pydantic import BaseModel, ConfigDict, Field, FilePath, field_validator, model_validator

from config.errors import DeviceError
from decision import registers
from decision.certificates import application_uri, encoding
from decision.registers import Kind, Register
from decision.words import WordsDriver

Answer = TypeVar("Answer")

PASSWORD_VARIABLE = "ANDON_PLC_PASSWORD"  # noqa: S105 - where the password is, not what it is
_OPENING = 10  # answers' times that connecting may take: hello, channel, session, its activation, names, first values
_CLOSE_S = 0.1
_SESSION_MS = 30_000  # after which the PLC forgets a station that was killed; the link asks many times a second
_SELDOM_S = 3600.0  # the library's own look whether the PLC answers: the link's polling does that
# what comes through the library where a peer is gone, says no, or talks nonsense
_FAULTS = (
    *(UaError, OSError, TimeoutError, EOFError, struct.error),
    *(ValueError, TypeError, AttributeError, LookupError, AssertionError),
)

# the library also logs what it raises; the link says it, once
logging.getLogger("asyncua").addHandler(logging.NullHandler())
logging.getLogger("asyncua").propagate = False


class Options(BaseModel):
    """Where the PLC is, how its variables are named, and who the station is to it.

    With a certificate every message is signed and encrypted (Basic256Sha256); the PLC's own must be the one named, so
    that nobody else is taken for it. A user's password is in the environment, as ANDON_PLC_PASSWORD.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    url: str = "opc.tcp://127.0.0.1:4840"
    node: str = "ns=2;s=Andon.{name}"  # node id of a register's variable; nsu=URI instead of ns=NUMBER is taken, too
    nodes: dict[str, str] = {}  # register -> node id, where it is another
    timeout_ms: int = Field(default=200, ge=10, le=5000)  # of one answer
    user: str | None = None
    certificate: FilePath | None = None  # the station's (PEM or DER) …
    private_key: FilePath | None = None
    server_certificate: FilePath | None = None  # … and the PLC's

    @field_validator("url")
    @classmethod
    def _an_endpoint(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "opc.tcp" or not parts.hostname or not parts.port or parts.username or parts.password:
            raise ValueError(f"expected opc.tcp://HOST:PORT without user and password, not {url!r}")
        return url

    @field_validator("node")
    @classmethod
    def _names_the_register(cls, node: str) -> str:
        if "{name}" not in node:
            raise ValueError(f"expected a node id with {{name}} for the register's name, not {node!r}")
        return node

    @model_validator(mode="after")
    def _whole(self) -> Self:
        known = [register.name for register in registers.TABLE]
        for name in self.nodes:
            if name not in known:
                raise ValueError(f"nodes.{name}: no such register: there are {', '.join(known)}")
        for register in registers.TABLE:
            self.node_id(register)
        given = [self.certificate is not None, self.private_key is not None, self.server_certificate is not None]
        if any(given) and not all(given):
            raise ValueError("certificate, private_key and server_certificate belong together")
        return self

    def node_id(self, register: Register) -> ua.NodeId:
        """Return the node id of a register's variable; ValueError where the text is none."""
        text = self.nodes.get(register.name, self.node.replace("{name}", register.name))
        try:
            return ua.NodeId.from_string(text)
        except (UaError, ValueError) as error:
            raise ValueError(f"{text!r} is no node id such as ns=2;s=Andon.{register.name}: {error}") from error


class Driver(WordsDriver):
    """A PLC that is an OPC UA server."""

    def __init__(self, options: Options) -> None:
        """Name the PLC; `open` connects."""
        super().__init__(_Variables(options))


class _Variables:
    """The map's words, in variables.

    The library's event loop runs inside each call, in the caller's thread: nothing waits for another thread, and what
    the library does by itself (renew the channel's keys) is done while an answer is waited for.
    """

    words_per_read = words_per_write = max(register.end for register in registers.TABLE)

    def __init__(self, options: Options) -> None:
        self._options = options
        self._where = f"PLC {options.url}"
        self._timeout_s = options.timeout_ms / 1000
        self._runner: asyncio.Runner | None = None
        self._client: Client | None = None
        self._ids: dict[str, ua.NodeId] = {}
        self._written: dict[str, int] = {}  # signals, over this connection
        self._seen: dict[str, int] = {}

    def open(self) -> None:
        self.close()
        self._written.clear()
        self._seen.clear()
        self._runner = asyncio.Runner()
        self._run(_within(self._connect(), _OPENING * self._timeout_s), "connecting")
        ours = dict.fromkeys((*registers.OUTPUTS, *registers.INPUTS, registers.RESULTS, registers.OUTCOMES))
        whole = [part for one in ours for part in _parts(one.address, one.end - one.address)]
        list(self._values("looking at the map", whole))  # so that what is missing or of another type is told at once

    def close(self) -> None:
        runner, client = self._runner, self._client
        self._runner = self._client = None
        if runner is None:
            return
        with contextlib.suppress(*_FAULTS):
            if client is not None:
                runner.get_loop().run_until_complete(_leave(client))
        runner.close()

    def write(self, address: int, words: list[int]) -> None:
        """Write; signals last and only where they change: variables that are written together need not arrive so."""
        what = f"writing {len(words)} words at {address}"
        parts = list(_parts(address, len(words)))
        signals = {part.register.name: words[part.offset] for part in parts if part.signals}
        news = [part for part in parts if part.signals and self._written.get(part.register.name) != words[part.offset]]
        for together in ([part for part in parts if not part.signals], news):
            if together:
                self._write(what, together, words)
        self._written.update(signals)

    def _write(self, what: str, parts: Sequence[_Part], words: Sequence[int]) -> None:
        session = self._connected(what).uaclient
        values = [
            ua.WriteValue(self._ids[part.register.name], AttributeIds.Value, part.index_range, part.data_value(words))
            for part in parts
        ]
        answers = self._run(session.write(ua.WriteParameters(values)), what)
        self._check(what, [value.NodeId for value in values], answers)

    def read(self, address: int, count: int) -> list[int]:
        """Read; where signals have changed, what they tell of is read once more: it may have been read before them."""
        what = f"reading {count} words at {address}"
        parts = list(_parts(address, count))
        words = [0] * count
        self._read(what, parts, words)
        signals = {part.register.name: words[part.offset] for part in parts if part.signals}
        if any(self._seen.get(name) != word for name, word in signals.items()):
            self._read(what, [part for part in parts if not part.signals], words)
            self._seen.update(signals)
        return words

    def _read(self, what: str, parts: Sequence[_Part], words: list[int]) -> None:
        for part, value in zip(parts, self._values(what, parts), strict=True):
            words[part.offset : part.offset + part.count] = value

    def _values(self, what: str, parts: Sequence[_Part]) -> Iterator[list[int]]:
        session = self._connected(what).uaclient
        wanted = [ua.ReadValueId(self._ids[part.register.name], AttributeIds.Value, part.index_range) for part in parts]
        answers = self._run(session.read(ua.ReadParameters(NodesToRead=wanted)), what)
        self._check(what, [one.NodeId for one in wanted], [answer.StatusCode for answer in answers])
        for part, answer in zip(parts, answers, strict=True):
            words = part.words(answer.Value)
            if words is None:
                raise self._error(
                    what,
                    f"{self._ids[part.register.name].to_string()} holds {_described(answer.Value)}, "
                    f"{part.register.name} must be {part.described}",
                )
            yield words

    async def _connect(self) -> None:
        options = self._options
        client = Client(options.url, timeout=self._timeout_s, watchdog_intervall=_SELDOM_S)
        client.name = client.description = "Andon"
        client.application_uri = "urn:andon:station"
        client.session_timeout = _SESSION_MS
        if options.user is not None:
            client.set_user(options.user)
            client.set_password(os.environ.get(PASSWORD_VARIABLE, ""))
        if options.certificate and options.private_key and options.server_certificate:
            client.application_uri = application_uri(options.certificate.read_bytes()) or client.application_uri
            await client.set_security(
                SecurityPolicyBasic256Sha256,
                *(_content(options.certificate), _content(options.private_key)),
                server_certificate=_content(options.server_certificate),
            )
        self._client = client
        await client.connect()
        namespaces = await client.get_namespace_array()
        self._ids = {
            register.name: self._present(options.node_id(register), namespaces) for register in registers.TABLE
        }

    def _present(self, node_id: ua.NodeId, namespaces: Sequence[str]) -> ua.NodeId:
        """Return a node id with the number that its namespace has on this server now."""
        uri = getattr(node_id, "NamespaceUri", None)
        if uri is None:
            return node_id
        if uri not in namespaces:
            raise DeviceError(f"{self._where}: it has no namespace {uri}: there are {', '.join(namespaces)}")
        return ua.NodeId(node_id.Identifier, ua.Int16(namespaces.index(uri)), node_id.NodeIdType)

    def _connected(self, what: str) -> Client:
        if self._client is None:
            raise self._error(what, "not connected")
        return self._client

    def _run(self, call: Coroutine[Any, Any, Answer], what: str) -> Answer:
        if self._runner is None:
            call.close()
            raise self._error(what, "not connected")
        try:
            return self._runner.get_loop().run_until_complete(call)
        except TimeoutError as error:
            raise self._error(what, f"no answer within {self._timeout_s:g} s") from error
        except _FAULTS as error:
            raise self._error(what, error if str(error) else type(error).__name__) from error

    def _check(self, what: str, ids: Sequence[ua.NodeId], answers: Sequence[ua.StatusCode | None]) -> None:
        if len(answers) != len(ids):
            raise self._error(what, f"{len(answers)} answers came for {len(ids)} variables")
        for node_id, answer in zip(ids, answers, strict=True):
            if answer is not None and not answer.is_good():
                raise self._error(what, f"{node_id.to_string()}: refused: {answer.name}; see the register map")

    def _error(self, what: str, why: object) -> DeviceError:
        return DeviceError(f"{self._where}: {what}: {why}")


@dataclass(frozen=True)
class _Part:
    """Words of one register that lie in a request."""

    register: Register
    first: int  # of the register's words
    count: int
    offset: int  # in the request

    @property
    def whole(self) -> bool:
        return self.count == self.register.end - self.register.address

    @property
    def is_array(self) -> bool:
        return self.register.kind in registers.FIELDS

    @property
    def signals(self) -> bool:
        return self.register.kind is Kind.FLAGS

    @property
    def index_range(self) -> str | None:
        if self.whole:
            return None
        return f"{self.first}:{self.first + self.count - 1}" if self.count > 1 else str(self.first)

    @property
    def kind(self) -> ua.VariantType:
        return ua.VariantType.UInt32 if self.register.kind is Kind.U32 else ua.VariantType.UInt16

    @property
    def described(self) -> str:
        return f"{self.kind.name}[{self.count}]" if self.is_array else self.kind.name

    def data_value(self, words: Sequence[int]) -> ua.DataValue:
        """Return what to write of a request's words."""
        own = list(words[self.offset : self.offset + self.count])
        if self.is_array:
            return ua.DataValue(ua.Variant(own, self.kind, is_array=True))
        return ua.DataValue(ua.Variant(registers.value(own) if self.register.kind is Kind.U32 else own[0], self.kind))

    def words(self, variant: ua.Variant | None) -> list[int] | None:
        """Return the words that were read; None where they are of another type or number."""
        if variant is None or variant.VariantType is not self.kind or variant.is_array is not self.is_array:
            return None
        if not self.is_array:
            return registers.words(variant.Value) if self.register.kind is Kind.U32 else [variant.Value]
        return list(variant.Value) if len(variant.Value) == self.count else None


def _parts(address: int, count: int) -> Iterator[_Part]:
    """Yield what a request covers of each register; ValueError where it covers half of a value or nobody's words."""
    covered = 0
    for register in registers.TABLE:
        first, end = max(address, register.address), min(address + count, register.end)
        if first < end:
            part = _Part(register, first - register.address, end - first, first - address)
            if not part.whole and not part.is_array:
                raise ValueError(f"words {address} to {address + count - 1} cut {register.name} in two")
            covered += part.count
            yield part
    if covered != count:
        raise ValueError(f"words {address} to {address + count - 1} are not all in the register map")


def _described(variant: ua.Variant | None) -> str:
    if variant is None:
        return "nothing"
    return f"{variant.VariantType.name}[{len(variant.Value or ())}]" if variant.is_array else variant.VariantType.name


def _content(path: Path) -> CertProperties:
    content = path.read_bytes()
    return CertProperties(content, encoding(content))


async def _within(call: Coroutine[Any, Any, Answer], within_s: float) -> Answer:
    try:
        async with asyncio.timeout(within_s):
            return await call
    except asyncio.CancelledError as error:  # of a kind of wait_for2's own, which asyncio.timeout does not know for its
        raise TimeoutError from error


async def _leave(client: Client) -> None:
    try:
        await _within(client.disconnect(), _CLOSE_S)
    finally:
        protocol = client.uaclient.protocol
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
