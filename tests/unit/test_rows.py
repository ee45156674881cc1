from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from msgspec.structs import replace

from config.errors import InputError
from config.messages import (
    AnyMessage,
    Event,
    Evidence,
    GateCommand,
    GateOutcome,
    GateReport,
    Health,
    Judgement,
    Reason,
    Region,
    Truth,
    Verdict,
    View,
    encode,
)
from storage import schema
from storage.rows import COLUMNS, Made, confirmed, moment, rows

MAP = np.arange(6, dtype="<f2").reshape(2, 3)
SECOND = (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
REGION = Region(x_px=1, y_px=2, width_px=3, height_px=4, area_px=5, score=7.5)
VIEWS = (
    View(
        camera="top", verdict=Judgement.REJECT, score=7.5, frame_shape=(20, 30, 3), map_shape=(2, 3), regions=(REGION,)
    ),
    View(camera="side", verdict=Judgement.FAULT, reasons=(Reason.LATE,)),
    View(camera="back", verdict=Judgement.PASS, score=1.5, map_shape=(2, 3)),
)
VERDICT = Verdict(
    part_id="line-2-top-19a-b-00000042",
    sequence=42,
    station="line-2-top",
    line="2",
    recipe="demo",
    recipe_version=3,
    recipe_digest="sha256:r",
    product="bracket",
    verdict=Judgement.REJECT,
    reasons=(Reason.ABOVE_THRESHOLD, Reason.LATE),
    views=VIEWS,
    gate=GateCommand.REJECT,
    trigger_ns=1,
    trigger_time_ns=1_000_000_123_456_789,
    deadline_ns=3,
    judged_ns=2,
    truth=Truth(good=False, defect="scratch"),
)


def made(message: AnyMessage, payload: list[bytes]) -> Made:
    return rows([bytes(part) for part in encode(message, payload)], 7)


def named(message: AnyMessage, payload: list[bytes]) -> list[tuple[str, dict[str, object]]]:
    return [(table.name, dict(zip(COLUMNS[table], row, strict=True))) for table, row in made(message, payload)]


def test_verdict_becomes_its_views_and_defects() -> None:
    made = named(VERDICT, [MAP.tobytes(), (MAP + 1).tobytes()])
    assert [table for table, _ in made] == ["verdict", "view", "defect", "view", "view"]
    part, top, defect, side, back = (row for _, row in made)
    assert part["run"] == "19a-b"
    assert part["score"] == 7.5
    assert moment(part["trigger_time"]) == datetime(1970, 1, 12, 13, 46, 40, 123456, tzinfo=UTC)
    assert (part["truth_good"], part["truth_defect"], part["truth_source"]) == (False, "scratch", None)
    assert (top["frame_height_px"], top["frame_width_px"], top["frame_channels"]) == (20, 30, 3)
    assert zlib.decompress(top["map"]) == MAP.tobytes()  # type: ignore[arg-type]  # bytes, as the schema says
    assert (defect["camera"], defect["region"], defect["area_px"]) == ("top", 0, 5)
    assert (defect["product"], defect["center_x"], defect["center_y"]) == ("bracket", 2.5 / 30, 4 / 20)
    assert (side["map"], side["score"], side["frame_height_px"]) == (None, None, None)
    assert zlib.decompress(back["map"]) == (MAP + 1).tobytes()  # type: ignore[arg-type]  # bytes, as the schema says


def test_every_column_without_default_is_filled() -> None:
    for table, row in made(VERDICT, [MAP.tobytes()] * 2):
        assert len(row) == len(COLUMNS[table])


@pytest.mark.parametrize("payload", [[], [MAP.tobytes()], [MAP.tobytes()] * 3, [MAP.tobytes(), b"short"]])
def test_maps_that_do_not_belong_are_an_error(payload: list[bytes]) -> None:
    with pytest.raises(InputError, match="map"):
        made(VERDICT, payload)


@pytest.mark.parametrize(
    "change",
    [
        {"part_id": "elsewhere-1-00000042"},
        {"part_id": "line-2-top--00000042"},
        {"part_id": "line-2-top-1-00000043"},
        {"part_id": "line-2-top-00000042"},
    ],
)
def test_part_id_that_names_no_run_is_an_error(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="part_id"):
        made(replace(VERDICT, **change), [MAP.tobytes()] * 2)


@pytest.mark.parametrize("time_ns", [-1, 10**22])
def test_time_before_1970_or_after_2262_is_an_error(time_ns: int) -> None:
    with pytest.raises(InputError, match="trigger_time_ns"):
        made(replace(VERDICT, trigger_time_ns=time_ns), [MAP.tobytes()] * 2)


@pytest.mark.parametrize("header", [b"", b"[]", b"null", b"{}", b'{"part_id": 7}', b"\xff", b"[" * 9999])
@pytest.mark.parametrize("kind", [VERDICT.kind, GateReport.kind, Evidence.kind, Event.kind, "verdict/2", ""])
def test_header_that_says_something_else_is_an_error(kind: str, header: bytes) -> None:
    with pytest.raises(InputError):
        rows([kind.encode(), header], 7)


def test_gate_report_and_images_become_one_row_each() -> None:
    report = GateReport(
        part_id="p",
        trigger_time_ns=10**9,
        command=GateCommand.STOP,
        written_ns=None,
        outcome=GateOutcome.EJECTED,
        reported_ns=9,
    )
    assert named(report, [])[0][1] == {
        "part_id": "p",
        "trigger_time": SECOND,
        "command": "STOP",
        "written_ns": None,
        "outcome": "EJECTED",
        "reported_ns": 9,
        "confirmed": True,
    }
    whole = Evidence(
        part_id="p", trigger_time_ns=10**9, camera="top", purpose="image", region=None, width_px=4, height_px=3
    )
    key = ("p", "top", "image", schema.WHOLE, SECOND)
    assert made(whole, [b"jpeg"])[0] == (schema.image, (*key, "jpeg", 4, 3, 4, b"jpeg", None))
    with pytest.raises(InputError, match="one picture"):
        made(whole, [])


def test_what_is_no_record_is_an_error() -> None:
    with pytest.raises(InputError, match="is no kind of record"):
        made(Health(service="s", state="READY", pid=1, time_ns=1, counters={}), [])


@pytest.mark.parametrize(
    ("command", "outcome", "agrees"),
    [
        (GateCommand.PASS, GateOutcome.PASSED, True),
        (GateCommand.PASS, GateOutcome.EJECTED, False),
        (GateCommand.REJECT, GateOutcome.EJECTED, True),
        (GateCommand.REJECT, GateOutcome.PASSED, False),
        (GateCommand.STOP, GateOutcome.EJECTED, True),
        (GateCommand.STOP, None, False),
        (GateCommand.PASS, None, False),
    ],
)
def test_gate_is_confirmed_by_what_was_seen(command: GateCommand, outcome: GateOutcome | None, agrees: bool) -> None:  # noqa: FBT001 - a table's column
    assert confirmed(command, outcome) is agrees
