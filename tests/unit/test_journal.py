from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config import files
from config.errors import StoreError
from storage import record as framing
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


def test_what_is_kept_aside_never_takes_the_room_of_records(tmp_path: Path) -> None:
    counters: Counter[str] = Counter()
    made = Journal(tmp_path, 80_000, 0, counters)  # 10 kB aside
    made.append([record(number, 1000) for number in range(30)])
    for found in made.read(made.resume(None), PLENTY).records:
        made.refuse(found, "no")
    kept = sorted((tmp_path / "refused").iterdir())
    assert sum(file.stat().st_size for file in kept) <= 10_000
    assert counters["refused_records"] == 30
    assert 40 < counters["kept_aside_removed"] == 60 - len(kept)  # of each two files
    last = made.read(made.resume(None), PLENTY).records[-1]
    assert kept[-1].name == f"{last.start.segment:012}-{last.start.offset:010}.record"  # the oldest had to go
    made.refuse(last, "no, again")  # a transaction that is tried again
    assert counters["refused_records"] == 30
    made.close()
    again = Journal(tmp_path, 80_000, 0, counters)
    assert again.size_bytes == sum(file.stat().st_size for file in tmp_path.rglob("*0000*"))


def test_refused_records_come_in_any_order_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counters: Counter[str] = Counter()
    made = Journal(tmp_path, PLENTY, 0, counters)
    made.append([record(number) for number in range(3)])
    records = made.read(made.resume(None), PLENTY).records
    made.refuse(records[1], "found by us, before the batch was halved")
    made.refuse(records[0], "found by PostgreSQL, in the first half")
    made.refuse(records[1], "again")
    assert counters["refused_records"] == 2
    from_files, calls = files.write, iter([None, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])

    def full(path: Path, content: bytes) -> None:
        if error := next(calls, None):
            raise error
        from_files(path, content)

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(StoreError, match="nothing can be kept"):
        made.refuse(records[2], "its reason fits, the record does not")
    made.refuse(records[2], "when the transaction comes again")
    assert counters["refused_records"] == 3
    assert len(list((tmp_path / "refused").glob("*.record"))) == 3


def test_two_threads_may_refuse_at_once(tmp_path: Path) -> None:
    counters: Counter[str] = Counter()
    made = Journal(tmp_path, 80_000, 0, counters)
    made.append([record(number, 1000) for number in range(40)])
    records = made.read(made.resume(None), PLENTY).records
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(made.refuse, found, "no") for found in [*records, *records]]:
            done.result()
    assert counters["refused_records"] == 40
    assert made._aside.size_bytes == sum(file.stat().st_size for file in (tmp_path / "refused").iterdir()) <= 10_000


def test_what_is_larger_than_the_bound_is_kept_cut(tmp_path: Path) -> None:
    made = journal(tmp_path, limit_bytes=80_000)
    made.append([record(0, 30_000)])
    made.refuse(made.read(made.resume(None), PLENTY).records[0], "no")
    assert sum(file.stat().st_size for file in (tmp_path / "refused").iterdir()) == 10_000


def test_new_journal_keeps_aside_what_an_old_one_has_a_name_for(tmp_path: Path) -> None:
    for _ in range(2):
        counters: Counter[str] = Counter()
        made = Journal(tmp_path, PLENTY, 0, counters)
        made.append([record(0)])
        made.refuse(made.read(made.resume(None), PLENTY).records[0], "no")
        assert counters["refused_records"] == 1
        made.close()
        next(tmp_path.glob("*.segment")).unlink()
    assert len(list((tmp_path / "refused").iterdir())) == 4


