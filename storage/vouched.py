"""People whom an OpenID Connect provider vouches for: made at their first sign-in, the role is what it says each time.

The provider's own identifier of somebody counts, never the name: names are given to others there, and a person of the
station with a password is nobody that a provider could speak for. Who was made so has no password.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import RowMapping, delete, select, update
from sqlalchemy.dialects.postgresql import insert as insert_once

from config.errors import AndonError, InputError
from storage.ledger import Change
from storage.people import Role
from storage.roster import PROVIDER, name_of
from storage.schema import person, session


class AwayError(AndonError):
    """The provider does not answer as it must: trying again later may help."""


class NotVouchedError(AndonError):
    """The provider refuses, or what it says is not to be believed."""


class Refusal(Enum):
    """Why somebody whom the provider knows stays outside."""

    NO_ROLE = "none of the groups has a role here"
    NO_NAME = "the name cannot be one of a person here"
    NAME_TAKEN = "there is somebody else of that name"
    KEPT_OUT = "an administrator keeps this person out"


@dataclass(frozen=True)
class Vouched:
    """Somebody as the provider describes them."""

    subject: str  # issuer and identifier there, which never changes
    name: str
    role: Role | None  # None: none of the groups has one


def admit(change: Change, vouched: Vouched) -> str | Refusal:
    """Return the name of the person here, made or given another role if need be; or why they stay outside.

    Whoever is in no group any more is signed out everywhere.
    """
    connection = change.connection
    known = select(person).where(person.c.subject == vouched.subject).with_for_update()
    found = connection.execute(known).mappings().one_or_none()
    if found is not None and found["disabled"]:
        return Refusal.KEPT_OUT
    if vouched.role is None:
        if found is not None:
            connection.execute(delete(session).where(session.c.person == found["name"]))
        return Refusal.NO_ROLE
    if found is None:
        return _made(change, vouched, vouched.role)
    _follow(change, found, vouched.role)
    return str(found["name"])


def _made(change: Change, vouched: Vouched, role: Role) -> str | Refusal:
    try:
        name = name_of(vouched.name)
    except InputError:
        return Refusal.NO_NAME
    values = {"name": name, "role": role.value, "subject": vouched.subject}
    placed = insert_once(person).values(values).on_conflict_do_nothing().returning(person.c.name)
    if change.connection.execute(placed).one_or_none() is None:
        return Refusal.NAME_TAKEN
    change.enter(PROVIDER, "person.added", name, None, {"role": role.value})
    return name


def _follow(change: Change, found: RowMapping, role: Role) -> None:
    """Give a person the role that the provider says: also the last administrator, whom a command can make again."""
    if found["role"] == role.value:
        return
    change.connection.execute(update(person).where(person.c.name == found["name"]).values(role=role.value))
    change.enter(PROVIDER, "person.role_changed", found["name"], {"role": found["role"]}, {"role": role.value})
