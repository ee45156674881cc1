"""The address space of OPC 40100-1 (Machine Vision 1.0), filled with one station; lives in one asyncio loop.

The types are the OPC Foundation's own file (MIT licence, unchanged). Everybody may look; the methods that control the
station are for those who are known by their certificates, and the decision stage carries them out, or does not.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.event_generator import EventGenerator
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from config import recipe as recipes
from config.errors import ConfigurationError
from config.messages import Control, Controlled, Reason, Standing, Verdict
from config.recipe import Recipe
from config.station import Station
from decision.certificates import application_uri, encoding
from decision.vision import arguments
from decision.vision.callers import Callers, Sessions
from decision.vision.methods import Answers, variant_type
from decision.vision.orders import Denied, Job, Orders
from decision.vision.results import Results, configuration, make_types, recipe_id, result_of, types
from decision.vision.states import Transition, VisionState, path

URI: Final = "http://opcfoundation.org/UA/MachineVision"
_NODESET: Final = Path(__file__).with_name("Opc.Ua.MachineVision.NodeSet2.xml.gz")
_TYPES: Final = {  # numeric ids in the nodeset
    "VisionSystemType": 1003,
    "ConfigurationManagementType": 1006,
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
_OPTIONAL: Final = {  # methods that the station has, on their types
    "VisionStateMachine": (7095,),  # SelectModeAutomatic
    "RecipeManagement": (7060, 7059, 7056),  # PrepareProduct, UnprepareProduct, ReleaseRecipeHandle
    "ResultManagement": (7090,),  # ReleaseResultHandle
}
_INFORMATION, _ALARM = 100, 700  # severities

logging.getLogger("asyncua").addHandler(logging.NullHandler())  # what it raises is told by the service, once
logging.getLogger("asyncua").propagate = False


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


class InForce(NamedTuple):
    """The version of a recipe that counts, and when it was last modified."""

    recipe: Recipe
    modified: datetime


class VisionServer:
    """A station as a vision system. `open` first, then tell it what happens; all in the same loop."""

    def __init__(
        self,
        station: Station,
        modified: datetime,
        versions: Mapping[str, InForce],
        send: Callable[[Control | Denied], None],
    ) -> None:
        """Name the station, last `modified` then, and its recipes as they are in force. Orders are handed to `send`."""
        self._station = station
        self._modified = modified
        self._versions = dict(versions)
        self._recipes = {name: version.recipe for name, version in versions.items()}
        self._uri = f"urn:andon:{station.line}:{station.station}"
        controllers = station.opcua.controllers if station.opcua else {}
        self._server = Server(iserver=Sessions(user_manager=Callers(controllers)))
        self._results = Results()
        self._turn = asyncio.Lock()  # one transition or event after the other, in the order in which they were told
        self._state = VisionState.PREOPERATIONAL
        self._order: int | None = None  # the last one that is shown
        self._job = Job()
        self._answers = Answers(self._results, self._recipes)
        self._orders = Orders(send, self._answers, lambda: self._job_id)
        self._shown: dict[str, Node] = {}
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

    async def stand(self, state: VisionState, why: str, standing: Standing | None) -> None:
        """Go to a state by the standard's transitions, automatic ones or those of an order that is not shown yet."""
        async with self._turn:
            prepared, method = None, ""
            if standing is not None:
                prepared = standing.recipe
                method = standing.method if self._order not in (None, standing.order) else ""
                self._order = standing.order
            if prepared != self._answers.prepared:
                await self._prepare(prepared, method)
            for transition in path(self._state, state, method):
                await self._go(transition, why)

    async def renew(self, versions: Mapping[str, InForce]) -> None:
        """Show the recipes in the versions that are in force now; those of a name that was not there are left out."""
        async with self._turn:
            for name in self._versions:
                if name not in versions or versions[name] == self._versions[name]:
                    continue
                self._versions[name], self._recipes[name] = versions[name], versions[name].recipe
                await self._describe(name)
                if name == self._answers.prepared:
                    await self._tell_prepared(name)

    async def answered(self, answer: Controlled) -> None:
        """Tell the client what became of its order, once that is shown."""
        async with self._turn:
            self._orders.answered(answer)

    async def judged(self, verdict: Verdict) -> None:
        """Keep a part's result and tell that it is ready."""
        known = self._recipes.get(verdict.recipe)
        job = self._job if Reason.STOPPED not in verdict.reasons else Job(self._job.number)  # that part is no job's
        result = result_of(verdict, known.job if known else None, self._job_id, job.meas_id, job.part_id)
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
        management = [
            await self._add(system, "VisionSystem", self._named(name), f"{name}Type")
            for name in ("ResultManagement", "RecipeManagement", "ConfigurationManagement")
        ]
        await self._offer({**self._answers.methods(), **self._orders.methods()}, machine, automatic, *management)
        recipe_management = management[1]
        folder = await self._add(
            recipe_management, "VisionSystem.RecipeManagement", self._named("Recipes"), "RecipeFolderType"
        )
        for recipe in self._recipes:
            await self._offer(self._orders.of_recipe(recipe), await self._add_recipe(folder, recipe))
        content = self._station.model_dump_json().encode()
        self._answers.configuration = configuration(self._station.station, content, self._modified)
        self._events: dict[str, EventGenerator] = {}
        for event in (name for name in _TYPES if name.endswith("EventType")):
            self._events[event] = await server.get_event_generator(self._type(event), emitting_node=system.nodeid)

    async def _offer(self, methods: Mapping[str, arguments.Method], *owners: Node) -> None:
        """Link the methods of objects, with those that the standard leaves open."""
        for owner in owners:
            for optional in _OPTIONAL.get(str((await owner.read_browse_name()).Name), ()):
                method = ua.NodeId(ua.Int32(optional), ua.Int16(self._vision))
                await owner.add_reference(method, ua.NodeId(ua.Int32(ObjectIds.HasComponent)), bidirectional=False)
            for node in await owner.get_methods():
                try:
                    takes = await (await node.get_child("0:InputArguments")).read_value()
                except ua.uaerrors.BadNoMatch:
                    takes = []
                name = str((await node.read_browse_name()).Name)
                self._server.link_method(node, arguments.checked(methods[name], takes))

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

    async def _add_recipe(self, folder: Node, name: str) -> Node:
        own_name = ua.QualifiedName(name, ua.UInt16(self._own))
        node = await self._add(folder, "VisionSystem.RecipeManagement.Recipes", own_name, "RecipeType")
        self._shown[name] = node
        self._is_prepared[name] = await node.get_child(f"{self._vision}:IsPrepared")
        await self._is_prepared[name].write_value(False)
        await self._describe(name)
        return node

    async def _describe(self, name: str) -> None:
        recipe, modified = self._versions[name]
        internal = recipe_id(name, recipe, recipes.digest(recipes.content(recipe)))
        self._answers.ids[name] = internal
        node = self._shown[name]
        await (await node.get_child(f"{self._vision}:InternalId")).write_value(internal)
        await (await node.get_child(f"{self._vision}:LastModified")).write_value(modified)

    async def _prepare(self, name: str | None, method: str) -> None:
        if self._state is VisionState.READY or self._state.executing:
            for transition in path(self._state, VisionState.INITIALIZED, method):
                await self._go(transition, "changeover")
        for other, node in self._is_prepared.items():
            await node.write_value(other == name)
        self._answers.prepared = name
        if name is not None:
            await self._tell_prepared(name)

    async def _tell_prepared(self, name: str) -> None:
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
            await self._tell("ReadyEventType", "ready", {"JobId": types.JobIdDataType(Id=self._job_id)})
        elif target.executing:
            said = self._orders.next_job
            self._job = Job(self._job.number + 1, said.meas_id, said.part_id)
            await self._tell("JobStartedEventType", self._job_id, {"JobId": types.JobIdDataType(Id=self._job_id)})

    async def _tell(self, kind: str, message: str, fields: Mapping[str, Any], severity: int = _INFORMATION) -> None:
        generator = self._events[kind]
        for name, value in fields.items():
            generator.event.add_property(name, value, variant_type(value))
        generator.event.Severity = severity
        await generator.trigger(message=message)

    @property
    def _job_id(self) -> str:
        return f"{self._station.station}-{self._job.number}"

    def _job_of(self, name: str) -> str:
        return str(self._recipes[name].job)

    def _id(self, text: str) -> ua.NodeId:
        return ua.NodeId(ua.String(text), ua.Int16(self._own))

    def _type(self, name: str) -> ua.NodeId:
        return ua.NodeId(ua.Int32(_TYPES[name]), ua.Int16(self._vision))


_RESULT_FIELDS: Final = (
    *(
        "ResultId",
        "IsPartial",
        "IsSimulated",
        "ResultState",
        "MeasId",
        "PartId",
        "ExternalRecipeId",
        "InternalRecipeId",
    ),
    *("ProductId", "InternalConfigurationId", "JobId", "CreationTime", "ProcessingTimes", "ResultContent"),
)
