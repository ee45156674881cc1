"""Signing in to a console under test: programs by a token, pages of a browser by a session's cookie."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, update

from storage.ledger import Ledger
from storage.people import Role
from storage.roster import Roster
from storage.schema import person as table
from storage.sessions import Sessions
from storage.tokens import Tokens

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext  # most tests have no browser

BY = "test"
PASSWORD = "a lamp over the line"  # noqa: S105 - of people that only tests know


@contextlib.contextmanager
def ledger(database: URL | str, home: Path) -> Iterator[Ledger]:
    opened = Ledger(database, home, "test")
    try:
        yield opened
    finally:
        opened.close()


def person(database: URL | str, home: Path, name: str, role: Role, password: str = PASSWORD) -> None:
    """Have a person with a password of their own, whoever had that name before."""
    with ledger(database, home) as opened:
        roster = Roster(opened)
        if name in {member.name for member in roster.members()}:
            once = roster.reset(name, BY)
            roster.disable(name, BY, disabled=False)
            roster.set_role(name, role, BY)
        else:
            once = roster.add(name, role, BY)
        roster.change_password(name, once, password)


def token(database: URL | str, home: Path, role: Role = Role.ADMIN) -> str:
    """Return the secret of a new token with a role, of a person who has that role."""
    name = f"program-{role.value.lower()}"
    with ledger(database, home) as opened:
        roster = Roster(opened)
        if name not in {member.name for member in roster.members()}:
            roster.add(name, role, BY)
        return Tokens(opened).add(f"test-{secrets.token_hex(4)}", name, role, None, BY)


def bearer(database: URL | str, home: Path, role: Role = Role.ADMIN) -> dict[str, str]:
    """Return the header by which a program is signed in."""
    return {"Authorization": f"Bearer {token(database, home, role)}"}


def session(database: URL | str, home: Path, name: str, role: Role) -> str:
    """Return the secret of a new session of a person, who is made if need be and has no password that anybody knows."""
    with ledger(database, home) as opened:
        roster = Roster(opened)
        if name in {member.name for member in roster.members()}:
            roster.set_role(name, role, BY)
            roster.disable(name, BY, disabled=False)
        else:
            roster.add(name, role, BY)
        with opened.changing() as change:
            settled = update(table).where(table.c.name == name).values(must_change=False).returning(table.c.password)
            encoded = change.connection.execute(settled).scalar_one()
        secret = Sessions(opened).begin(name, "127.0.0.1", encoded)
    assert secret is not None
    return secret


def sign_in(
    context: BrowserContext,
    url: str,
    station: str,
    database: URL | str,
    home: Path,
    role: Role = Role.ADMIN,
) -> None:
    """Sign a browser in at the console at `url`, by the cookie that a sign-in would have set."""
    secret = session(database, home, f"test-{role.value.lower()}", role)
    context.add_cookies([{"name": f"andon-{station}", "value": secret, "url": url, "httpOnly": True}])
