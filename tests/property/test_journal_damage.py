from __future__ import annotations

import errno
import os
import shutil
import struct
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.errors import StoreError
from storage import journal, record
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


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=40, deadline=None)
@given(GROUPS, st.integers(1, 300), st.integers(0, 2**12), st.binary(min_size=1, max_size=40))
def test_what_is_found_does_not_depend_on_how_much_is_read_at_once(
    groups: list[list[list[bytes]]], window_bytes: int, at: int, garbage: bytes
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        segment = folder / f"{written(folder, groups)[0].start.segment:012}.segment"
        content = bytearray(segment.read_bytes())
        content[at % len(content) : at % len(content) + len(garbage)] = garbage
        segment.write_bytes(content)
        expected = [found for found in parse(bytes(content), START) if isinstance(found, Record)]
        with mock.patch.object(journal, "_WINDOW_BYTES", window_bytes):
            found = read_again(folder)
        assert [record for record in found if record.start.segment == START.segment] == expected


@settings(max_examples=30, deadline=None)
@given(GROUPS, st.data())
def test_segments_that_are_swapped_copied_emptied_or_strange_cost_only_themselves(
    groups: list[list[list[bytes]]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = written(folder, groups)
        numbers = sorted({record.start.segment for record in records})
        touched = set()
        for _ in range(data.draw(st.integers(1, 3))):
            number = data.draw(st.sampled_from([*numbers, 77, 2**31 - 9, 2**31, 10**12 - 1, 2**63 - 1]))
            touched.add(number)
            path = folder / f"{number:012}.segment"
            if path.is_dir():
                continue
            match data.draw(st.sampled_from(["copy", "zero", "empty", "garbage", "folder", "link"])):
                case "copy":
                    other = folder / f"{data.draw(st.sampled_from(numbers)):012}.segment"
                    if other.is_file() and other != path:
                        path.unlink(missing_ok=True)
                        shutil.copyfile(other, path)
                case "zero":
                    path.write_bytes(bytes(3000))
                case "empty":
                    path.write_bytes(b"")
                case "garbage":
                    path.write_bytes(data.draw(st.binary(max_size=300)) + b"AJ1\n" * 5)
                case "folder":
                    path.unlink(missing_ok=True)
                    path.mkdir()
                case "link":
                    path.unlink(missing_ok=True)
                    path.symlink_to("/nowhere")
        found = read_again(folder)
        assert [record for record in records if record.start.segment not in touched] == [
            record for record in found if record.start.segment not in touched
        ]
        assert all(record in records for record in found)
        again = read_again(folder)  # the record that was new is found after a restart
        assert [record.parts for record in again if record not in found] == [[b"new"]]


@example(2, [1, 3, 0], b"", None)  # the last size is what the first two speak of: whole
@given(
    st.sampled_from([0, 1, 2, 1000, 2**16, 2**16 + 1, 2**31, 2**32 - 1]),
    st.lists(st.sampled_from([0, 1, 3, 2**31, 2**32 - 1]), max_size=5),
    st.binary(max_size=20),
    st.one_of(st.none(), st.integers(0, 2**32 - 1)),
)
def test_absurd_counts_and_lengths_under_a_right_checksum_are_damage(
    count: int, sizes: list[int], rest: bytes, length: int | None
) -> None:
    body = struct.pack(f"<{len(sizes) + 1}I", count, *sizes) + rest
    content = struct.pack("<4sII", b"AJ1\n", len(body) if length is None else length, record._checksum(*START, body))
    found = list(parse(content + body, START))
    begin = 4 + 4 * count
    parts_bytes = sum(struct.unpack_from(f"<{count}I", body, 4)) if begin <= len(body) else None
    whole = parts_bytes == len(body) - begin and length in {None, len(body)}
    assert [type(one) for one in found] == [Record if whole else Damage]
    assert found[-1].end.offset == len(content + body)


def test_a_giant_file_that_claims_giant_records_is_read_in_little_memory() -> None:
    with tempfile.TemporaryDirectory() as name, mock.patch.object(journal, "_WINDOW_BYTES", 1 << 16):
        folder = Path(name)
        for number in (1, 2):
            with (folder / f"{number:012}.segment").open("wb") as file:
                file.write(struct.pack("<4sII", b"AJ1\n", 2**32 - 1, 0))
                file.truncate(8 << 20)
        tracemalloc.start()
        made = Journal(folder, PLENTY, 0, Counter())
        assert made.read(made.resume(None), PLENTY).records == []
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        made.close()
        assert peak_bytes < 2 << 20


@contextmanager
def failing(schedule: Iterator[bool]) -> Iterator[None]:
    """Let the calls of the operating system fail as `schedule` says; a write may get half through."""

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(schedule, False):
                if name == "pwrite" and next(schedule, False):
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2], arguments[2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **named)

        return call

    names = ("open", "pwrite", "fdatasync", "fsync", "ftruncate", "statvfs", "unlink")
    with mock.patch.multiple(os, **{name: wrap(name, getattr(os, name)) for name in names}):
        yield


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=12),
    st.lists(st.booleans(), max_size=60),
    st.integers(0, 3),
)
def test_whatever_call_fails_what_was_acknowledged_is_there(
    groups: list[int], schedule: list[bool], damaged: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = Journal(folder, LIMIT, 0, Counter())
        submitted, acknowledged = [], []
        with failing(iter(schedule)):
            for size in groups:
                group = [[str(len(submitted) + number).encode(), bytes(150)] for number in range(size)]
                submitted += group
                try:
                    acknowledged += [group[index] for index in made.append(group)]
                except StoreError as error:
                    assert "No space left" in str(error)  # noqa: PT017 - it need not be raised
        assert [found.parts for found in made.read(made.resume(None), PLENTY).records] == acknowledged
        made.close()
        again = [found.parts for found in read_again(folder)]
        assert [parts for parts in again if parts in acknowledged] == acknowledged
        assert all(parts in submitted for parts in again)
        with failing(iter([False] * damaged + [True] * 20)):  # no start may do harm, either
            try:
                Journal(folder, LIMIT, 0, Counter()).close()
            except StoreError as error:
                assert "cannot be opened" in str(error)  # noqa: PT017 - it need not be raised
        found = [one.parts for one in read_again(folder)]
        assert [parts for parts in found if parts in acknowledged] == acknowledged
