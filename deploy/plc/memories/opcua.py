"""An OPC UA server with a variable for each register: UInt16, UInt32, or UInt16[n] where it is a group or a ring."""

from __future__ import annotations

from urllib.parse import urlsplit

from asyncua import ua
from asyncua.common.node import Node
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AttributeService
from asyncua.server.server import Server
from pydantic import BaseModel

from config.errors import ConfigurationError
from decision import registers
from decision.plc.opcua import Options
from decision.registers import Kind, Register

_ADMIN = User(role=UserRole.Admin)


def address(options: BaseModel) -> tuple[str, int]:
    """Return where an OPC UA driver looks for its PLC."""
    assert isinstance(options, Options)  # noqa: S101 - they were validated by that driver's file
    parts = urlsplit(options.url)
    return parts.hostname or "", parts.port or 0


def memory(options: BaseModel, host: str, port: int) -> Memory:
    """Return a memory with the variables that the driver wants; ConfigurationError where they must be secured."""
    assert isinstance(options, Options)  # noqa: S101 - they were validated by that driver's file
    if options.certificate is not None or options.user is not None:
        raise ConfigurationError("plc.options: the PLC simulator's OPC UA server knows no users and no certificates")
    return Memory(host, port, options)


class Memory:
    """The PLC's variables behind asyncua's server."""

    def __init__(self, host: str, port: int, options: Options) -> None:
        """Name address and variables."""
        self._endpoint = f"opc.tcp://{host}:{port}"
        self._options = options
        self._variables: dict[Register, Node] = {}
        self._server = Server()

    async def serve(self) -> None:
        """Make the variables and begin to answer."""
        await self._server.init()
        self._server.iserver.attribute_service = _Slices(self._server.iserver.aspace)
        self._server.set_endpoint(self._endpoint)
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await self._server.register_namespace("urn:andon:plc")  # ns=2
        for register in registers.TABLE:
            node_id = self._options.node_id(register)
            variable = await self._server.nodes.objects.add_variable(
                node_id, f"{node_id.NamespaceIndex}:{register.name}", _zero(register)
            )
            await variable.set_writable()
            self._variables[register] = variable
        await self._server.start()

    async def close(self) -> None:
        """Answer no more."""
        await self._server.stop()

    async def read(self, register: Register, slot: int = 0) -> list[int]:
        """Return a register's words."""
        held = await self._variables[register].read_value()
        if register.kind is Kind.U32:
            return registers.words(held)
        if register.kind not in registers.FIELDS:
            return [held]
        return list(held[slot * register.words : (slot + 1) * register.words])

    async def write(self, register: Register, words: list[int], slot: int = 0) -> None:
        """Set a register's words."""
        variable = self._variables[register]
        if register.kind is Kind.U32:
            await variable.write_value(ua.Variant(registers.value(words), ua.VariantType.UInt32))
        elif register.kind not in registers.FIELDS:
            await variable.write_value(ua.Variant(words[0], ua.VariantType.UInt16))
        else:
            held = list(await variable.read_value())
            held[slot * register.words : (slot + 1) * register.words] = words
            await variable.write_value(ua.Variant(held, ua.VariantType.UInt16, is_array=True))

    async def clear(self) -> None:
        """Set everything to 0."""
        for register, variable in self._variables.items():
            await variable.write_value(_zero(register))


class _Slices(AttributeService):
    """What asyncua's server leaves out: reading and writing a part of an array (OPC 10000-4, 7.27)."""

    def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Read values, or the slices of them that are asked for."""
        found = super().read(params)
        for number, wanted in enumerate(params.NodesToRead):
            if wanted.IndexRange and (held := found[number].Value) is not None:
                part = held.Value[_slice(wanted.IndexRange)]
                found[number] = ua.DataValue(ua.Variant(part, held.VariantType, is_array=True))
        return found

    async def write(self, params: ua.WriteParameters, user: User = _ADMIN) -> list[ua.StatusCode]:
        """Write values, or slices of them."""
        for wanted in params.NodesToWrite:
            held = self._aspace.read_attribute_value(wanted.NodeId, wanted.AttributeId).Value
            if wanted.IndexRange and held is not None:
                whole = list(held.Value)
                whole[_slice(wanted.IndexRange)] = wanted.Value.Value.Value
                wanted.Value = ua.DataValue(ua.Variant(whole, held.VariantType, is_array=True))
        return await super().write(params, user)


def _slice(index_range: str) -> slice:
    first, _, last = index_range.partition(":")
    return slice(int(first), int(last or first) + 1)


def _zero(register: Register) -> ua.Variant:
    if register.kind is Kind.U32:
        return ua.Variant(0, ua.VariantType.UInt32)
    if register.kind not in registers.FIELDS:
        return ua.Variant(0, ua.VariantType.UInt16)
    return ua.Variant([0] * (register.end - register.address), ua.VariantType.UInt16, is_array=True)
