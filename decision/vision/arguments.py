"""What a method is given, against what the standard says that it takes (OPC 10000-4, 5.11.2)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uatypes import extension_objects_by_datatype

Answer: TypeAlias = "list[ua.Variant] | ua.StatusCode | ua.CallMethodResult"
Method: TypeAlias = Callable[..., Coroutine[Any, Any, Answer]]

_ANYTHING: Final = 24  # BaseDataType
_STRING: Final = 12
_PLAIN: Final = {  # the standard's types that are none of structures -> what they are on the wire
    3009: ua.VariantType.Int32,  # ResultStateDataType
    3014: ua.VariantType.Int32,  # TriStateBooleanDataType
    3018: ua.VariantType.UInt32,  # Handle
}


def checked(method: Method, takes: Sequence[ua.Argument]) -> Method:
    """Return `method` behind a look at its arguments: missing, too many or of another type are refused."""

    async def call(parent: ua.NodeId, *given: ua.Variant) -> Answer:
        if len(given) != len(takes):
            missing = len(given) < len(takes)
            return status(StatusCodes.BadArgumentsMissing if missing else StatusCodes.BadTooManyArguments)
        fits = [_fits(argument, variant) for argument, variant in zip(takes, given, strict=True)]
        if all(fits):
            return await method(parent, *given)
        wrong = ua.CallMethodResult()
        wrong.StatusCode = status(StatusCodes.BadInvalidArgument)
        wrong.InputArgumentResults = [ua.StatusCode() if fit else status(StatusCodes.BadTypeMismatch) for fit in fits]
        return wrong

    return call


def status(code: int) -> ua.StatusCode:
    """Return a status code."""
    return ua.StatusCode(ua.UInt32(code))


def _fits(argument: ua.Argument, variant: ua.Variant) -> bool:
    kind = argument.DataType
    plain = _PLAIN.get(kind.Identifier) if kind.NamespaceIndex else None
    is_list = argument.ValueRank >= 1
    if variant.VariantType is ua.VariantType.Null:  # an empty string, structure or list
        return is_list or (plain is None and (kind.NamespaceIndex > 0 or kind.Identifier in (_ANYTHING, _STRING)))
    if variant.is_array is not is_list and not (is_list and variant.Value is None):
        return False
    if kind.NamespaceIndex and plain is None:
        made = extension_objects_by_datatype.get(kind)
        return variant.Value is None or (made is not None and type(variant.Value) is made)
    if plain is None and kind.Identifier == _ANYTHING:
        return True
    return variant.VariantType is (plain or ua.VariantType(kind.Identifier))
