"""A client of any vision system that is a server of OPC 40100-1: what it does, as it happens, and its methods.

The library makes the classes of the server's structures while it runs, for the whole process: one client, one server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.events import Event
from asyncua.common.node import Node
from asyncua.common.subscription import Subscription
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.crypto.uacrypto import CertProperties
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaError

from config.errors import ConfigurationError, DeviceError, InputError
from decision.certificates import application_uri, encoding
from decision.vision import plain
from decision.vision.results import know_strings, make_types

URI: Final = "http://opcfoundation.org/UA/MachineVision"
Answer = TypeVar("Answer")
_SYSTEM: Final = 1003  # VisionSystemType
_EVENTS: Final = {  # numeric id of the event's type -> what it is called here, and the fields that it has
    1018: ("state", ()),
    1019: ("error", ()),
    1020: ("resolved", ()),
    1013: ("job", ("JobId",)),
    1022: ("recipe", ("InternalId", "ExternalId", "ProductId")),
    1023: ("ready", ("JobId",)),
    1024: (
        "result",
        (
            *("ResultId", "IsPartial", "IsSimulated", "ResultState", "MeasId", "PartId", "ExternalRecipeId"),
            *("InternalRecipeId", "ProductId", "JobId", "CreationTime", "ResultContent"),
        ),
    ),
}
_BASE: Final = ("EventType", "Time", "Message", "Severity")  # of every event
_TRANSITION: Final = ("FromState", "ToState", "Transition")
_MACHINE: Final = "VisionStateMachine"
_OWNERS: Final = (  # where methods are
    *((), (_MACHINE,), (_MACHINE, "AutomaticModeStateMachine"), ("RecipeManagement",), ("ResultManagement",)),
    *(("ConfigurationManagement",), ("SafetyStateManagement",)),
)
_DEPTH: Final = 4  # of objects below Objects, where a vision system is looked for
_QUEUE: Final = 1000  # events that the server keeps between two answers
_KEPT: Final = 10_000  # events that wait to be read
_CLOSE_S: Final = 1.0
_FAULTS: Final = (  # what comes through the library where a peer is gone, says no, or talks nonsense
    *(UaError, OSError, TimeoutError, EOFError, struct.error),
    *(ValueError, TypeError, AttributeError, LookupError, AssertionError),
)

logging.getLogger("asyncua").addHandler(logging.NullHandler())  # what it raises is told as a DeviceError, once
logging.getLogger("asyncua").propagate = False


@dataclass(frozen=True)
class Identity:
    """Who the client is, and who the server must be: with it every message is signed and encrypted."""

    certificate: Path  # PEM or DER
    private_key: Path
    server_certificate: Path


@dataclass(frozen=True)
class Picture:
    """How a vision system stands; `recipes` are those that are prepared."""

    system: str
    state: str
    recipes: tuple[str, ...]


@dataclass(frozen=True)
class Happening:
    """An event of a vision system: state, error, resolved, job, recipe, ready, result, or event: of another type."""

    kind: str
    time: datetime
    message: str
    severity: int
    fields: dict[str, object]


class VisionClient:
    """A connection to one server, in one asyncio loop. Every method raises DeviceError where it does not answer."""

    def __init__(self, url: str, identity: Identity | None = None, timeout_s: float = 4.0) -> None:
        """Name the server; `async with` connects."""
        self._url = url
        self._identity = identity
        self._client = Client(url, timeout=timeout_s)
        self._client.name = self._client.description = "Andon"
        self._client.application_uri = "urn:andon:client"
        self._happened: asyncio.Queue[Happening | None] = asyncio.Queue(_KEPT)
        self._overrun = False
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        """Connect, learn the server's types and find its vision system."""
        await self._secure()
        try:
            await self._answer("connecting", self._connect())
        except DeviceError:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self.close()

    async def close(self) -> None:
        """Say goodbye; never raises."""
        with contextlib.suppress(*_FAULTS):
            async with asyncio.timeout(_CLOSE_S):
                await self._client.disconnect()

    async def look(self) -> Picture:
        """Return how the vision system stands now."""
        return await self._answer("reading its state", self._look())

    async def call(self, method: str, given: Mapping[str, str]) -> dict[str, object]:
        """Call a method by its browse name with arguments by theirs, as text; what is not given is empty.

        Return its output arguments. InputError says that there is no such method or argument, or a value is none;
        DeviceError that it was refused, with the status.
        """
        return await self._answer(f"calling {method}", self._call(method, given))

    async def listen(self) -> None:
        """Have every event from now on kept for `happenings`."""
        await self._answer("subscribing to its events", self._subscribe())

    async def happenings(self) -> AsyncIterator[Happening]:
        """Yield the events since `listen`, as they arrive; DeviceError when the connection is lost."""
        while (happening := await self._happened.get()) is not None:
            yield happening
        why = f"more than {_KEPT} events waited" if self._overrun else "the connection is lost"
        raise DeviceError(f"{self._url}: {why}")

    async def _secure(self) -> None:
        if self._identity is None:
            return
        try:
            own, key, server = (
                CertProperties(content := file.read_bytes(), encoding(content))
                for file in (self._identity.certificate, self._identity.private_key, self._identity.server_certificate)
            )
            content = self._identity.certificate.read_bytes()
            self._client.application_uri = application_uri(content) or self._client.application_uri
            await self._client.set_security(SecurityPolicyBasic256Sha256, own, key, server_certificate=server)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"certificates and key cannot be read: {error}") from error

    async def _connect(self) -> None:
        self._client.connection_lost_callback = self._lost
        await self._client.connect()
        names = await self._client.get_namespace_array()
        if URI not in names:
            raise DeviceError(f"{self._url}: no vision system of OPC 40100-1: it has no namespace {URI}")
        self._vision = names.index(URI)
        know_strings(self._vision)
        await self._client.load_data_type_definitions()
        make_types(self._vision)
        self._system = await self._find()
        self._name = str((await self._system.read_browse_name()).Name)

    async def _find(self) -> Node:
        """Return the first object of VisionSystemType, or of a type made of it, that lies below Objects."""
        wanted = {self._id(_SYSTEM)}
        kinds = [self._client.get_node(self._id(_SYSTEM))]
        for kind in kinds:
            kinds += [one for one in await kind.get_children(ObjectIds.HasSubtype) if one.nodeid not in wanted]
            wanted |= {one.nodeid for one in kinds}
        level = [self._client.nodes.objects]
        for _ in range(_DEPTH):
            below = [
                child
                for node in level
                for child in await node.get_children_descriptions(nodeclassmask=ua.NodeClass.Object)
                if child.NodeId != ua.NodeId(ua.Int32(ObjectIds.Server))
            ]
            for child in below:
                if child.TypeDefinition in wanted:
                    return self._client.get_node(child.NodeId)
            level = [self._client.get_node(child.NodeId) for child in below]
        raise DeviceError(f"{self._url}: it knows OPC 40100-1 and has no object of VisionSystemType")

    async def _look(self) -> Picture:
        state = await self._state(_MACHINE)
        if state == "Operational":
            state = await self._state(_MACHINE, "AutomaticModeStateMachine") or state
        return Picture(self._name, state, await self._prepared())

    async def _state(self, *path: str) -> str:
        try:
            node = await self._member(*path)
            value = await (await node.get_child("0:CurrentState")).read_data_value(raise_on_bad_status=False)
        except ua.uaerrors.BadNoMatch:
            return ""
        return value.Value.Value.Text or "" if value.Value and value.Value.Value else ""

    async def _prepared(self) -> tuple[str, ...]:
        """Ask for the recipes that are prepared; a system without recipe management has none."""
        try:
            management = await self._member("RecipeManagement")
            method = await management.get_child(f"{self._vision}:GetRecipeListFiltered")
        except ua.uaerrors.BadNoMatch:
            return ()
        taken, given = await plain.arguments(self._client, method, {"IsPrepared": "1"})
        answer = await self._raw_call(management, method, given)
        recipes = dict(zip((one.Name for one in taken.outputs), answer, strict=False)).get("RecipeList")
        return tuple(str(one.Id) for one in (recipes.Value if recipes else None) or ())

    async def _call(self, name: str, given: Mapping[str, str]) -> dict[str, object]:
        known: set[str] = set()
        for path in _OWNERS:
            try:
                owner = await self._member(*path)
            except ua.uaerrors.BadNoMatch:
                continue
            for method in await owner.get_methods():
                found = str((await method.read_browse_name()).Name)
                known.add(found)
                if found == name:
                    taken, values = await plain.arguments(self._client, method, given)
                    answer = await self._raw_call(owner, method, values)
                    return {
                        str(one.Name): plain.value(variant) for one, variant in zip(taken.outputs, answer, strict=False)
                    }
        raise InputError(f"{name}: {self._name} has no such method: it has {', '.join(sorted(known))}")

    async def _raw_call(self, owner: Node, method: Node, given: list[ua.Variant]) -> list[ua.Variant]:
        request = ua.CallMethodRequest(ObjectId=owner.nodeid, MethodId=method.nodeid, InputArguments=given)
        (result,) = await self._client.uaclient.call([request])
        result.StatusCode.check()
        return list(result.OutputArguments or [])

    async def _subscribe(self) -> None:
        notifier = self._system
        if ua.EventNotifier.SubscribeToEvents not in await notifier.read_event_notifier():
            notifier = self._client.nodes.server  # which tells the events of all
        fields = ua.EventFilter(SelectClauses=[self._clause(*one) for one in self._fields()])
        self._subscription = await self._client.create_subscription(100, self)
        await self._subscription.subscribe_events(notifier, evfilter=fields, queuesize=_QUEUE)

    def _fields(self) -> list[tuple[ua.NodeId, int, str]]:
        """Return what is asked of every event: the type that has the field, its namespace and its name."""
        base, transition = (
            ua.NodeId(ua.Int32(one)) for one in (ObjectIds.BaseEventType, ObjectIds.TransitionEventType)
        )
        own = [(self._id(kind), self._vision, name) for kind, (_, names) in _EVENTS.items() for name in names]
        return [*((base, 0, name) for name in _BASE), *((transition, 0, name) for name in _TRANSITION), *own]

    def _clause(self, kind: ua.NodeId, namespace: int, name: str) -> ua.SimpleAttributeOperand:
        path = [ua.QualifiedName(name, ua.UInt16(namespace))]
        return ua.SimpleAttributeOperand(TypeDefinitionId=kind, BrowsePath=path, AttributeId=AttributeIds.Value)

    def event_notification(self, event: Event) -> None:
        """Take an event from the library; its fields stand in the order of `_fields`."""
        values = event.event_fields or []
        told: dict[str, object] = {}
        for (_, _, name), variant in zip(self._fields(), values, strict=True):
            if variant.Value is not None:
                told.setdefault(name, plain.value(variant))
        event_type = values[0].Value
        ours = isinstance(event_type, ua.NodeId) and event_type.NamespaceIndex == self._vision
        kind, _ = _EVENTS.get(event_type.Identifier if ours else 0, ("event", ()))
        severity = values[3].Value
        happening = Happening(
            kind=kind,
            time=values[1].Value or datetime.now(UTC),
            message=str(told.get("Message") or ""),
            severity=severity if isinstance(severity, int) else 0,
            fields={name: value for name, value in told.items() if name not in _BASE},
        )
        try:
            self._happened.put_nowait(happening)
        except asyncio.QueueFull:
            self._overrun = True

    async def _lost(self, _error: Exception) -> None:
        await self._happened.put(None)

    async def _member(self, *path: str) -> Node:
        return await self._system.get_child([f"{self._vision}:{name}" for name in path]) if path else self._system

    def _id(self, number: int) -> ua.NodeId:
        return ua.NodeId(ua.Int32(number), ua.Int16(self._vision))

    async def _answer(self, what: str, asked: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            return await asked
        except _FAULTS as error:
            raise DeviceError(f"{self._url}: {what}: {error if str(error) else type(error).__name__}") from error
