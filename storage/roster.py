"""The people of a station: who there is, what each may do, and by which password they are known.

Names are kept in small letters: who types `Ada` is `ada`. Each change is one transaction with its entry in the audit
trail; no entry and no log line ever says a password.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, RowMapping, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_once

from config.errors import InputError
from storage import passwords
from storage.ledger import Change, Ledger
from storage.people import Role
from storage.schema import person, session

FIRST = "admin"
PROVIDER = "provider"  # as the audit trail names it
_NAME = re.compile(r"[^\W_][\w.@-]{0,63}")
_OTHERS = {"nobody", PROVIDER, "supervisor"}  # who the audit trail names, and no person is


class Member(BaseModel):
    """A person of the station."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    role: Role
    disabled: bool
    must_change: bool  # has a one-time password
    provided: bool  # signs in by the OpenID Connect provider, and has no password
    added_at: datetime
    seen_at: datetime | None  # in a session that has not ended


class Roster:
    """The people in a ledger's database. Every method raises StoreError where that does not answer."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def members(self) -> list[Member]:
        """Return everybody, by name."""
        seen = select(func.max(session.c.seen_at)).where(session.c.person == person.c.name).scalar_subquery()
        with self._ledger.reading() as connection:
            found = connection.execute(select(person, seen.label("last")).order_by(person.c.name)).mappings()
            return [_member(row) for row in found]

    def add(self, name: str, role: Role, by: str) -> str:
        """Add a person and return the one-time password; raise InputError for a name that cannot be or is taken."""
        known, password = name_of(name), passwords.one_time()
        encoded = passwords.encode(password)
        with self._ledger.changing() as change:
            values = {"name": known, "role": role.value, "password": encoded, "must_change": True}
            placed = insert_once(person).values(values).on_conflict_do_nothing().returning(person.c.name)
            if change.connection.execute(placed).one_or_none() is None:
                raise InputError(f"name: there is a person {known!r} already; give this one another name")
            change.enter(by, "person.added", known, None, {"role": role.value})
        return password

    def first(self, by: str) -> str | None:
        """Add the first administrator and return the one-time password; None where there are people already."""
        with self._ledger.reading() as connection:
            if connection.execute(select(person.c.name).limit(1)).one_or_none() is not None:
                return None
        return self.add(FIRST, Role.ADMIN, by)

    def set_role(self, name: str, role: Role, by: str) -> None:
        """Let a person do more or less from now on, in sessions that are open, too."""
        with self._ledger.changing() as change:
            found = _locked(change, name)
            if found["role"] == role.value:
                return
            _keep_an_admin(change.connection, found)
            change.connection.execute(update(person).where(person.c.name == found["name"]).values(role=role.value))
            change.enter(by, "person.role_changed", found["name"], {"role": found["role"]}, {"role": role.value})

    def disable(self, name: str, by: str, *, disabled: bool = True) -> None:
        """Keep a person out, or let them in again: sessions end and tokens are worth nothing at once."""
        with self._ledger.changing() as change:
            found = _locked(change, name)
            if found["disabled"] == disabled:
                return
            if disabled:
                _keep_an_admin(change.connection, found)
                _end_sessions(change.connection, found["name"])
            change.connection.execute(update(person).where(person.c.name == found["name"]).values(disabled=disabled))
            action = "person.disabled" if disabled else "person.enabled"
            change.enter(by, action, found["name"], {"disabled": not disabled}, {"disabled": disabled})

    def reset(self, name: str, by: str) -> str:
        """Give a person a one-time password and return it; their sessions end.

        Raise InputError for who signs in by the provider.
        """
        password = passwords.one_time()
        encoded = passwords.encode(password)
        with self._ledger.changing() as change:
            found = _locked(change, name)
            if found["subject"] is not None:
                raise InputError(f"{found['name']}: signs in by the provider, and has no password")
            change.connection.execute(
                update(person).where(person.c.name == found["name"]).values(password=encoded, must_change=True)
            )
            _end_sessions(change.connection, found["name"])
            change.enter(by, "person.password_reset", found["name"], None, {"must_change": True})
        return password

    def change_password(self, name: str, present: str, wanted: str) -> None:
        """Change one's own password, which ends all one's sessions; raise InputError where one of the two is wrong."""
        with self._ledger.reading() as connection:
            found = _found(connection, name)
        if not passwords.matches(found["password"], present):
            raise InputError("present: is not your password")
        said = passwords.insist(wanted, found["name"])
        if passwords.matches(found["password"], said):
            raise InputError("wanted: must be another password than the present one")
        encoded = passwords.encode(said)
        with self._ledger.changing() as change:
            changed = change.connection.execute(
                update(person)
                .where(person.c.name == found["name"], person.c.password == found["password"], ~person.c.disabled)
                .values(password=encoded, must_change=False)
            )
            if changed.rowcount == 0:
                raise InputError("present: the password was changed in this moment by somebody else")
            _end_sessions(change.connection, found["name"])
            change.enter(found["name"], "person.password_changed", found["name"])


def name_of(said: str) -> str:
    """Return a name as it is kept; raise InputError that says what one must be."""
    name = unicodedata.normalize("NFKC", said).strip().casefold()
    if not _NAME.fullmatch(name) or name in _OTHERS:
        raise InputError(
            "name: must be 1 to 64 letters, digits, '.', '_', '-' or '@' and begin with a letter or a digit"
            f" (and not be {' or '.join(sorted(_OTHERS))})"
        )
    return name


def _found(connection: Connection, name: str) -> RowMapping:
    known = name_of(name)
    row = connection.execute(select(person).where(person.c.name == known)).mappings().one_or_none()
    if row is None:
        raise InputError(f"name: there is no person {known!r}")
    return row


def _locked(change: Change, name: str) -> RowMapping:
    """Return a person's row; whoever changes people waits until this transaction ends."""
    change.connection.execute(select(person.c.name).order_by(person.c.name).with_for_update())
    return _found(change.connection, name)


def _keep_an_admin(connection: Connection, leaving: RowMapping) -> None:
    others = select(func.count()).where(
        person.c.role == Role.ADMIN.value, ~person.c.disabled, person.c.name != leaving["name"]
    )
    if leaving["role"] == Role.ADMIN.value and not leaving["disabled"] and not connection.scalar(others):
        raise InputError(f"{leaving['name']}: is the only administrator; make somebody else one before")


def _end_sessions(connection: Connection, name: str) -> None:
    connection.execute(delete(session).where(session.c.person == name))


def _member(row: RowMapping) -> Member:
    return Member(
        name=row["name"],
        role=Role(row["role"]),
        disabled=row["disabled"],
        must_change=row["must_change"],
        provided=row["subject"] is not None,
        added_at=row["added_at"],
        seen_at=row["last"],
    )
