"""Which parts are meant, on a command line: an option for every field of the filter, so that none can be forgotten."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from config.errors import InputError
from storage.query.filters import Filter

_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(s|min|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_TIME = "a time as 2026-11-22T14:30 (local, or with a zone), or back from now as 30min, 2h, 3d, 1w"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the filter's options: `recipe_version` is --recipe-version; a set's may be given again and again."""
    group = parser.add_argument_group("which parts", f"all that every option given agrees with; TIME is {_TIME}")
    for name, field in Filter.model_fields.items():
        kind, is_set = _kind(field)
        flags = [_flag(name.removesuffix("s"))] if is_set else [_flag(name)]
        if kind is bool:
            group.add_argument(
                *flags, dest=_destination(name), action=argparse.BooleanOptionalAction, help=_help(field)
            )
            continue
        group.add_argument(
            *flags,
            dest=_destination(name),
            action="append" if is_set else "store",
            metavar=_metavar(name, kind),
            help=_help(field, kind),
        )


def read(arguments: argparse.Namespace, now: datetime | None = None) -> Filter:
    """Return the filter that the options mean at `now`; raise InputError that names each wrong one."""
    values: dict[str, object] = {}
    for name, field in Filter.model_fields.items():
        given = getattr(arguments, _destination(name))
        if given is None:
            continue
        kind, is_set = _kind(field)
        if kind is datetime:
            values[name] = moment(given, name, now or datetime.now(UTC))
        elif issubclass(kind, Enum):
            values[name] = [_member(kind, one) for one in given] if is_set else _member(kind, given)
        else:
            values[name] = given
    return Filter.parse(values)


def moment(text: str, name: str, now: datetime) -> datetime:
    """Return the time that is meant: ISO 8601, local where it has no zone, or a span of time back from `now`."""
    try:
        if span := _SPAN.fullmatch(text.strip()):
            return now - timedelta(seconds=float(span[1]) * _SECONDS[span[2]])
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(f"{name}: {text!r:.40} is no time: give {_TIME}") from error


def _kind(field: FieldInfo) -> tuple[type[Any], bool]:
    """Return what one value of a field is, and whether there may be several."""
    kind: Any = field.annotation
    choices = [one for one in get_args(kind) if one is not type(None)]
    if choices and type(None) in get_args(kind):
        kind = choices[0]
    is_set = get_origin(kind) is frozenset
    if is_set:
        kind = get_args(kind)[0]
    while get_origin(kind) is not None:  # Annotated
        kind = get_args(kind)[0]
    return (datetime if not isinstance(kind, type) or kind.__name__ == "AwareDatetime" else kind), is_set


def _member(kind: type[Enum], text: str) -> object:
    """Return a member however its letters are written; what is none is left to the filter to refuse."""
    return next((one for one in kind if str(one.value).casefold() == text.casefold()), text)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _destination(name: str) -> str:
    return f"filter_{name}"


def _metavar(name: str, kind: type[Any]) -> str:
    if kind is datetime:
        return "TIME"
    if issubclass(kind, Enum):
        return name.removesuffix("s").upper()
    return {int: "N", float: "X"}.get(kind, "ID" if name == "part_id" else "NAME" if name != "bundle" else "DIGEST")


def _help(field: FieldInfo, kind: type[Any] = bool) -> str:
    words = [field.description or ""]
    if issubclass(kind, Enum):
        words.append(", ".join(str(one.value) for one in kind))
    return "; ".join(word for word in words if word).replace("%", "%%")
