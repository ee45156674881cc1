from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from config.errors import InputError
from config.messages import Appearance, GateCommand, Judgement, Truth, Verdict, View, encode
from storage import partitions, schema
from storage.incoming import HEADER, TRAILER, Incoming, Tallies
from storage.rows import COLUMNS, moment, rows

BEGIN = datetime(2026, 11, 22, 12, 59, 59, tzinfo=UTC)


def made(number: int, seconds: float = 0, score: float | None = 1.0, bundle: str | None = "sha256:b"):
    verdict = Verdict(
        part_id=f"st-run-{number:08}",
        sequence=number,
        station="st",
        line="1",
        recipe="demo",
        recipe_version=1,
        recipe_digest=None,
        product="bracket",
        verdict=Judgement.PASS,
        reasons=(),
        views=(View(camera="top", verdict=Judgement.PASS, score=score, bundle_digest=bundle),),
        gate=GateCommand.PASS,
        trigger_ns=1,
        trigger_time_ns=int((BEGIN + timedelta(seconds=seconds)).timestamp()) * 10**9,
        deadline_ns=3,
        judged_ns=2,
        truth=Truth(good=True),
    )
    return rows([bytes(part) for part in encode(verdict)], number)


def test_every_row_has_as_many_fields_as_its_table_and_the_stream_is_whole() -> None:
    incoming = Incoming()
    for number in range(3):
        incoming.add(made(number))
    for table in (schema.verdict, schema.view):
        content = b"".join(incoming.content(table))
        assert content.startswith(HEADER)
        assert content.endswith(TRAILER)
        at, found = len(HEADER), 0
        while (fields := struct.unpack_from("!h", content, at)[0]) != -1:
            assert fields == len(COLUMNS[table])
            at += 2
            for _ in range(fields):
                at += 4 + max(0, struct.unpack_from("!i", content, at)[0])
            found += 1
        assert found == incoming.counts[table] == 3


def test_record_that_a_table_cannot_hold_leaves_nothing_of_itself() -> None:
    incoming = Incoming()
    incoming.add(made(1))
    before = {table: b"".join(incoming.content(table)) for table in incoming.counts}
    (verdict, row), (view, viewed) = made(2)
    with pytest.raises(InputError, match="view: a value has the wrong type"):
        incoming.add([(verdict, row), (view, (*viewed[:-1], "soon"))])
    assert {table: b"".join(incoming.content(table)) for table in incoming.counts} == before
    assert incoming.tallies.rows()[0]["parts"] == 1


def test_partitions_and_times_are_those_of_the_rows() -> None:
    incoming = Incoming()
    incoming.add(made(1, seconds=86_400, bundle=None))
    incoming.add(made(2))
    wanted = {
        partitions.partition_of(table, BEGIN + timedelta(days=days))
        for table in (schema.verdict, schema.view)
        for days in (0, 1)
    }
    assert incoming.partitions() == wanted
    seen = {(row["kind"], row["name"]): (row["first_time"], row["last_time"]) for row in incoming.seen()}
    assert seen["run", "run"] == seen["camera", "top"] == (BEGIN, BEGIN + timedelta(days=1))
    assert seen["bundle", "sha256:b"] == (BEGIN, BEGIN)
    assert {kind for kind, _ in seen} == {"run", "station", "line", "product", "recipe", "camera", "bundle"}


def test_what_has_no_name_was_not_seen() -> None:
    incoming = Incoming()
    (verdict, row), viewed = made(1, bundle=None)
    at = COLUMNS[verdict].index("recipe")
    incoming.add([(verdict, (*row[:at], "", *row[at + 1 :])), viewed])
    assert {row["kind"] for row in incoming.seen()} == {"run", "station", "line", "product", "camera"}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4 * 3600),
            st.none() | st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf]),
            st.sampled_from(["run1", "run2"]),
            st.sampled_from(["PASS", "REJECT"]),
        )
    )
)
def test_tallies_are_the_sums_of_what_was_added(parts: list[tuple[int, float | None, str, str]]) -> None:
    tallies = Tallies()
    for second, score, run, verdict in parts:
        tallies.add(second * 1_000_000, score, run, "st", "1", "bracket", "demo", 1, verdict)
    found = {(row["hour"], row["verdict"]): row for row in tallies.rows()}
    wanted = {(moment(second // 3600 * 3_600_000_000), verdict) for second, _, _, verdict in parts}
    assert found.keys() == wanted
    for (hour, verdict), row in found.items():
        mine = [one[1] for one in parts if moment(one[0] // 3600 * 3_600_000_000) == hour and one[3] == verdict]
        finite = [score for score in mine if score is not None and math.isfinite(score)]
        assert (row["parts"], row["scored"]) == (len(mine), len(finite))
        assert row["score_sum"] == pytest.approx(sum(finite), rel=1e-9, abs=1e-6)


def test_views_are_counted_by_hour_camera_and_bundle() -> None:
    incoming = Incoming()
    incoming.add(made(1, score=2.0))
    incoming.add(made(2, score=math.inf))
    incoming.add(made(3, seconds=1, score=None, bundle=None))
    found = incoming.views.rows()
    assert [(row["hour"].hour, row["bundle"], row["views"], row["scored"]) for row in found] == [
        (12, "sha256:b", 2, 1),
        (13, "", 1, 0),
    ]
    assert (found[0]["score_sum"], found[0]["score_squares"]) == (2.0, 4.0)
    assert (found[0]["station"], found[0]["product"], found[0]["camera"]) == ("st", "bracket", "top")


def test_appearances_are_added_up_and_checked() -> None:
    incoming = Incoming()
    said = {"service": "worker-0", "station": "st", "camera": "top", "product": "cap", "frames": 3}
    for second in (1, 2, 3_600_001):
        message = Appearance(
            **said,
            time_ns=second * 1_000_000_000,
            brightness_sum=300.0,
            brightness_squares=30_000.0,
            focus_sum=6.0,
            focus_squares=12.0,
        )
        incoming.add(rows([bytes(part) for part in encode(message)], 1))
    found = incoming.appearances.rows()
    assert [(row["frames"], row["brightness_sum"]) for row in found] == [(6, 600.0), (3, 300.0)]
    with pytest.raises(InputError, match="appearance"):
        incoming.add(rows([bytes(part) for part in encode(replace(message, camera="a\0"))], 1))
