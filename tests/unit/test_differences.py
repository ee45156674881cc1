"""What two contents of a recipe say differently."""

from __future__ import annotations

import base64
import json

import pytest

from storage.differences import Difference, differences
from storage.query.recent import _good


def content(version: int = 1, **front: object) -> str:
    view = {"review_above": 1.0, "reject_above": 2.0, "roi": None, "bundle_digest": None, **front}
    return json.dumps({"product": "cap", "job": 1, "version": version, "views": {"front": view}})


def zone(name: str, **said: object) -> dict[str, object]:
    return {"name": name, "polygon_px": [[0, 0], [9, 0], [9, 9]], "mask": None, "exclude": False, **said}


def test_fields_are_named_and_the_version_is_the_systems_own() -> None:
    assert differences(content(1), content(2)) == []
    found = differences(content(1), content(2, reject_above=3.5))
    assert found == [Difference(field="views.front.reject_above", before=2.0, after=3.5)]


def test_zones_go_by_their_names_wherever_they_stand() -> None:
    before = content(zones=[zone("a"), zone("b", reject_above=5.0)])
    after = content(zones=[zone("b", reject_above=6.0), zone("c", exclude=True)])
    places = {one.field: (one.before, one.after) for one in differences(before, after)}
    polygon = [[0, 0], [9, 0], [9, 9]]
    assert places == {
        "views.front.zones.a": ({"polygon_px": polygon}, None),
        "views.front.zones.b.reject_above": (5.0, 6.0),
        "views.front.zones.c": (None, {"polygon_px": polygon, "exclude": True}),
    }
    assert differences(content(), content(zones=[])) == []


def test_a_picture_is_named_and_not_shown() -> None:
    picture = base64.b64encode(b"\x89PNG of a place").decode()
    (found,) = differences(content(), content(roi=picture))
    assert found.field == "views.front.roi"
    assert found.before is None
    assert str(found.after).endswith("of 15 bytes")


@pytest.mark.parametrize(
    ("findings", "truth", "good"),
    [
        ([], None, None),
        ([], True, True),
        (["GOOD"], False, True),  # who has looked knows better than the line
        (["DEFECT", "DEFECT"], None, False),
        (["GOOD", "DEFECT"], True, None),  # they disagree
        (["UNSURE"], False, False),
        (["UNSURE", "GOOD"], None, True),
    ],
)
def test_what_is_known_of_a_part(findings: list[str], truth: bool | None, good: bool | None) -> None:  # noqa: FBT001 - cases
    assert _good(findings, truth) is good
