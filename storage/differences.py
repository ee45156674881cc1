"""What two versions of a recipe say differently, field by field. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, JsonValue

_PICTURES = ("roi", "mask")
_MADE_BY_THE_SYSTEM = ("version",)


class Difference(BaseModel):
    """A field, such as `views.front.zones.screw.review_above`, and what it is in either version; None: not said.

    A zone goes by its name, and a picture by the digest of its bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    field: str
    before: JsonValue
    after: JsonValue


def differences(before: str, after: str) -> list[Difference]:
    """Return what differs between two contents (`config/recipe.py`), in their order."""
    return list(_differ("", _readable(json.loads(before)), _readable(json.loads(after))))


def _differ(field: str, before: JsonValue, after: JsonValue) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _differ(f"{field}.{name}".lstrip("."), before.get(name), after.get(name))
    elif before != after and not (before in ({}, None) and after in ({}, None)):
        yield Difference(field=field, before=before, after=after)


def _readable(said: JsonValue, field: str = "") -> JsonValue:
    """Return a content with zones by their names, and pictures by their digests."""
    if isinstance(said, dict):
        return {name: _readable(value, name) for name, value in said.items() if name not in _MADE_BY_THE_SYSTEM}
    if isinstance(said, list) and field == "zones":
        zones = [zone for zone in said if isinstance(zone, dict)]
        told = {str(zone["name"]): {name: value for name, value in zone.items() if name != "name"} for zone in zones}
        return {name: _without_nothing(_readable(zone)) for name, zone in told.items()}
    if field in _PICTURES and isinstance(said, str):
        content = base64.b64decode(said)
        return f"picture {hashlib.sha256(content).hexdigest()[:12]} of {len(content)} bytes"
    return said


def _without_nothing(zone: JsonValue) -> JsonValue:
    """Leave out what a zone does not say: it takes that from its view."""
    if not isinstance(zone, dict):
        return zone
    return {name: value for name, value in zone.items() if value is not None and value is not False}
