"""Arguments and values of OPC UA in plain words: text in, what JSON can hold out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uatypes import extension_objects_by_datatype

from config.errors import InputError

_STRUCTURE, _ENUMERATION, _ANYTHING, _STRING = 22, 29, 24, 12
_WHOLE: Final = range(2, 10)  # SByte … UInt64
_FRACTIONAL: Final = (10, 11)
_YES_OR_NO: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Taken:
    """A method's arguments, as the server describes them."""

    inputs: list[ua.Argument]
    outputs: list[ua.Argument]


async def arguments(client: Client, method: Node, given: Mapping[str, str]) -> tuple[Taken, list[ua.Variant]]:
    """Return what a method takes and gives, and its input arguments from text by name; what is not given is empty.

    InputError names what is no argument of it, or no value of its type. Of a structure the text is its `Id`.
    """
    taken = Taken(await _described(method, "InputArguments"), await _described(method, "OutputArguments"))
    names = [str(one.Name) for one in taken.inputs]
    for name in given:
        if name not in names:
            raise InputError(f"{name}: no argument of the method: it takes {', '.join(names) or 'none'}")
    return taken, [await _argument(client, one, given.get(str(one.Name))) for one in taken.inputs]


def value(held: object) -> object:
    """Return a value as JSON can hold it: structures as objects, NaN as nothing, bytes in hexadecimal digits."""
    for kind, convert in _PLAIN:
        if isinstance(held, kind):
            return convert(held)
    if held is None or not is_dataclass(held):
        return None if held is None else str(held)
    own = {field.name: value(getattr(held, field.name)) for field in fields(held)}
    return {name: one for name, one in own.items() if one is not None and name != "Encoding"}


_PLAIN: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...]] = (
    (ua.Variant, lambda held: value(held.Value)),
    (Enum, lambda held: held.value),
    ((bool, str), lambda held: held),
    (int, int),
    (float, lambda held: held if math.isfinite(held) else None),
    (bytes, bytes.hex),
    (datetime, datetime.isoformat),
    (ua.LocalizedText, lambda held: held.Text),
    (ua.NodeId, lambda held: held.to_string()),
    ((list, tuple), lambda held: [value(one) for one in held]),
)


async def _described(method: Node, name: str) -> list[ua.Argument]:
    try:
        return list(await (await method.get_child(f"0:{name}")).read_value() or [])
    except ua.uaerrors.BadNoMatch:
        return []


async def _argument(client: Client, argument: ua.Argument, text: str | None) -> ua.Variant:
    kind = await _base(client, argument.DataType)
    if argument.ValueRank >= 1:
        if text:
            raise InputError(f"{argument.Name}: a list cannot be given as text")
        return ua.Variant([], ua.VariantType.Variant if kind == _ANYTHING else _wire(kind), is_array=True)
    if kind == _STRUCTURE:
        made: Any = extension_objects_by_datatype.get(argument.DataType)
        if made is None or "Id" not in {field.name for field in fields(made)}:
            raise InputError(f"{argument.Name}: a structure without an Id cannot be given as text")
        return ua.Variant(made(Id=text or ""), ua.VariantType.ExtensionObject)
    try:
        return ua.Variant(_read(kind, text), _wire(kind))
    except (ValueError, KeyError) as error:
        raise InputError(f"{argument.Name}: {text!r} is no {_wire(kind).name}") from error


async def _base(client: Client, data_type: ua.NodeId) -> int:
    """Return the built-in type, or Structure, or Enumeration, that a data type is made of."""
    node = client.get_node(data_type)
    while node.nodeid.NamespaceIndex or node.nodeid.Identifier not in (*range(1, 26), _ENUMERATION):
        (node,) = await node.get_referenced_nodes(ObjectIds.HasSubtype, ua.BrowseDirection.Inverse)
    return int(node.nodeid.Identifier)


def _wire(kind: int) -> ua.VariantType:
    return {_ENUMERATION: ua.VariantType.Int32, _ANYTHING: ua.VariantType.String}.get(kind) or ua.VariantType(kind)


def _read(kind: int, text: str | None) -> object:
    if kind == 1:
        return _YES_OR_NO[(text or "false").lower()]
    if kind in _WHOLE or kind == _ENUMERATION:
        return int(text or 0)
    if kind in _FRACTIONAL:
        return float(text or 0)
    if kind == ObjectIds.LocalizedText:
        return ua.LocalizedText(text or "")
    if kind in (_STRING, _ANYTHING):
        return text or ""
    raise ValueError(f"type {kind} cannot be given as text")
