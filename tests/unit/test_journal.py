from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from config.errors import StoreError
from storage.journal import Journal
from storage.record import Position

PLENTY = 1 << 30


def journal(folder: Path, limit_bytes: int = PLENTY, free_disk_bytes: int = 0) -> Journal:
    return Journal(folder, limit_bytes, free_disk_bytes, Counter())


def record(number: int, size: int = 100) -> list[bytes]:
    return [b"verdict/1", str(number).encode(), bytes(size)]


def numbers(made: Journal, start: Position = Position(1, 0)) -> list[int]:  # noqa: B008 - a tuple does not change
    return [int(found.parts[1]) for found in made.read(start, PLENTY).records]


def test_records_come_back_in_order_with_their_parts(tmp_path: Path) -> None:
    made = journal(tmp_path)
    records = [[b"kind", b"header"], [b"kind", b"", b"payload", b""], [b"x"], []]
    assert made.append(records) == [0, 1, 2, 3]
    batch = made.read(made.resume(None), PLENTY)
    assert [found.parts for found in batch.records] == records
    assert made.behind_bytes(batch.end) == 0


def test_reading_goes_on_where_it_ended_and_over_segments(tmp_path: Path) -> None:
    made = journal(tmp_path, limit_bytes=64_000)  # segments of 8 kB
    for begin in range(0, 200, 10):
        made.append([record(number) for number in range(begin, begin + 10)])
    assert len(list(tmp_path.glob("*.segment"))) > 3
    position, found = made.resume(None), []
    while (batch := made.read(position, 500)).records:
        found += [int(one.parts[1]) for one in batch.records]
        position = batch.end
    assert found == list(range(200))


def test_restart_keeps_all_and_appends_to_a_new_segment(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.append([record(0)])
    first.close()
    second = journal(tmp_path)
    second.append([record(1)])
    assert numbers(second) == [0, 1]
    assert second.identity == first.identity
    assert len(list(tmp_path.glob("*.segment"))) == 2


def test_released_segments_are_removed_but_never_the_open_one(tmp_path: Path) -> None:
    made = journal(tmp_path, limit_bytes=64_000)
    for number in range(200):
        made.append([record(number)])
    made.release(made.read(made.resume(None), PLENTY).end)
    left = list(tmp_path.glob("*.segment"))
    assert len(left) == 1
    assert made.size_bytes == left[0].stat().st_size
    made.append([record(200)])
    assert numbers(made)[-1] == 200


def test_bound_takes_what_fits_and_the_rest_after_release(tmp_path: Path) -> None:
    made = journal(tmp_path, limit_bytes=20_000)
    taken = made.append([record(number, 3000) for number in range(10)])
    assert taken == [0, 1, 2, 3, 4, 5]
    assert made.append([record(10, 3000), record(11, 10)]) == [1]  # a small one still fits
    assert made.size_bytes <= 20_000
    made.append([record(12, 10)])  # begins the next segment
    made.release(made.read(made.resume(None), PLENTY).end)
    assert made.append([record(13, 3000)]) == [0]


def test_free_disk_is_left_alone(tmp_path: Path) -> None:
    made = journal(tmp_path, free_disk_bytes=shutil.disk_usage(tmp_path).free + PLENTY)
    assert made.append([record(0)]) == []


def test_full_disk_leaves_no_partial_record(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: a write is cut short, the next one fails."""
    code = f"""
import resource, signal
from collections import Counter
from pathlib import Path
from config.errors import StoreError
from storage.journal import Journal
made = Journal(Path({str(tmp_path)!r}), 1 << 30, 0, Counter())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))
made.append([[b"0" * 100]])
for _ in range(3):
    try:
        made.append([[b"1" * 2000]])
    except StoreError as error:
        print(error)
print((made.folder / "000000000001.segment").stat().st_size == made.size_bytes)
made.append([[b"2" * 100]])
print(b"".join(found.parts[0][:1] for found in made.read(made.resume(None), 1 << 30).records))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("does not take the journal: File too large") == 3
    assert done.stdout.endswith("True\nb'02'\n")
    assert len(list(tmp_path.glob("*.segment"))) == 1


def test_torn_tail_is_cut_off(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.append([record(number) for number in range(3)])
    first.close()
    segment = next(tmp_path.glob("*.segment"))
    content = segment.read_bytes()
    segment.write_bytes(content[:-1])
    counters: Counter[str] = Counter()
    second = Journal(tmp_path, PLENTY, 0, counters)
    assert segment.read_bytes() == content[: len(content) // 3 * 2]
    assert numbers(second) == [0, 1]
    assert counters == {"torn_tails": 1}


def test_damage_inside_is_kept_aside_and_the_rest_read(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.append([record(number) for number in range(10)])
    first.close()
    segment = next(tmp_path.glob("*.segment"))
    content = bytearray(segment.read_bytes())
    length = len(content) // 10
    content[3 * length + 50] ^= 1
    content[6 * length] ^= 1  # a mark
    segment.write_bytes(content)
    counters: Counter[str] = Counter()
    second = Journal(tmp_path, PLENTY, 0, counters)
    assert numbers(second) == [0, 1, 2, 4, 5, 7, 8, 9]
    assert numbers(second) == [0, 1, 2, 4, 5, 7, 8, 9]  # once more: kept aside and counted once
    assert counters["damaged_stretches"] == 2
    kept = sorted((tmp_path / "damaged").iterdir())
    assert [file.read_bytes() for file in kept] == [content[n * length : (n + 1) * length] for n in (3, 6)]
    assert second.size_bytes == len(content) + 2 * length


def test_missing_segment_is_counted_and_passed_over(tmp_path: Path) -> None:
    made = journal(tmp_path, limit_bytes=64_000)
    for number in range(200):
        made.append([record(number)])
    (tmp_path / "000000000002.segment").unlink()
    found = numbers(made)
    assert found[0] == 0
    assert found[-1] == 199
    assert 100 < len(found) < 200


def test_bytes_of_another_record_never_pass_for_one(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.append([record(0)])
    whole = next(tmp_path.glob("*.segment")).read_bytes()
    first.append([[whole], record(1)])  # a payload that looks like a record
    first.close()
    segment = next(tmp_path.glob("*.segment"))
    content = bytearray(segment.read_bytes())
    content[len(whole) + 2] ^= 1
    segment.write_bytes(content)
    assert numbers(journal(tmp_path)) == [0, 1]


def test_lost_segments_make_a_new_journal(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.append([record(0)])
    first.close()
    next(tmp_path.glob("*.segment")).unlink()
    second = journal(tmp_path)
    assert second.identity != first.identity  # PostgreSQL's cursor of the old one says nothing about it


@pytest.mark.parametrize(
    ("cursor", "begins"),
    [(None, (3, 0)), (Position(1, 5), (3, 0)), (Position(4, 7), (4, 7)), (Position(99, 0), (3, 0))],
)
def test_cursor_that_cannot_be_means_from_the_first_segment(
    tmp_path: Path, cursor: Position | None, begins: tuple[int, int]
) -> None:
    for number in (3, 4):
        (tmp_path / f"{number:012}.segment").touch()
    assert journal(tmp_path).resume(cursor) == begins


def test_second_holder_is_told_of_the_first(tmp_path: Path) -> None:
    first = journal(tmp_path)
    with pytest.raises(StoreError, match="holds this journal"):
        journal(tmp_path)
    first.close()
    journal(tmp_path)


def test_unreadable_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        journal(tmp_path / "missing")
