"""Proposals of a recipe's next version: made by one person, approved or rejected, then put in force.

A proposal names people by their accounts, whichever token or session they came with; the audit trail tells that, too.

Each step is one transaction with its entry in the audit trail. A proposal is of the version that it was based on: once
another one is in force it can only be rejected, and made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, Connection, func, insert, select, update

from config.errors import ConflictError, InputError
from storage import audit
from storage.differences import Difference, differences
from storage.ledger import Change, Ledger
from storage.schema import proposal
from storage.schema import recipe as version
from storage.sessions import Signed

LONGEST_COMMENT = 2000
_LARGEST_ENTRY = 40_000  # characters of the differences in an entry of the audit trail


class Stage(StrEnum):
    """How far a proposal is."""

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    ACTIVATED = "ACTIVATED"


class Proposal(BaseModel):
    """A proposal without its content; `decided_by` approved or rejected it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    recipe: str
    based_on: str  # digest
    comment: str
    state: Stage
    person: str
    proposed_at: datetime
    decided_by: str | None
    decided_at: datetime | None


class Stored(BaseModel):
    """A version of a recipe that is or was in force."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: str
    version: int
    product: str
    added_at: datetime


Activation = Callable[[str], str]
"""Put a content in force and return the digest that it has there; raise ConflictError or InputError where it cannot."""

_COLUMNS = [proposal.c[name] for name in Proposal.model_fields]


class Proposals:
    """Proposals in the database at `url`; `folder` is the state folder. Safe to use from several threads.

    Every method raises StoreError where the database does not answer.
    """

    def __init__(self, url: URL | str, folder: Path) -> None:
        """Remember where things are; the first call connects."""
        self._ledger = Ledger(url, folder, "proposals")

    def of(self, recipe: str, limit: int = 50) -> list[Proposal]:
        """Return the last proposals for a recipe, newest first."""
        wanted = select(*_COLUMNS).where(proposal.c.recipe == recipe).order_by(proposal.c.number.desc()).limit(limit)
        with self._ledger.reading() as connection:
            return [Proposal(**row) for row in connection.execute(wanted).mappings()]

    def get(self, number: int) -> tuple[Proposal, str]:
        """Return a proposal and its content; raise InputError where there is none of this number."""
        with self._ledger.reading() as connection:
            return _get(connection, number)

    def versions(self, recipe: str, limit: int = 200) -> list[Stored]:
        """Return the versions that a recipe has had, newest first."""
        columns = [version.c[name] for name in Stored.model_fields]
        wanted = select(*columns).where(version.c.name == recipe)
        with self._ledger.reading() as connection:
            rows = connection.execute(wanted.order_by(version.c.version.desc(), version.c.added_at.desc()).limit(limit))
            return [Stored(**row) for row in rows.mappings()]

    def content(self, recipe: str, digest: str) -> str:
        """Return the content of a version; raise InputError where the recipe has had none of this digest."""
        wanted = select(version.c.content).where(version.c.name == recipe, version.c.digest == digest)
        with self._ledger.reading() as connection:
            found: str | None = connection.execute(wanted).scalar_one_or_none()
        if found is None:
            raise InputError(f"{digest!r:.100}: recipe {recipe!r:.80} has had no version of this digest")
        return found

    def add(self, recipe: str, based_on: str, contents: tuple[str, str], comment: str, by: Signed) -> Proposal:
        """Add a proposal: `contents` are those of the version `based_on`, and of what is proposed."""
        changed = differences(*contents)
        if not changed:
            raise InputError("nothing is changed: there is nothing to propose")
        values = {
            "recipe": recipe,
            "based_on": based_on,
            "content": contents[1],
            "comment": _comment(comment),
            "state": Stage.PROPOSED.value,
            "person": audit.printable("person", by.name, audit.LONGEST_NAME),
        }
        with self._ledger.changing() as change:
            row = change.connection.execute(insert(proposal).values(values).returning(*_COLUMNS)).mappings().one()
            made = Proposal(**row)
            before, after = _sides(changed)
            said = {"proposal": made.number, "based_on": based_on, "comment": made.comment}
            change.enter(by.person.name, "proposal.made", recipe, before, said | after)
        return made

    def approve(self, number: int, by: Signed, *, four_eyes: bool) -> Proposal:
        """Approve a proposal; with `four_eyes` raise InputError where `by` has made it."""
        with self._deciding(number, Stage.PROPOSED, Stage.APPROVED, by.name) as (change, found, _):
            if four_eyes and found.person == by.name:
                raise InputError(f"{by.name} has made this proposal: here somebody else has to approve it (four_eyes)")
            after = {"state": Stage.APPROVED.value, "own": found.person == by.name}
            change.enter(by.person.name, "proposal.approved", found.recipe, _stood(found), after)
        return self.get(number)[0]

    def reject(self, number: int, by: Signed, comment: str) -> Proposal:
        """Reject a proposal that is not in force yet."""
        with self._deciding(number, None, Stage.REJECTED, by.name) as (change, found, _):
            after = {"state": Stage.REJECTED.value, "comment": _comment(comment)}
            change.enter(by.person.name, "proposal.rejected", found.recipe, _stood(found), after)
        return self.get(number)[0]

    def activate(self, number: int, by: Signed, before: str, activation: Activation) -> Proposal:
        """Put an approved proposal in force by `activation`; `before` is the content that is in force.

        The entry is committed once that is done; where there can be none, nothing is put in force.
        """
        with self._deciding(number, Stage.APPROVED, Stage.ACTIVATED, None) as (change, found, content):
            was, will = _sides(differences(before, content))
            said = {"proposal": number, "was": found.based_on}
            change.enter(by.person.name, "proposal.activated", found.recipe, was, said | will)
            activation(content)
        return self.get(number)[0]

    def roll_back(
        self, recipe: str, digest: str, by: Signed, comment: str, before: str, activation: Activation
    ) -> None:
        """Put an earlier version in force again, as `activate` does."""
        content = self.content(recipe, digest)
        was, will = _sides(differences(before, content))
        with self._ledger.changing() as change:
            said = {"digest": digest, "comment": _comment(comment)}
            change.enter(by.person.name, "recipe.rolled_back", recipe, was, said | will)
            activation(content)

    @contextmanager
    def _deciding(
        self, number: int, needed: Stage | None, wanted: Stage, by: str | None
    ) -> Iterator[tuple[Change, Proposal, str]]:
        """Give a proposal that nobody else can change meanwhile, and bring it to the stage `wanted`."""
        with self._ledger.changing() as change:
            found, content = _get(change.connection, number, lock=True)
            open_ = {Stage.PROPOSED, Stage.APPROVED} if needed is None else {needed}
            if found.state not in open_:
                told = " or ".join(sorted(open_))
                raise ConflictError(f"proposal {number} is {found.state.value}: to be {wanted.value} it must be {told}")
            values: dict[str, object] = {"state": wanted.value}
            if by is not None:
                values |= {"decided_by": by, "decided_at": func.now()}
            change.connection.execute(update(proposal).where(proposal.c.number == number).values(values))
            yield change, found, content


def _get(connection: Connection, number: int, *, lock: bool = False) -> tuple[Proposal, str]:
    wanted = select(*_COLUMNS, proposal.c.content).where(proposal.c.number == number)
    if not 0 < number < 2**63:
        raise InputError(f"there is no proposal {number}")
    row = connection.execute(wanted.with_for_update() if lock else wanted).mappings().one_or_none()
    if row is None:
        raise InputError(f"there is no proposal {number}")
    fields = dict(row)
    content = fields.pop("content")
    return Proposal(**fields), content


def _sides(changed: list[Difference]) -> tuple[dict[str, object], dict[str, object]]:
    """Return what was and what will be, by field; where an entry cannot hold all of it, only which fields differ."""
    before: dict[str, object] = {one.field: one.before for one in changed}
    after: dict[str, object] = {one.field: one.after for one in changed}
    if len(str(before)) + len(str(after)) > _LARGEST_ENTRY:
        return {}, {"fields": [one.field for one in changed][:500]}
    return before, after


def _stood(found: Proposal) -> dict[str, object]:
    return {"proposal": found.number, "state": found.state.value, "person": found.person}


def _comment(said: str) -> str:
    if len(said) > LONGEST_COMMENT or not all(letter.isprintable() or letter == "\n" for letter in said):
        raise InputError(f"comment: must be at most {LONGEST_COMMENT} printable characters and line breaks")
    return said.strip()
