"""What is filtered, to take away: the command means the same parts, and no cell of a table is a formula."""

from __future__ import annotations

import argparse
import csv
import io
import shlex
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.messages import GateCommand, Judgement, Reason
from deploy import choosing
from storage.console import export
from storage.query.answers import Part
from storage.query.filters import Filter, ReviewState

_NAMES = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=("Zs", "Cc", "Cf")), min_size=1
)
_TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - as they ask


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "since": _TIMES,
            "product": _NAMES,
            "recipe_version": st.integers(0, 1000),
            "verdicts": st.frozensets(st.sampled_from(Judgement)),
            "reason": st.sampled_from(Reason),
            "score_min": st.floats(0, 100),
            "bundle": st.just("5f" * 32),
            "defect_class": _NAMES,
            "challenge": st.booleans(),
            "gate_confirmed": st.booleans(),
            "review": st.sampled_from(ReviewState),
        },
    )
)
def test_the_command_means_what_the_filter_means(values: dict[str, object]) -> None:
    chosen = Filter.parse(values)
    parser = argparse.ArgumentParser()
    choosing.add(parser)
    assert choosing.read(parser.parse_args(shlex.split(export.command(chosen)))) == chosen


def part(number: int, **changes: object) -> Part:
    fields: dict[str, object] = {
        "part_id": f"st-r1-{number:08}",
        "run": "r1",
        "sequence": number,
        "station": "st",
        "line": "1",
        "product": "cap",
        "recipe": "cap",
        "recipe_version": 1,
        "verdict": Judgement.REJECT,
        "reasons": (Reason.ABOVE_THRESHOLD, Reason.LATE),
        "score": -1.5,
        "trigger_time": datetime(2026, 3, 4, tzinfo=UTC),
        "trigger_to_verdict_ms": 12.5,
        "deadline_ms": 500.0,
        "gate": GateCommand.REJECT,
        "gate_outcome": None,
        "gate_confirmed": None,
        "trigger_to_gate_ms": None,
        "truth_good": None,
        "truth_defect": None,
        "truth_source": None,
        "challenge": False,
        "views": (),
        "images": (),
        "details": (),
    }
    return Part.model_validate(fields | changes)


def test_a_table_has_a_line_for_each_part_whatever_their_number() -> None:
    pieces = list(export.lines(part(number) for number in range(450)))
    assert len(pieces) == 4  # never all at once
    rows = list(csv.DictReader(io.StringIO("".join(pieces))))
    assert [row["sequence"] for row in rows] == [str(number) for number in range(450)]
    assert rows[0]["reasons"] == "ABOVE_THRESHOLD LATE"
    assert rows[0]["score"] == "-1.5"
    assert rows[0]["trigger_time"] == "2026-03-04T00:00:00+00:00"


@pytest.mark.parametrize("named", ["=HYPERLINK(1)", "+1", "-1+1", "@SUM(A1)", "\tx"])
def test_no_cell_is_a_formula(named: str) -> None:
    (row,) = csv.DictReader(io.StringIO("".join(export.lines(iter([part(1, truth_defect=named)])))))
    assert row["truth_defect"] == f"'{named}"
