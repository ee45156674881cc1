"""A journal that was put back: what the database lacks is read, and what comes later is never taken for stored."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from deploy.backup.state import settle_journal
from storage.journal import Journal
from storage.record import Position

LIMIT = 64 * 1024  # segments of 8 kB


def made(folder: Path) -> Journal:
    return Journal(folder, LIMIT, 0, Counter())


def fill(journal: Journal, numbers: range) -> None:
    for number in numbers[::4]:
        records = [[b"%04d" % one, bytes(900)] for one in numbers if number <= one < number + 4]
        assert len(journal.append(records)) == len(records)


def read(journal: Journal, cursor: Position | None) -> list[int]:
    return [int(record.parts[0]) for record in journal.read(journal.resume(cursor), 1 << 20).records]


@pytest.mark.parametrize("copied", [0, 1, 9, 40])
@pytest.mark.parametrize("stored", [0, 5, 9, 40])
@pytest.mark.parametrize("torn", [0, 300])
def test_journal_goes_on_after_both_copy_and_cursor(tmp_path: Path, copied: int, stored: int, torn: int) -> None:
    """`copied` records were in the copy, `stored` in the database, which was copied later (or had a backlog)."""
    line, put_back = tmp_path / "line", tmp_path / "copy"
    line.mkdir()
    journal = made(line)
    fill(journal, range(copied))
    shutil.copytree(line, put_back)
    (put_back / "lock").unlink()
    fill(journal, range(copied, 41))
    cursor = journal.read(Position(1, 0), 1 << 20).records[stored - 1].end if stored else None
    journal.close()
    segments = sorted(put_back.glob("*.segment"))
    if torn and segments:
        whole = (line / segments[-1].name).read_bytes()  # the copy ends within a record
        segments[-1].write_bytes(whole[: segments[-1].stat().st_size + torn])

    settle_journal(put_back, cursor)
    again = made(put_back)
    assert read(again, cursor) == list(range(stored, copied))
    fill(again, range(1000, 1030))  # over segments that the database has a position in
    assert read(again, cursor) == [*range(stored, copied), *range(1000, 1030)]
    assert again.behind_bytes(again.resume(cursor)) >= 0
    if cursor and copied:
        assert again.identity == (line / "identity").read_text()
    again.close()
