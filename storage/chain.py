"""The chain of audit entries: what an entry's hash is made of, and what is wrong with entries that do not fit. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from config.errors import InputError

RESTORED = "backup.restored"  # the action by which a trail says that it was taken from a backup
HASH = re.compile(r"[0-9a-f]{64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Head(NamedTuple):
    """An entry's number and hash; written `NUMBER:HASH`."""

    number: int
    hash: str

    @classmethod
    def parse(cls, words: str) -> Self:
        """Read `NUMBER:HASH`; raise InputError."""
        number, _, found = words.strip().partition(":")
        if not re.fullmatch(r"[1-9][0-9]{0,17}", number) or not HASH.fullmatch(found):
            raise InputError(f"{words!r:.100} is no head of an audit trail: it must be NUMBER:HASH, with 64 hex digits")
        return cls(int(number), found)

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


class Entry(NamedTuple):
    """One entry as it lies in the database, which may not be as it was written."""

    number: int
    at_us: str  # Unix time in µs, or whatever the database has instead
    who: str
    action: str
    subject: str
    before: str | None  # JSON
    after: str | None  # JSON
    hash: str

    @property
    def at(self) -> datetime | None:
        """When it was written, by the database's clock; None if that is no time of this calendar."""
        try:
            return _EPOCH + timedelta(microseconds=int(self.at_us))
        except (OverflowError, ValueError):
            return None

    def hashed(self, previous: str) -> str:
        """Return the hash that belongs to these fields after an entry with the hash `previous`."""
        fields = self._asdict() | {"hash": previous}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


BEFORE_FIRST = Head(0, "0" * 64)


@dataclass(frozen=True)
class Verification:
    """What `verify` found: the chain as far as it is whole, and the first entry that is not as it must be."""

    last: Head | None
    first_wrong: int | None = None
    fault: str | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return self.fault is None


def check(entries: Iterable[Entry], anchors: Mapping[str, Head]) -> Verification:
    """Check entries that come in the order of their numbers."""
    last = BEFORE_FIRST
    restored: Entry | None = None
    for entry in entries:
        fault = _fault(entry, last)
        if fault:
            return Verification(last if last.number else None, *fault)
        last = Head(last.number + 1, entry.hash)
        if entry.action == RESTORED:
            restored = entry
        for where, noted in anchors.items():
            if noted.number == last.number and noted != last:
                said = f"entry {last.number} is not the one that {where} noted: entries were written anew up to here"
                return _mismatch(last, last.number, said, restored)
    for where, noted in sorted(anchors.items(), key=lambda anchor: -anchor[1].number):
        if noted.number > last.number:
            missing = _span(last.number + 1, noted.number)
            said = f"{missing} missing at the end: {where} noted entry {noted.number}"
            return _mismatch(last, last.number + 1, said, restored)
    return Verification(last if last.number else None)


def _fault(entry: Entry, last: Head) -> tuple[int, str] | None:
    """Say what is wrong with the entry after `last`, if anything is."""
    expected = last.number + 1
    if entry.number != expected:
        if entry.number > expected:
            after = f"after entry {last.number} comes" if last.number else "the first one is"
            return expected, f"{_span(expected, entry.number - 1)} missing: {after} entry {entry.number}"
        return expected, f"there is an entry numbered {entry.number} where entry {expected} is expected"
    if entry.hash != entry.hashed(last.hash):
        return expected, (
            f"entry {expected} was changed, or is not the one that was written here: its hash does not fit what stands "
            "in it and before it"
        )
    return None


def _mismatch(last: Head, first_wrong: int, said: str, restored: Entry | None) -> Verification:
    """Return that the trail is not the one that was noted, and whether it says itself that it came from a backup."""
    if restored is not None:
        at = f" at {restored.at:%Y-%m-%d %H:%M:%S} UTC" if restored.at else ""
        said += (
            f"; entry {restored.number} says that {restored.who} restored the backup {restored.subject}{at}: what was "
            "entered between its making and then is not in this trail"
        )
    return Verification(last if last.number else None, first_wrong, said)


def _span(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"
