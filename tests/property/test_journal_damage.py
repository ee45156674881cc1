from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.journal import Journal
from storage.record import Damage, Position, Record, encode, parse

PLENTY = 1 << 30
LIMIT = 1 << 14  # segments of 2 kB
PARTS = st.lists(st.binary(max_size=200), max_size=4)
GROUPS = st.lists(st.lists(PARTS, min_size=1, max_size=6), min_size=1, max_size=8)
START = Position(1, 0)


def written(folder: Path, groups: list[list[list[bytes]]]) -> list[Record]:
    """Write groups of records and return those that were acknowledged, read back before any damage."""
    made = Journal(folder, LIMIT, 0, Counter())
    taken = [group[index] for group in groups for index in made.append(group)]
    records = made.read(START, PLENTY).records
    made.close()
    assert [record.parts for record in records] == taken
    return records


def read_again(folder: Path) -> list[Record]:
    made = Journal(folder, LIMIT, 0, Counter())
    batch = made.read(made.resume(None), PLENTY)
    assert made.behind_bytes(batch.end) == 0
    made.append([[b"new"]])
    assert [record.parts for record in made.read(batch.end, PLENTY).records] == [[b"new"]]
    made.close()
    return batch.records


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.data())
def test_truncation_loses_only_what_lay_behind_it(groups: list[list[list[bytes]]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = written(folder, groups)
        number = data.draw(st.sampled_from(sorted({record.start.segment for record in records})))
        segment = folder / f"{number:012}.segment"
        size = data.draw(st.integers(0, segment.stat().st_size))
        with segment.open("r+b") as file:
            file.truncate(size)
        assert read_again(folder) == [
            record for record in records if record.start.segment != number or record.end.offset <= size
        ]


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.data())
def test_overwritten_bytes_lose_only_the_records_that_they_hit(
    groups: list[list[list[bytes]]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = written(folder, groups)
        number = data.draw(st.sampled_from(sorted({record.start.segment for record in records})))
        segment = folder / f"{number:012}.segment"
        content = bytearray(segment.read_bytes())
        hit = set()
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(content) - 1))
            garbage = data.draw(st.binary(min_size=1, max_size=40))[: len(content) - place]
            hit |= {place + at for at, byte in enumerate(garbage) if content[place + at] != byte}
            content[place : place + len(garbage)] = garbage
        segment.write_bytes(content)
        # one byte written over twice may be its old self again: then nothing was hit there
        whole = [
            record
            for record in records
            if record.start.segment != number or not hit & set(range(record.start.offset, record.end.offset))
        ]
        found = read_again(folder)
        assert [record for record in found if record in whole] == whole
        assert all(record in records for record in found)


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.binary(min_size=1, max_size=100), st.data())
def test_what_is_slipped_in_never_becomes_a_record(
    groups: list[list[list[bytes]]], slipped: bytes, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = written(folder, groups)
        segment = folder / f"{records[-1].start.segment:012}.segment"
        content = segment.read_bytes()
        other = data.draw(st.sampled_from(records))
        slipped = data.draw(st.sampled_from([slipped, encode(other.parts, other.start)]))
        place = data.draw(st.integers(0, len(content)))
        segment.write_bytes(content[:place] + slipped + content[place:])
        found = read_again(folder)
        assert all(record in records for record in found)
        before = [record for record in records if record.end <= Position(records[-1].start.segment, place)]
        assert found[: len(before)] == before


@given(st.binary(max_size=300), st.integers(0, 2**40), st.integers(0, 2**40))
def test_any_bytes_are_parsed_without_a_gap(content: bytes, segment: int, offset: int) -> None:
    place = Position(segment, offset)
    for found in parse(content, place):
        assert found.start == place
        assert isinstance(found, Damage)
        place = found.end
    assert place.offset == offset + len(content)
