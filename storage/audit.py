"""The audit trail: who changed what, numbered without gaps, each entry chained to the one before it by its hash.

An entry's hash is SHA-256 over the hash before it and all its fields, so an entry that was edited, taken out or moved
breaks the chain at its number. An end that was cut off breaks nothing: it is known by an anchor, the number and hash
of an entry noted outside the database. Each machine that appends keeps one in its state folder; another may be noted
anywhere. The hashes tell that something was changed, not who wrote it: whoever may write to the database can append.

Entries are written in the transaction of the change that they speak of; the anchor follows once that is committed. A
kill between the two leaves the anchor behind by an entry, never ahead.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, RowMapping, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from config import files
from config.errors import ConfigurationError, InputError
from config.log import logger
from storage.chain import BEFORE_FIRST, HASH, Entry, Head, Verification, check
from storage.schema import audit

LONGEST_NAME = 200  # characters of `who` and `subject`
_LOCK = 0x616E646F61  # held by whoever appends, to the end of the transaction
_ACTION = re.compile(r"[a-z_]{1,40}\.[a-z_]{1,40}")
_LARGEST_VALUE = 64 * 1024  # characters of `before` and `after`
_ROWS = 500  # fetched at a time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def append(
    connection: Connection,
    who: str,
    action: str,
    subject: str,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> Head:
    """Append an entry in the transaction that is open on `connection`, and return it; nobody else can until it ends.

    `action` is `noun.verb`, as `hold.placed`; `before` and `after` become JSON. The transaction must not be REPEATABLE
    READ or stricter. Raise InputError for what no entry can say.
    """
    if not _ACTION.fullmatch(action):
        raise InputError(f"action {action!r:.100}: must be noun.verb in small letters, such as hold.placed")
    said = (
        printable("who", who, LONGEST_NAME),
        action,
        printable("subject", subject, LONGEST_NAME),
        _value("before", before),
        _value("after", after),
    )
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    # whatever the session's setting: an anchor must never name an entry that a power cut takes back
    connection.execute(
        text("SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'")
    )
    last = head(connection) or BEFORE_FIRST
    at: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    entry = Entry(last.number + 1, str((at - _EPOCH) // _US), *said, hash="")
    appended = Head(entry.number, entry.hashed(last.hash))
    row = entry._asdict() | {"at": at, "hash": appended.hash}
    del row["at_us"]
    connection.execute(insert(audit).values(row))
    return appended


def printable(field: str, said: str, longest: int) -> str:
    """Return a line that people write, of 1 to `longest` characters; raise InputError that names `field`."""
    if not 1 <= len(said) <= longest or not said.isprintable() or said != said.strip():
        what = f"must be 1 to {longest} printable characters on one line, without spaces at the ends"
        raise InputError(f"{field}: {what}, not {said!r:.100}")
    return said


def head(connection: Connection) -> Head | None:
    """Return the newest entry's number and hash; None while there is no entry."""
    found = connection.execute(
        select(audit.c.number, audit.c.hash).order_by(audit.c.number.desc()).limit(1)
    ).one_or_none()
    return None if found is None else Head(found.number, found.hash)


def newest(connection: Connection, limit: int) -> list[Entry]:
    """Return the last `limit` entries, newest first."""
    found = connection.execute(_ENTRIES.order_by(audit.c.number.desc()).limit(limit)).mappings()
    return [_entry(row) for row in found]


def verify(connection: Connection, anchors: Mapping[str, Head]) -> Verification:
    """Read the whole trail, a few hundred entries at a time, and check it against `anchors` (where noted -> head)."""
    statement = _ENTRIES.order_by(audit.c.number).execution_options(yield_per=_ROWS)
    return check((_entry(row) for row in connection.execute(statement).mappings()), anchors)


class _Noted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int = Field(ge=1)
    hash: str = Field(pattern=f"^{HASH.pattern}$")


class Anchor:
    """The newest entry that is known on this machine, in `audit.json` of a state folder; any process may note one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.json"

    def read(self) -> Head | None:
        """Return what was noted last; None if nothing was. Raise ConfigurationError for a file that is damaged."""
        if not self.path.exists():
            return None
        noted = files.read(self.path, _Noted)
        return Head(noted.number, noted.hash)

    def note(self, connection: Connection, appended: Head) -> None:
        """Note an entry once its transaction is committed; on disk when this returns.

        A note is only ever replaced by one of a trail that has the noted entry, too: else what `verify` is to find
        would be lost. What keeps the note from being written is logged; the entry itself is safe.
        """
        try:
            with _held(self.path.parent) as folder:
                noted = self.read()
                if noted is not None and not _holds(connection, noted):
                    what = "audit trail does not have the entry that was noted: the note stays as it is"
                    logger().error(what, noted=str(noted), file=str(self.path))
                elif noted is None or noted.number < appended.number:
                    written = _Noted(number=appended.number, hash=appended.hash)
                    files.write(self.path, written.model_dump_json().encode())
                    os.fsync(folder)
        except (OSError, ConfigurationError, SQLAlchemyError) as error:
            logger().warning("audit anchor not written", file=str(self.path), error=str(error))


@contextmanager
def _held(folder: Path) -> Iterator[int]:
    """Keep other processes out, by a lock on the folder itself, and give its descriptor."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


_ENTRIES = select(
    *(column for column in audit.c if column.name != "at"),
    text("coalesce(trunc(extract(epoch FROM at) * 1000000)::text, '') AS at_us"),  # whatever it is, also 'infinity'
)


def _entry(row: RowMapping) -> Entry:
    return Entry(**row)


def _holds(connection: Connection, noted: Head) -> bool:
    with connection.begin():
        found = connection.execute(select(audit.c.hash).where(audit.c.number == noted.number)).scalar_one_or_none()
    return found == noted.hash


def _value(field: str, said: Mapping[str, object] | None) -> str | None:
    if said is None:
        return None
    try:
        value = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{field}: cannot be said in JSON: {error}") from error
    if len(value) > _LARGEST_VALUE:
        raise InputError(f"{field}: {len(value)} characters are too many for an audit entry: {_LARGEST_VALUE} at most")
    return value
