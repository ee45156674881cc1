"""Tokens by which programs speak to the console: for a person, with a role that is at most the person's."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert as insert_once

from config.errors import InputError
from storage.ledger import Ledger
from storage.people import Role
from storage.roster import name_of
from storage.schema import person, token
from storage.sessions import MARK, digest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LONGEST_DAYS = 3650


class Token(BaseModel):
    """A token, without its secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    person: str
    role: Role
    added_at: datetime
    seen_at: datetime | None
    ends_at: datetime | None


class Tokens:
    """The tokens in a ledger's database. Every method raises StoreError where that does not answer."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def all(self) -> list[Token]:
        """Return every token, by name."""
        columns = [column for column in token.c if column.name != "digest"]
        with self._ledger.reading() as connection:
            found = connection.execute(select(*columns).order_by(token.c.name)).mappings()
            return [Token(**{**row, "role": Role(row["role"])}) for row in found]

    def add(self, name: str, owner: str, role: Role, days: int | None, by: str) -> str:
        """Add a token that ends after `days` (None: never) and return its secret, which nobody can read again.

        Raise InputError for a name that is taken, a person that there is not, or a role above the person's.
        """
        if not _NAME.fullmatch(name):
            raise InputError("name: must be 1 to 64 letters, digits, '_', '-' or '.' and begin with a letter or digit")
        if days is not None and not 1 <= days <= LONGEST_DAYS:
            raise InputError(f"days: must be 1 to {LONGEST_DAYS}, not {days}")
        known = name_of(owner)
        secret = MARK + secrets.token_urlsafe(32)
        with self._ledger.changing() as change:
            held = change.connection.scalar(select(person.c.role).where(person.c.name == known).with_for_update())
            if held is None:
                raise InputError(f"person: there is no person {known!r}")
            if Role(held) < role:
                raise InputError(f"role: {known} is {held}: a token of theirs cannot be {role.value}")
            ends_at = None if days is None else func.now() + timedelta(days=days)
            values = {"digest": digest(secret), "name": name, "person": known, "role": role.value, "ends_at": ends_at}
            placed = insert_once(token).values(values).on_conflict_do_nothing().returning(token.c.ends_at)
            made = change.connection.execute(placed).one_or_none()
            if made is None:
                raise InputError(f"name: there is a token {name!r} already; give this one another name")
            ends = made.ends_at.isoformat() if made.ends_at else None
            change.enter(by, "token.added", name, None, {"person": known, "role": role.value, "ends": ends})
        return secret

    def revoke(self, name: str, by: str) -> None:
        """Make a token worth nothing, at once; raise InputError where there is none of that name."""
        with self._ledger.changing() as change:
            gone = delete(token).where(token.c.name == name).returning(token.c.person, token.c.role)
            row = change.connection.execute(gone).one_or_none()
            if row is None:
                raise InputError(f"name: there is no token {name!r:.80}")
            change.enter(by, "token.revoked", name, {"person": row.person, "role": row.role}, None)
