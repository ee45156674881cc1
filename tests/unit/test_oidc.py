"""Signing in by an OpenID Connect provider: what its section must say, and what is remembered of who is on the way."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from pydantic import ValidationError

from config.errors import ConfigurationError, MissingExtraError
from config.oidc import SECRET
from config.station import ConsoleSection
from storage.console import server
from storage.console.begun import LASTS_S, BegunSignIns

SECTION = {"issuer": "https://login.plant.example/realms/plant", "client_id": "andon", "roles": {"line": "OPERATOR"}}


def console(**changed: object) -> ConsoleSection:
    return ConsoleSection.model_validate({"oidc": SECTION} | changed)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issuer": "http://login.plant.example"}, "must begin with https://"),
        ({"issuer": "https://ada:secret@login.plant.example"}, "issuer"),
        ({"issuer": "https://login.plant.example?x"}, "issuer"),
        ({"issuer": "login.plant.example"}, "issuer"),
        ({"roles": {}}, "roles"),
        ({"roles": {"line": "OPERATORS"}}, "roles"),
        ({"client_secret": "in the file"}, "client_secret"),
        ({"claim": ""}, "claim"),
        ({"scopes": ("two words",)}, "scopes"),
    ],
)
def test_a_section_that_cannot_be_is_refused(changed: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        console(oidc=SECTION | changed)


def test_a_console_on_the_network_says_where_people_come_back_to() -> None:
    assert console().oidc is not None
    assert console(oidc=SECTION | {"issuer": "http://127.0.0.1:9000"}).oidc is not None, (
        "another process of this machine"
    )
    assert console(host="0.0.0.0", url="https://andon.plant.example").oidc is not None  # noqa: S104 - what it is about
    with pytest.raises(ValidationError, match="oidc needs url"):
        console(host="0.0.0.0")  # noqa: S104 - what it is about


def test_the_library_and_the_secret_are_asked_for_only_where_the_section_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET, raising=False)
    with pytest.raises(ConfigurationError, match=SECRET):
        server._provider(console(), Counter())
    monkeypatch.setenv(SECRET, "x")
    assert server._provider(console(), Counter()) is not None
    monkeypatch.delitem(sys.modules, "storage.console.oidc")
    monkeypatch.setitem(sys.modules, "authlib.integrations.requests_client", None)
    assert server._provider(ConsoleSection(), Counter()) is None
    with pytest.raises(MissingExtraError, match=r"andon\[oidc\]"):
        server._provider(console(), Counter())


def test_a_sign_in_is_taken_once_by_who_holds_its_secret_and_in_time() -> None:
    begun = BegunSignIns()
    state, secret, made = begun.begin("http://here/back", "/defects", None, now_s=0.0)
    assert begun.take(state, "another", 1.0) is None
    assert begun.take("another", secret, 1.0) is None
    assert begun.take(state, "", 1.0) is None
    assert begun.take(state, secret, 1.0) == made
    assert begun.take(state, secret, 1.0) is None
    state, secret, _ = begun.begin("http://here/back", "/", None, now_s=0.0)
    assert begun.take(state, secret, LASTS_S) is None
    assert len(begun) == 0


def test_sign_ins_that_never_come_back_take_bounded_memory() -> None:
    begun = BegunSignIns()
    first = begun.begin("http://here/back", "/", None, now_s=0.0)
    last = [begun.begin("http://here/back", "/", None, now_s=0.0) for _ in range(10_000)][-1]
    assert len(begun) == 10_000
    assert begun.take(first[0], first[1], 1.0) is None
    assert begun.take(last[0], last[1], 1.0) is not None