def test_torn_tail_is_kept_before_it_is_cut(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.append([record(0)])
    first.close()
    with next(tmp_path.glob("*.segment")).open("ab") as file:
        file.write(b"torn")
    journal(tmp_path)
    assert [file.read_bytes() for file in (tmp_path / "damaged").iterdir()] == [b"torn"]


def test_full_disk_keeps_no_damage_but_lets_the_rest_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = journal(tmp_path)
    first.append([record(number) for number in range(3)])
    first.close()
    segment = next(tmp_path.glob("*.segment"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 3 + 40] ^= 1
    segment.write_bytes(content)
    counters: Counter[str] = Counter()
    second = Journal(tmp_path, PLENTY, 0, counters)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("config.files.write", full)
        assert numbers(second) == [0, 2]
        assert numbers(second) == [0, 2]
    assert counters["damaged_stretches"] == 1


def test_unreadable_segment_does_not_hinder_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = journal(tmp_path)
    first.append([record(0)])
    first.close()
    real = Path.open

    def broken(path: Path, *arguments: str, **named: object) -> object:
        if path.name == "000000000001.segment":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *arguments, **named)  # type: ignore[call-overload]  # passed on as they came

    monkeypatch.setattr(Path, "open", broken)
    second = journal(tmp_path)
    assert second.append([record(1)]) == [0]
    with pytest.raises(StoreError, match="Input/output error"):  # never skipped: the disk may yet give it
        numbers(second)
    monkeypatch.undo()
    assert numbers(second) == [0, 1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a disk is mounted")
def test_read_only_disk_is_an_error_and_leaves_everything(tmp_path: Path) -> None:
    if subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        made = journal(tmp_path)
        made.append([record(0)])
        made.close()
        subprocess.run(["/bin/mount", "-o", "remount,ro", tmp_path], check=True)
        with pytest.raises(StoreError, match="Read-only file system"):
            journal(tmp_path)
        subprocess.run(["/bin/mount", "-o", "remount,rw", tmp_path], check=True)
        made = journal(tmp_path)
        assert numbers(made) == [0]
        made.close()
    finally:
        subprocess.run(["/bin/umount", tmp_path], check=True)


@pytest.mark.parametrize("name", ["pwrite", "fdatasync", "open"])
def test_disk_that_becomes_read_only_acknowledges_nothing_until_it_takes_records_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = journal(tmp_path, limit_bytes=8_000)  # segments of 1 kB: each append begins one
    made.append([record(0, 1000)])

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        for _ in range(3):
            with pytest.raises(StoreError, match="does not take the journal: Read-only"):
                made.append([record(1, 1000)])
    assert made.append([record(2, 1000)]) == [0]
    assert numbers(made) == [0, 2]


@pytest.mark.parametrize("parts", [[b""] * (framing.MOST_PARTS + 1), [bytes(1 << 20)] * 1025])
def test_record_that_no_reader_would_believe_is_not_taken(tmp_path: Path, parts: list[bytes]) -> None:
    assert journal(tmp_path, limit_bytes=1 << 40).append([parts, [b"small"]]) == [1]


def test_strange_files_are_left_alone_and_said(tmp_path: Path) -> None:
    (tmp_path / "000000000003.segment").mkdir()
    strange = [
        "1.segment",
        "x.segment",
        f"{2**63 - 1}.segment",
        f"{2**80}.segment",
        f"{2**31:012}.segment",
        "000000000000.segment",
    ]
    for name in strange:
        (tmp_path / name).write_bytes(b"mine")
    counters: Counter[str] = Counter()
    made = Journal(tmp_path, PLENTY, 0, counters)
    made.append([record(0)])
    assert counters["strange_files"] == 7
    assert (tmp_path / "000000000004.segment").exists()
    made.release(made.read(made.resume(None), PLENTY).end)
    assert {(tmp_path / name).read_bytes() for name in strange} == {b"mine"}


def test_number_beyond_those_that_postgres_can_hold_is_never_written(tmp_path: Path) -> None:
    last = tmp_path / f"{2**31 - 1:012}.segment"
    last.touch()
    made = journal(tmp_path)
    with pytest.raises(StoreError, match="highest number that there is: remove it"):
        made.append([record(0)])
    made.close()
    last.unlink()
    assert journal(tmp_path).append([record(0)]) == [0]


@pytest.mark.parametrize("name", [f"{2**31 - 3:012}.segment", "refused/999999999999-0000000000.record"])
def test_whatever_numbers_there_are_new_records_are_read_after_a_restart(tmp_path: Path, name: str) -> None:
    (tmp_path / "refused").mkdir()
    (tmp_path / name).touch()
    first = journal(tmp_path)
    first.append([record(0)])
    first.close()
    second = journal(tmp_path)
    second.append([record(1)])
    assert numbers(second) == [0, 1]


def test_identity_that_is_none_is_made_anew(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.append([record(0)])
    first.close()
    (tmp_path / "identity").write_bytes(b"nul\0 " * 1000)
    second = journal(tmp_path)
    assert len(second.identity) == 32
    assert numbers(second) == [0]


def test_clock_set_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = journal(tmp_path, limit_bytes=8_000)
    for number in range(10):
        first.append([record(number, 300)])
        monkeypatch.setattr(time, "time", lambda at=number: 2e9 - at * 3600)
    cursor = first.read(first.resume(None), 1000).end
    rest = numbers(first, cursor)
    first.close()
    for at, segment in enumerate(sorted(tmp_path.glob("*.segment"))):
        os.utime(segment, (2e9 - at * 1e8, 2e9 - at * 1e8))  # the newest is the oldest, and some lie in the future
    second = journal(tmp_path, limit_bytes=80_000)
    second.append([record(10)])
    assert numbers(second) == list(range(11))
    assert numbers(second, second.resume(cursor)) == [*rest, 10]
    assert second.behind_s(cursor) >= 0


def test_waiting_is_told_from_when_the_oldest_was_journalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    made = journal(tmp_path, limit_bytes=1_000_000_000)
    assert made.behind_s(made.resume(None)) == 0
    ends = []
    for number in range(10_000):  # one a second
        made.append([record(number, 1)]) if number % 100 == 0 else made._mark(ends[-1])
        ends.append(Position(made._number, made._sizes[made._number]))
        now_ns += 1_000_000_000
    assert len(made._marks) < 4200
    assert made.behind_s(Position(1, 0)) == pytest.approx(10_000, abs=4)
    assert made.behind_s(ends[5000]) == pytest.approx(4900, abs=8)
    assert made.behind_s(ends[-1]) == 0
    made.release(ends[5000])
    assert made.behind_s(ends[5000]) == pytest.approx(4900, abs=8)
    made.close()
    segment = next(tmp_path.glob("*.segment"))
    os.utime(segment, (time.time() - 3600, time.time() - 3600))
    assert journal(tmp_path).behind_s(Position(1, 0)) == pytest.approx(3600, abs=5)
