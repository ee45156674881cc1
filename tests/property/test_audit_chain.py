"""Whatever is done to a chain of audit entries is found, and the first entry that is wrong is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from config.errors import InputError
from storage.chain import BEFORE_FIRST, RESTORED, Entry, Head, check

_TEXTS = st.text(max_size=8)
_VALUES = st.none() | _TEXTS


def chain(contents: Sequence[tuple[str, str | None]]) -> list[Entry]:
    """Return entries as `append` makes them."""
    entries: list[Entry] = []
    last = BEFORE_FIRST.hash
    for number, (subject, after) in enumerate(contents, start=1):
        entry = Entry(number, str(1_700_000_000_000_000 + number), "me", "hold.placed", subject, None, after, "")
        last = entry.hashed(last)
        entries.append(entry._replace(hash=last))
    return entries


def noted(entries: Sequence[Entry]) -> dict[str, Head]:
    return {"note": Head(entries[-1].number, entries[-1].hash)}


chains = st.lists(st.tuples(_TEXTS, _VALUES), min_size=1, max_size=12).map(chain)


@given(chains)
def test_chain_that_nobody_touched_is_whole(entries: list[Entry]) -> None:
    found = check(entries, noted(entries) | {"older": Head(1, entries[0].hash)})
    assert found.whole
    assert found.last == noted(entries)["note"]


def test_no_entry_is_whole_until_one_was_noted() -> None:
    assert check([], {}).whole
    found = check([], {"note": Head(3, "0" * 64)})
    assert found.first_wrong == 1
    assert "entries 1 to 3 are missing" in str(found.fault)


@given(chains, st.data())
def test_edit_of_any_field_is_found_where_it_is(entries: list[Entry], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(entries) - 1))
    field = data.draw(st.sampled_from(Entry._fields))
    value = data.draw(st.integers(-3, 20) if field == "number" else _VALUES if field in {"before", "after"} else _TEXTS)
    assume(value != getattr(entries[at], field))
    edited = [*entries]
    edited[at] = edited[at]._replace(**{field: value})
    found = check(edited, {})
    assert found.first_wrong == at + 1


@given(chains, st.data())
def test_edit_with_a_hash_made_to_fit_is_found_by_the_next_entry_or_the_note(
    entries: list[Entry], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(entries) - 1))
    previous = entries[at - 1].hash if at else BEFORE_FIRST.hash
    forged = entries[at]._replace(who="somebody else")
    edited = [*entries[:at], forged._replace(hash=forged.hashed(previous)), *entries[at + 1 :]]
    found = check(edited, noted(entries))
    assert found.first_wrong == min(at + 2, len(entries))


@given(chains)
def test_chain_made_anew_from_its_first_entry_is_found_by_the_note(entries: list[Entry]) -> None:
    anew = chain([(entry.subject + "!", entry.after) for entry in entries])
    assert check(anew, {}).whole  # nothing in the database can tell
    found = check(anew, noted(entries))
    assert found.first_wrong == len(entries)
    assert "note noted" in str(found.fault)


@given(chains, st.data())
def test_removal_of_any_entries_is_found_at_the_first_of_them(entries: list[Entry], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(1, len(entries)), min_size=1))
    found = check([entry for entry in entries if entry.number not in gone], noted(entries))
    assert found.first_wrong == min(gone)
    assert "missing" in str(found.fault)


@given(chains, st.data())
def test_removal_that_closes_the_gap_in_the_numbers_is_found(entries: list[Entry], data: st.DataObject) -> None:
    gone = data.draw(st.integers(0, len(entries) - 1))
    left = entries[:gone] + entries[gone + 1 :]
    closed = [entry._replace(number=number) for number, entry in enumerate(left, start=1)]
    assert check(closed, noted(entries)).first_wrong == gone + 1


@given(chains, st.data())
def test_any_other_order_is_found(entries: list[Entry], data: st.DataObject) -> None:
    moved = data.draw(st.permutations(entries))
    assume(moved != entries)
    first = next(at for at, (one, other) in enumerate(zip(moved, entries, strict=True), start=1) if one != other)
    assert check(moved, {}).first_wrong == first
    renumbered = [entry._replace(number=number) for number, entry in enumerate(moved, start=1)]
    assert check(renumbered, {}).first_wrong == first


def test_trail_from_an_older_backup_says_so() -> None:
    entries = chain([("a", None), ("b", None), ("c", None)])
    last = Entry(2, "1700000000000000", "me", RESTORED, "old.andon-backup", None, None, "")
    restored = [entries[0], last._replace(hash=last.hashed(entries[0].hash))]
    found = check(restored, noted(entries))
    assert not found.whole
    assert found.first_wrong == 3
    assert "entry 2 says that me restored the backup old.andon-backup at 2023-11-14" in str(found.fault)


def test_nothing_is_wrong_with_a_verification_but_its_fault() -> None:
    found = check(chain([("a", None)]), {})
    assert dataclasses.replace(found, fault="x").whole is False


@pytest.mark.parametrize(
    "words", ["", "1", "0:" + "0" * 64, "1:" + "0" * 63, "1:" + "G" * 64, "1:0:0", "٣:" + "0" * 64]
)
def test_what_is_no_head_is_refused(words: str) -> None:
    with pytest.raises(InputError, match="NUMBER:HASH"):
        Head.parse(words)
    assert Head.parse(" 12:" + "ab" * 32 + "\n") == Head(12, "ab" * 32)
