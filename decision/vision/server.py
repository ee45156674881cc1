"""The address space of OPC 40100-1 (Machine Vision 1.0), filled with one station; lives in one asyncio loop.

The types are the OPC Foundation's own file (MIT licence, unchanged). It can be looked at and not be changed: methods
that control a vision system answer BadNotSupported, for here the PLC leads.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.common.node import Node
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.event_generator import EventGenerator
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua.status_codes import StatusCodes

from config import recipe as recipes
from config.errors import ConfigurationError
from config.messages import Verdict
from config.station import Station
from decision.certificates import application_uri, encoding
from decision.vision.methods import Answers, not_supported, variant_type
from decision.vision.results import Results, make_types, recipe_id, result_of, types
from decision.vision.states import Transition, VisionState, path

URI: Final = "http://opcfoundation.org/UA/MachineVision"
_NODESET: Final = Path(__file__).with_name("Opc.Ua.MachineVision.NodeSet2.xml.gz")
_TYPES: Final = {  # numeric ids in the nodeset
    "VisionSystemType": 1003,
    "RecipeManagementType": 1004,
    "ResultManagementType": 1007,
    "RecipeFolderType": 1008,
    "RecipeType": 1002,
    "VisionStateMachineType": 1017,
    "VisionAutomaticModeStateMachineType": 1021,
    "StateChangedEventType": 1018,
    "ErrorEventType": 1019,
    "ErrorResolvedEventType": 1020,
    "RecipePreparedEventType": 1022,
    "ReadyEventType": 1023,
    "JobStartedEventType": 1013,
    "ResultReadyEventType": 1024,
}
_INFORMATION, _ALARM = 100, 700  # severities

logging.getLogger("asyncua").addHandler(logging.NullHandler())  # what it raises is told by the service, once
logging.getLogger("asyncua").propagate = False


class _Onlookers(UserManager):
    """Everybody may look and nobody may change anything."""

    def get_user(
        self,
        iserver: object,  # noqa: ARG002 - the library's signature
        username: str | None = None,  # noqa: ARG002 - as above
        password: str | None = None,  # noqa: ARG002 - as above
        certificate: object = None,  # noqa: ARG002 - as above
    ) -> User | None:
        """Return who is asking."""
        return User(role=UserRole.User)


@dataclass
class _Machine:
    """A state machine's nodes and the states and transitions of its type."""

    current: Node
    current_id: Node
    members: dict[str, ua.NodeId]

    async def enter(self, name: str | None) -> None:
        """Show a state; None where the machine above has left the one that it belongs to."""
        if name is None:
            null = ua.StatusCode(ua.UInt32(StatusCodes.BadStateNotActive))
            await self.current.write_value(ua.DataValue(ua.Variant(None), StatusCode=null))
            await self.current_id.write_value(ua.DataValue(ua.Variant(None), StatusCode=null))
            return
        await self.current.write_value(ua.LocalizedText(name))
        await self.current_id.write_value(self.members[name])


