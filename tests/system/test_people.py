"""`andon people`, `andon token`, and the first administrator, on a real database."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import signed_in
from live_servers import Servers
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from config.home import Home
from deploy import people
from deploy.cli import main
from deploy.logbook import Logbook
from storage.sessions import Sessions


@pytest.fixture
def url(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> str:
    made = servers.database()
    monkeypatch.setenv("ANDON_DATABASE_URL", made)
    return made


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def andon(capsys: pytest.CaptureFixture[str], home: Home, *words: str) -> tuple[int, Any, str]:
    code = main([*words, "--home", str(home.path), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def audited(url: str) -> list[tuple[str, str, str]]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT who, action, subject FROM audit ORDER BY number"))
        return [tuple(row) for row in rows]


def test_people_and_tokens_by_command(url: str, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, made, _ = andon(capsys, home, "people", "add", "Ada", "engineer", "--by", "Kim")
    assert (code, made["name"]) == (0, "ada")
    with signed_in.ledger(url, home.path) as ledger:
        assert Sessions(ledger).sign_in("ada", made["password"], "here") is not None
    assert andon(capsys, home, "people", "role", "ada", "viewer", "--by", "Kim")[0] == 0
    code, _, told = andon(capsys, home, "token", "add", "ci", "--person", "ada", "--role", "admin")
    assert (code, "ada is VIEWER" in told) == (2, True)
    code, token, _ = andon(capsys, home, "token", "add", "ci", "--person", "ada", "--days", "3", "--by", "Kim")
    with signed_in.ledger(url, home.path) as ledger:
        found = Sessions(ledger).of_token(token["token"])
        assert found is not None
        assert (found.name, found.person.name) == ("ada", "ada (token ci)")
    assert andon(capsys, home, "token", "list")[1]["tokens"][0]["role"] == "VIEWER"
    assert andon(capsys, home, "token", "revoke", "ci", "--by", "Kim")[0] == 0
    assert andon(capsys, home, "people", "disable", "ada", "--by", "Kim")[0] == 0
    assert andon(capsys, home, "people", "enable", "ada", "--by", "Kim")[0] == 0
    renewed = andon(capsys, home, "people", "password", "ada", "--by", "Kim")[1]["password"]
    assert renewed != made["password"]
    listed = andon(capsys, home, "people", "list")[1]["people"]
    assert [(one["name"], one["role"], one["must_change"]) for one in listed] == [("ada", "VIEWER", True)]
    for words, why in (
        (("people", "add", "ada", "viewer"), "already"),
        (("people", "add", "no name", "viewer"), "must be 1 to 64"),
        (("people", "role", "eve", "viewer"), "there is no person 'eve'"),
        (("people", "role", "ada", "boss"), "viewer, operator, engineer, admin"),
        (("token", "revoke", "ci"), "there is no token 'ci'"),
    ):
        code, _, told = andon(capsys, home, *words)
        assert (code, why in told) == (2, True), told
    actions = [(who, action.partition(".")[2]) for who, action, _ in audited(url) if who == "Kim"]
    expected = ["added", "role_changed", "added", "revoked", "disabled", "enabled", "password_reset"]
    assert actions == [("Kim", action) for action in expected]
    assert andon(capsys, home, "audit", "verify")[0] == 0


def test_the_first_start_tells_one_password_on_the_screen_alone(
    url: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    screen = StringIO()
    logbook = Logbook(home.log, screen)
    people.first(home, url, logbook)
    password = screen.getvalue().partition("one-time password ")[2].partition(" ")[0]
    with signed_in.ledger(url, home.path) as ledger:
        assert Sessions(ledger).sign_in("admin", password, "here") is not None
    assert "the console's administrator is 'admin'" in logbook.path.read_text()
    assert password not in logbook.path.read_text()
    shown = screen.getvalue()
    people.first(home, url, logbook)
    assert screen.getvalue() == shown, "told twice"


def test_what_systemd_would_keep_is_not_told(url: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1234")
    screen = StringIO()
    people.first(home, url, Logbook(home.log, screen))
    assert f"andon people password admin --home {home.path}" in screen.getvalue()
    assert "shown this once" not in screen.getvalue()
