"""What may follow a recipe that is in force."""

from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.recipe import Recipe
from decision.successor import check


def made(**changes: object) -> Recipe:
    view = {"bundle": Path("/b.andon"), "bundle_digest": "sha256:b", "review_above": 1.0, "reject_above": 2.0}
    of_view = changes.pop("view", {})
    content = {"product": "cap", "job": 1, "version": 3, "views": {"front": {**view, **of_view}}}
    return Recipe.model_validate({**content, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"view": {"review_above": 0.5, "reject_above": 9.0, "reject_from_defects": 2, "mm_per_px": 0.1}},
        {"view": {"zones": [{"name": "rim", "polygon_px": [[0, 0], [9, 0], [9, 9]], "exclude": True}]}},
        {"deadline_ms": 100, "review_gate": "PASS", "fail_safe": "stop", "alarms": {"consecutive_rejects": 3}},
        {"keep": {"PASS": {"pixels": "exact"}}},
        {"version": 900},
    ],
)
def test_how_parts_are_judged_may_change_with_a_raised_version(changes: dict[str, object]) -> None:
    check(made(), made(**{"version": 4, **changes}), "new", {"old": 3})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"product": "lid"}, "product: is 'cap' in force, not 'lid': stop the station"),
        ({"job": 2}, "job: is 1 in force, not 2: stop the station"),
        (
            {"view": {"bundle": Path("/c.andon")}},
            "views.front.bundle: is /b.andon in force, but /c.andon in the file: the workers",
        ),
        (
            {"view": {"bundle_digest": None}},
            "views.front.bundle_digest: is sha256:b in force, but not given in the file",
        ),
        ({"views": {"back": made().views["front"]}}, "views: are front in force, not back"),
        ({"version": 3}, "version: 3 has had another content: make it 6 or more"),
        ({"version": 4}, "version: 4 is below version 5: make it 6 or more"),
        ({"version": 5}, "version: 5 has had another content: make it 6 or more"),
    ],
)
def test_what_may_not_change_is_named(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check(made(), made(**{"version": 6, **changes}), "new", {"old": 3, "older": 5})
    assert str(raised.value).startswith(why)


def test_what_was_in_force_once_may_come_back_as_it_was() -> None:
    check(made(), made(version=1), "first", {"first": 1, "old": 3})
    with pytest.raises(ConfigurationError, match="views: are"):
        check(made(), made(version=1, views={"back": made().views["front"]}), "first", {"first": 1, "old": 3})
