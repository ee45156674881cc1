from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from config.events import end_of
from config.messages import GateCommand, Judgement, Truth, Verdict
from config.recipe import Alarms as AlarmsOfRecipe
from decision.alarms import Alarms
from decision.streaks import CONSECUTIVE, RATE, Streaks

ROW = AlarmsOfRecipe(consecutive_rejects=3)
SHARE = AlarmsOfRecipe.model_validate({"reject_rate": {"over_parts": 10, "above": 0.3, "clear_below": 0.2}})


def verdict(gate: str, recipe: str = "bracket", *, challenge: bool = False) -> Verdict:
    return Verdict(
        part_id="p",
        sequence=1,
        station="s",
        line="1",
        recipe=recipe,
        recipe_version=1,
        recipe_digest="sha256:r",
        product=recipe,
        verdict=Judgement.PASS if gate == "P" else Judgement.FAULT if gate == "S" else Judgement.REJECT,
        reasons=(),
        views=(),
        gate={"P": GateCommand.PASS, "R": GateCommand.REJECT, "S": GateCommand.STOP}[gate],
        trigger_ns=0,
        trigger_time_ns=0,
        deadline_ns=0,
        judged_ns=0,
        truth=Truth(good=False, challenge=True) if challenge else None,
    )


def play(streaks: Streaks, gates: str, alarms: AlarmsOfRecipe, name: str) -> str:
    """Return for each part whether the alarm is on after it."""
    told = ""
    for gate in gates:
        streaks.take(verdict(gate), alarms)
        told += "!" if name in streaks.on else "."
    return told


def test_so_many_in_a_row_raise_an_alarm_that_the_first_passed_part_ends() -> None:
    assert play(Streaks(), "RRPRRRRPRR", ROW, CONSECUTIVE) == ".....!!..."
    assert play(Streaks(), "RSRP", ROW, CONSECUTIVE) == "..!.", "a FAULT is ejected like a REJECT"


def test_the_rate_is_of_a_full_window_and_ends_only_below_the_lower_bound() -> None:
    streaks = Streaks()
    assert play(streaks, "RRRRRRRRR", SHARE, RATE) == "." * 9, "nine parts say nothing of ten"
    assert play(streaks, "R", SHARE, RATE) == "!"
    # 9, 8, … of the last ten: 3 and 2 of ten are between the bounds, 1 is below
    assert play(streaks, "PPPPPPPPP", SHARE, RATE) == "!!!!!!!!."
    assert streaks.on == {}
    assert play(streaks, "RRPRR", SHARE, RATE) == "....!", "not at three of ten, at four"


def test_challenge_parts_do_not_count_either_way() -> None:
    streaks = Streaks()
    for gate, challenge in (("R", False), ("R", True), ("R", False), ("P", True), ("R", True)):
        streaks.take(verdict(gate, challenge=challenge), ROW)
    assert streaks.on == {}
    streaks.take(verdict("R"), ROW)
    assert CONSECUTIVE in streaks.on


def test_another_recipe_begins_anew_and_an_alarm_that_was_taken_out_ends() -> None:
    streaks = Streaks()
    assert play(streaks, "RRR", ROW, CONSECUTIVE) == "..!"
    streaks.take(verdict("R", "cap"), ROW)
    assert streaks.on == {}
    assert play(streaks, "RRR", ROW, CONSECUTIVE) == "..!"
    streaks.take(verdict("R"), AlarmsOfRecipe())
    assert streaks.on == {}


def test_a_window_that_becomes_shorter_keeps_the_last_parts() -> None:
    streaks = Streaks()
    play(streaks, "PPPPPPRRRR", SHARE, RATE)
    assert RATE in streaks.on
    shorter = AlarmsOfRecipe.model_validate({"reject_rate": {"over_parts": 4, "above": 0.9, "clear_below": 0.8}})
    assert play(streaks, "RPP", shorter, RATE) == "!.."


def test_the_line_is_stopped_only_where_the_recipe_asks_for_it_and_while_an_alarm_is_on() -> None:
    for stop_line in (False, True):
        streaks = Streaks()
        alarms = AlarmsOfRecipe(consecutive_rejects=2, stop_line=stop_line)
        asked = []
        for gate in "PRRP":
            streaks.take(verdict(gate), alarms)
            asked.append(streaks.stops_line)
        assert asked == [False, False, stop_line, False]


@pytest.mark.parametrize(
    ("alarms", "says"),
    [
        ({"stop_line": True}, "nothing else would stop the line"),
        ({"consecutive_rejects": 1}, "consecutive_rejects"),
        ({"reject_rate": {"over_parts": 10, "above": 0.2, "clear_below": 0.3}}, "must not exceed above"),
        ({"reject_rate": {"over_parts": 10, "above": 0.2}}, "clear_below"),
    ],
)
def test_alarms_that_make_no_sense_are_refused(alarms: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        AlarmsOfRecipe.model_validate(alarms)


def test_an_alarm_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    counters: Counter[str] = Counter()
    alarms = Alarms("s", counters)
    (began,) = alarms.update({CONSECUTIVE: "3 parts"})
    assert (began.state, began.severity, began.service, began.detail) == ("BEGAN", "ALARM", "decision", "3 parts")
    assert alarms.update({CONSECUTIVE: "4 parts"}) == []
    ended, other = alarms.update({RATE: "a third"})
    assert (ended.event_id, ended.state) == (end_of(began.event_id), "ENDED")
    assert (other.name, other.state) == (RATE, "BEGAN")
    assert counters == {CONSECUTIVE: 1, RATE: 1}
