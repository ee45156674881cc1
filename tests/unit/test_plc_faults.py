from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.messages import GateCommand, Judgement
from config.schedule import NEVER_NS, Hold, Schedule
from config.station import SimulationSection
from decision.gate import PlcInputs
from decision.handshake import Handshake, Memory
from decision.registers import Result
from deploy.plc.belt import Belt, Drive, Tally
from deploy.plc.faults import MEANINGS, Fault, Faults, Planned, Script
from deploy.plc.leader import Leader, StationSide

MS = 1_000_000
S = 1000 * MS


def make_belt(parts: int | None = None) -> Belt:
    section = SimulationSection(rate_per_s=10, products=("tile",), gate_travel_s=0.5)
    return Belt(Schedule(section, 0, parts), {"tile": 1}, Tally(run_id="r"))


def result(part: int, command: GateCommand) -> Result:
    return Result(part, command, Judgement.PASS if command is GateCommand.PASS else Judgement.REJECT)


def test_a_fault_is_on_for_its_time_and_every_one_says_what_it_is() -> None:
    faults = Faults()
    assert faults.on(0) == frozenset()
    faults.begin(Fault.DROP, 0.5, 10 * S)
    assert faults.on(10 * S) == faults.on(10 * S + 499 * MS) == {Fault.DROP}
    assert faults.on(10 * S + 500 * MS) == frozenset()
    assert set(MEANINGS) == set(Fault)


def test_a_script_tells_when_each_begins_and_one_that_is_on_already_lasts_as_long_as_either_wants() -> None:
    script = Script.model_validate(
        {"faults": [{"name": "late", "at_s": 2, "for_s": 1}, {"name": "freeze", "at_s": 1, "for_s": 2}]}
    )
    faults = Faults()
    faults.plan(script.faults, 100 * S)
    faults.begin(Fault.LATE, 0.1, 100 * S)
    at = {after_s: faults.on(100 * S + round(after_s * S)) for after_s in (0.05, 0.5, 1.0, 2.5, 2.999, 3.0)}
    assert at == {
        0.05: {Fault.LATE},
        0.5: set(),
        1.0: {Fault.FREEZE},
        2.5: {Fault.LATE, Fault.FREEZE},
        2.999: {Fault.LATE, Fault.FREEZE},
        3.0: set(),
    }
    with pytest.raises(ValidationError, match="for_s"):
        Planned(name=Fault.DROP, at_s=0, for_s=0)


def test_a_stop_holds_the_belt_until_it_has_not_been_asked_for_some_time() -> None:
    belt = make_belt()
    drive = Drive(belt, restart_after_s=1.0)
    assert not drive.turn(1 * S, stop=False)
    assert drive.turn(1 * S, stop=True)
    assert belt.schedule.holds == (Hold(1 * S + 100 * MS),)
    assert belt.gate_ns(6) >= NEVER_NS
    assert belt.gate_ns(5) == 1000 * MS
    assert not drive.turn(3 * S, stop=True)
    assert not drive.turn(4 * S - 1, stop=False)
    assert drive.turn(4 * S, stop=False)
    assert not drive.stopped
    assert belt.gate_ns(6) == 1100 * MS + 3 * S
    assert belt.tally.belt_stops == 1


def test_what_the_gate_did_is_compared_with_the_result_once_more_when_the_part_is_long_past() -> None:
    belt = make_belt(parts=3)
    for part in range(3):
        belt.move_gate(result(part, GateCommand.PASS) if part < 2 else None, belt.gate_ns(part))
    said = [result(0, GateCommand.PASS), result(1, GateCommand.REJECT), result(2, GateCommand.PASS)]
    while (part := belt.looked_back(10 * S)) is not None:
        belt.look_back(part, said[part])
    assert (belt.tally.escapes, belt.tally.late) == (1, 1)
    belt.tally.passed -= 3
    belt.move_gate(result(0, GateCommand.PASS), belt.gate_ns(0))
    belt.look_back(0, None)
    assert belt.tally.escapes == 2, "a pass of which the station knows nothing"


@given(
    answers=st.lists(st.integers(0, 3), min_size=200, max_size=200),
    deaf=st.lists(st.integers(0, 150), max_size=3),
)
def test_against_the_station_every_part_is_triggered_once_or_told_untriggered_and_every_result_is_taken_once(
    answers: list[int], deaf: list[int]
) -> None:
    """Leader and decision/handshake.py, in lockstep: a part every fifth turn, exposed and judged when it pleases."""
    station, leader = Handshake(Memory()), Leader()
    taken: list[int] = []
    judged: list[int] = []
    due = 0
    for turn, answer in enumerate(answers + [3] * 100):
        arrives = turn % 5 == 0 and due < 30
        due += arrives
        shown = StationSide(
            station.signals(able=True), station.memory.acked_part, station.memory.error_part, station.result
        )
        not_seen = any(start <= turn < start + 10 for start in deaf)
        leader.turn(shown, due if arrives else None, turn * 20 * MS, deaf=not_seen)
        inputs = PlcInputs(1, turn, 1, 0, leader.part_number, leader.signals)
        triggered = station.look(inputs, able=True, job=1, now_ns=turn)
        if triggered is not None:
            taken.append(triggered.sequence)
        if answer and station.memory.open:
            station.exposed(station.memory.open[-1].sequence)
        if answer > 1 and station.memory.open:
            judged.append(station.memory.open[0].sequence)
            station.judged(result(judged[-1], GateCommand.PASS))
    assert taken == sorted(set(taken)), "each number once, and rising"
    assert len(taken) + leader.untriggered == due == 30
    assert judged == taken
    assert leader.results == len(taken)
    assert not leader.signals.trigger