class VisionServer:
    """A station as a vision system. `open` first, then tell it what happens; all in the same loop."""

    def __init__(self, station: Station) -> None:
        """Name the station; recipes are read from its files."""
        self._station = station
        self._recipes = station.read_recipes()
        self._uri = f"urn:andon:{station.line}:{station.station}"
        self._server = Server(user_manager=_Onlookers())
        self._results = Results()
        self._turn = asyncio.Lock()  # one transition or event after the other, in the order in which they were told
        self._state = VisionState.PREOPERATIONAL
        self._job = 0
        self._answers = Answers(self._results, self._recipes)
        self._is_prepared: dict[str, Node] = {}

    async def open(self) -> None:
        """Build the address space and listen; raise ConfigurationError where that cannot be."""
        section = self._station.opcua
        if section is None:
            raise ConfigurationError("the station file has no [opcua]: there is nothing to serve")
        server = self._server
        await server.init()
        server.set_endpoint(f"opc.tcp://{section.host}:{section.port}/")
        server.set_server_name(f"Andon {self._station.station}")
        await server.set_application_uri(self._uri)
        await self._secure()
        await server.import_xml(xmlstring=gzip.decompress(_NODESET.read_bytes()).decode())
        await self._build()
        try:
            await server.start()
        except OSError as error:
            raise ConfigurationError(f"opcua: {section.host}:{section.port}: cannot listen: {error}") from error

    async def close(self) -> None:
        """Say goodbye to every client."""
        await self._server.stop()

    async def stand(self, state: VisionState, why: str, prepared: str | None) -> None:
        """Go to a state by the standard's transitions; `prepared` is the recipe that parts are judged by."""
        async with self._turn:
            if prepared != self._answers.prepared:
                await self._prepare(prepared)
            for transition in path(self._state, state):
                await self._go(transition, why)

    async def judged(self, verdict: Verdict) -> None:
        """Keep a part's result and tell that it is ready."""
        known = self._recipes.get(verdict.recipe)
        result = result_of(verdict, known.job if known else None, self._job_id)
        self._results.add(result)
        fields = {name: getattr(result, name) for name in _RESULT_FIELDS}
        async with self._turn:
            await self._tell("ResultReadyEventType", f"{verdict.part_id} {verdict.verdict}", fields)

    async def _secure(self) -> None:
        section = self._station.opcua
        if section is None or section.certificate is None or section.private_key is None:
            self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
            return
        try:
            content, key = section.certificate.read_bytes(), section.private_key.read_bytes()
            await self._server.set_application_uri(application_uri(content) or self._uri)
            await self._server.load_certificate(content, encoding(content))
            await self._server.load_private_key(key, format=encoding(key))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"opcua: certificate and private_key cannot be read: {error}") from error
        self._server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])

    async def _build(self) -> None:
        server = self._server
        self._vision = await server.get_namespace_index(URI)
        make_types(self._vision)
        self._own = await server.register_namespace(f"{self._uri}:vision")
        name = ua.QualifiedName(self._station.station, ua.UInt16(self._own))
        system = await server.nodes.objects.add_object(
            self._id("VisionSystem"), name, objecttype=self._type("VisionSystemType"), instantiate_optional=False
        )
        self._system = system
        machine = await system.get_child(f"{self._vision}:VisionStateMachine")
        automatic = await self._add(
            machine,
            "VisionSystem.VisionStateMachine",
            self._named("AutomaticModeStateMachine"),
            "VisionAutomaticModeStateMachineType",
        )
        self._machines = (
            await self._machine(machine, "VisionStateMachineType"),
            await self._machine(automatic, "VisionAutomaticModeStateMachineType"),
        )
        await self._machines[0].enter(VisionState.PREOPERATIONAL)
        await self._machines[1].enter(None)
        results = await self._add(system, "VisionSystem", self._named("ResultManagement"), "ResultManagementType")
        management = await self._add(system, "VisionSystem", self._named("RecipeManagement"), "RecipeManagementType")
        folder = await self._add(
            management, "VisionSystem.RecipeManagement", self._named("Recipes"), "RecipeFolderType"
        )
        for recipe in self._recipes:
            await self._add_recipe(folder, recipe)
        offered: dict[str, Callable[..., Any]] = {
            "GetResultById": self._answers.get_result,
            "GetResultComponentsById": self._answers.get_components,
            "GetResultListFiltered": self._answers.list_results,
            "GetRecipeListFiltered": self._answers.list_recipes,
        }
        for owner in (machine, automatic, results, management, *await folder.get_children()):
            for method in await owner.get_methods():
                callback = offered.get(str((await method.read_browse_name()).Name), not_supported)
                server.link_method(method, callback)
        self._events: dict[str, EventGenerator] = {}
        for event in (name for name in _TYPES if name.endswith("EventType")):
            self._events[event] = await server.get_event_generator(self._type(event), emitting_node=system.nodeid)

    async def _add(self, parent: Node, within: str, name: ua.QualifiedName, kind: str) -> Node:
        """Add an object of the standard's type, without its optional members."""
        node_id = self._id(f"{within}.{name.Name}")
        return await parent.add_object(node_id, name, objecttype=self._type(kind), instantiate_optional=False)

    def _named(self, name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, ua.UInt16(self._vision))

    async def _machine(self, node: Node, kind: str) -> _Machine:
        current = await node.get_child("0:CurrentState")
        members = await self._server.get_node(self._type(kind)).get_children(nodeclassmask=ua.NodeClass.Object)
        names = {str((await member.read_browse_name()).Name): member.nodeid for member in members}
        return _Machine(current, await current.get_child("0:Id"), names)

    async def _add_recipe(self, folder: Node, name: str) -> None:
        recipe, file = self._recipes[name], self._station.recipes[name]
        own_name = ua.QualifiedName(name, ua.UInt16(self._own))
        node = await self._add(folder, "VisionSystem.RecipeManagement.Recipes", own_name, "RecipeType")
        digest = recipes.digest(recipes.content(recipe))
        modified = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        internal = recipe_id(name, recipe, digest)
        self._answers.ids[name] = internal
        await (await node.get_child(f"{self._vision}:InternalId")).write_value(internal)
        await (await node.get_child(f"{self._vision}:LastModified")).write_value(modified)
        self._is_prepared[name] = await node.get_child(f"{self._vision}:IsPrepared")
        await self._is_prepared[name].write_value(False)

    async def _prepare(self, name: str | None) -> None:
        if self._state is VisionState.CONTINUOUS_EXECUTION:
            for transition in path(self._state, VisionState.INITIALIZED):
                await self._go(transition, "changeover")
        for other, node in self._is_prepared.items():
            await node.write_value(other == name)
        self._answers.prepared = name
        if name is not None:
            fields = {
                "InternalId": self._answers.ids[name],
                "ExternalId": types.RecipeIdExternalDataType(Id=self._job_of(name)),
            }
            await self._tell("RecipePreparedEventType", f"recipe {name}", fields)

    async def _go(self, transition: Transition, why: str) -> None:
        vision, automatic = self._machines
        machine = automatic if transition.automatic else vision
        self._state = target = transition.target
        await vision.enter("Operational" if target.automatic else target)
        await automatic.enter(target if target.automatic else None)
        source, name = transition.source, transition.name
        fields = {
            "FromState": ua.LocalizedText(source if transition.automatic or not source.automatic else "Operational"),
            "ToState": ua.LocalizedText(target if transition.automatic or not target.automatic else "Operational"),
            "Transition": ua.LocalizedText(name),
            "Transition/Id": machine.members[name],
        }
        await self._tell("StateChangedEventType", f"{name}: {why}" if why else name, fields)
        if target is VisionState.ERROR:
            await self._tell("ErrorEventType", why or "error", fields, _ALARM)
        elif source is VisionState.ERROR:
            await self._tell("ErrorResolvedEventType", "error resolved", fields)
        elif target is VisionState.READY:
            self._job += source is VisionState.INITIALIZED
            await self._tell("ReadyEventType", "ready", {"JobId": types.JobIdDataType(Id=self._job_id)})
        elif target is VisionState.CONTINUOUS_EXECUTION:
            await self._tell("JobStartedEventType", self._job_id, {"JobId": types.JobIdDataType(Id=self._job_id)})

    async def _tell(self, kind: str, message: str, fields: Mapping[str, Any], severity: int = _INFORMATION) -> None:
        generator = self._events[kind]
        for name, value in fields.items():
            generator.event.add_property(name, value, variant_type(value))
        generator.event.Severity = severity
        await generator.trigger(message=message)

    @property
    def _job_id(self) -> str:
        return f"{self._station.station}-{self._job}"

    def _job_of(self, name: str) -> str:
        return str(self._recipes[name].job)

    def _id(self, text: str) -> ua.NodeId:
        return ua.NodeId(ua.String(text), ua.Int16(self._own))

    def _type(self, name: str) -> ua.NodeId:
        return ua.NodeId(ua.Int32(_TYPES[name]), ua.Int16(self._vision))


_RESULT_FIELDS: Final = (
    *("ResultId", "IsPartial", "IsSimulated", "ResultState", "PartId", "ExternalRecipeId", "InternalRecipeId"),
    *("ProductId", "InternalConfigurationId", "JobId", "CreationTime", "ProcessingTimes", "ResultContent"),
)
