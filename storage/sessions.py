"""Who is signed in: browsers by a session, programs by a token. Of both only SHA-256 is stored.

A session ends when nobody has used it for IDLE, after LONGEST in any case (VOUCHED, where the provider vouched), when
its person signs out, changes the password or is kept out. What a person may do is looked up at every use: a change of
role counts at once.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import RowMapping, delete, func, insert, select, update

from config.errors import InputError
from storage import passwords
from storage.ledger import Change, Ledger
from storage.people import Person, Role
from storage.roster import name_of
from storage.schema import person, session, token
from storage.vouched import Refusal, Vouched, admit

IDLE = timedelta(hours=12)
LONGEST = timedelta(days=30)
VOUCHED = timedelta(days=1)  # for so long at most the provider's word counts
_NOTED = timedelta(minutes=1)  # how exactly the last use is known
MARK = "andon_"  # how every token begins, so that one that leaked is found


@dataclass(frozen=True)
class Signed:
    """Somebody who is signed in."""

    name: str
    person: Person  # as it acts, and as the audit trail names it
    must_change: bool = False  # the one-time password, before anything else
    provided: bool = False  # by the OpenID Connect provider: there is no password
    token: str | None = None  # the token's name, where it is a program


@dataclass(frozen=True)
class Admitted:
    """Whose session began, and its secret."""

    name: str
    secret: str


class Sessions:
    """The sessions in a ledger's database. Every method raises StoreError where that does not answer."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def sign_in(self, name: str, password: str, address: str, before: str | None = None) -> str | None:
        """Begin a session by password and return its secret; None where name or password is wrong.

        Takes as long for a name that there is not. `before` is the secret of a session that this one follows.
        """
        try:
            known = name_of(name)
        except InputError:
            known = ""
        with self._ledger.reading() as connection:
            found = connection.execute(select(person).where(person.c.name == known)).mappings().one_or_none()
        encoded = found["password"] if found is not None and not found["disabled"] else None
        if not passwords.matches(encoded, password) or encoded is None:
            return None
        return self.begin(known, address, encoded, before)

    def begin(self, known: str, address: str, encoded: str, before: str | None = None) -> str | None:
        """Begin a session of somebody who has proved who they are; None where they are kept out by now.

        `encoded`: the password that was the proof, which must still be the person's. What has ended is removed.
        """
        with self._ledger.changing() as change:
            proved = (person.c.name == known, person.c.password == encoded, ~person.c.disabled)
            wanted = select(person.c.name).where(*proved).with_for_update()
            if change.connection.execute(wanted).one_or_none() is None:
                return None
            secret = _begin(change, known, LONGEST, before)
            change.enter(known, "person.signed_in", known, None, {"address": address})
        return secret

    def admit(self, vouched: Vouched, address: str, before: str | None = None) -> Admitted | Refusal:
        """Begin a session of somebody whom the provider vouches for, who is made if need be; or tell why not."""
        with self._ledger.changing() as change:
            name = admit(change, vouched)
            if isinstance(name, Refusal):
                return name
            secret = _begin(change, name, VOUCHED, before)
            change.enter(name, "person.signed_in", name, None, {"address": address, "by": "the provider"})
        return Admitted(name, secret)

    def of_session(self, secret: str, *, used: bool) -> Signed | None:
        """Return who a session belongs to; None where it has ended. `used`: a person did something just now."""
        key = digest(secret)
        wanted = (
            select(person)
            .add_columns((session.c.seen_at < func.now() - _NOTED).label("note"))
            .join_from(session, person, session.c.person == person.c.name)
            .where(
                session.c.digest == key,
                session.c.ends_at > func.now(),
                session.c.seen_at > func.now() - IDLE,
                ~person.c.disabled,
            )
        )
        with self._ledger.reading() as connection, connection.begin():
            row = connection.execute(wanted).mappings().one_or_none()
            if row is None:
                return None
            found = _signed(row)
            # a screen on the wall is looked at, not touched: for somebody who may only look, looking is use
            if row["note"] and (used or found.person.role is Role.VIEWER):
                connection.execute(update(session).where(session.c.digest == key).values(seen_at=func.now()))
        return found

    def of_token(self, secret: str) -> Signed | None:
        """Return who a token speaks for, with the lower of both roles; None where it is none, or has ended."""
        key = digest(secret)
        wanted = (
            select(person, token.c.name.label("token"), token.c.role.label("scope"))
            .add_columns((func.coalesce(token.c.seen_at, token.c.added_at) < func.now() - _NOTED).label("note"))
            .join_from(token, person, token.c.person == person.c.name)
            .where(
                token.c.digest == key,
                token.c.ends_at.is_(None) | (token.c.ends_at > func.now()),
                ~person.c.disabled,
            )
        )
        with self._ledger.reading() as connection, connection.begin():
            row = connection.execute(wanted).mappings().one_or_none()
            if row is None:
                return None
            if row["note"]:
                connection.execute(update(token).where(token.c.digest == key).values(seen_at=func.now()))
        role = min(Role(row["role"]), Role(row["scope"]))
        return Signed(row["name"], Person(f"{row['name']} (token {row['token']})", role), token=row["token"])

    def end(self, secret: str) -> None:
        """Sign out."""
        with self._ledger.changing() as change:
            gone = delete(session).where(session.c.digest == digest(secret)).returning(session.c.person)
            name = change.connection.execute(gone).scalar_one_or_none()
            if name is not None:
                change.enter(name, "person.signed_out", name)

    def throttled(self, name: str, address: str) -> None:
        """Enter into the audit trail that sign-ins failed so often that further ones have to wait.

        Only a name that there is stands there: people type their password where the name belongs, too.
        """
        with self._ledger.changing() as change:
            try:
                known = name_of(name)
            except InputError:
                known = ""
            found = change.connection.scalar(select(person.c.name).where(person.c.name == known))
            change.enter("nobody", "sign_in.throttled", found or "unknown name", None, {"address": address})


def _begin(change: Change, name: str, lasts: timedelta, before: str | None) -> str:
    """Make a session in an open transaction and return its secret; remove what has ended, and the one `before`."""
    secret = secrets.token_urlsafe(32)
    over = (session.c.ends_at <= func.now()) | (session.c.seen_at <= func.now() - IDLE)
    change.connection.execute(delete(session).where(over))
    if before is not None:
        change.connection.execute(delete(session).where(session.c.digest == digest(before)))
    values = {"digest": digest(secret), "person": name, "ends_at": func.now() + lasts}
    change.connection.execute(insert(session).values(values))
    return secret


def digest(secret: str) -> str:
    """Return what is stored of a secret: it has 256 random bits, so that no salt and no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _signed(row: RowMapping) -> Signed:
    here = Person(row["name"], Role(row["role"]))
    return Signed(row["name"], here, must_change=row["must_change"], provided=row["subject"] is not None)
