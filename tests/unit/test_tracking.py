"""Single cases of the tracker; tests/property/test_tracker.py has all the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from config.gates import EjectedSensor, GateSection, PartSensor
from config.messages import GateCommand, GateOutcome, Judgement
from decision import fates
from decision.coupler import Inputs
from decision.sensors import Sensors
from decision.tracker import Tracker
from decision.troubles import Troubles

MS = 1_000_000
SENSOR = EjectedSensor(counter=1, after_ms=30, tolerance_ms=20)
GATE = GateSection(name="reject", output=0, distance_mm=100, window_mm=40, ejected=SENSOR, bin_full_input=0)
WATCHED = GateSection(
    name="reject",
    output=0,
    distance_mm=100,
    window_mm=40,
    part=PartSensor(input=1, distance_mm=60, tolerance_mm=4, pulse_ms=20),
    ejected=EjectedSensor(input=2, after_ms=30, tolerance_ms=20, pulse_ms=20),
)


class Belt:
    """A belt at 1 mm in 1 ms."""

    def __init__(self, *gates: GateSection) -> None:
        self.gates = gates
        self.tracker = Tracker(gates)
        self.way_mm = 0.0
        self.told: list[fates.Fate] = []
        self.open_mm: list[float] = []  # where the first gate's output was on
        self.tracker.move(0, 0)
        self.tracker.written([False] * len(gates), 0)
        self.run_to(100)

    def run_to(self, way_mm: float) -> None:
        while self.way_mm < way_mm:
            self.way_mm += 1
            self.tracker.move(self.way_mm, self.now_ns)
            wanted = self.tracker.wanted()
            self.tracker.written(wanted, self.way_mm)
            self.open_mm += [self.way_mm] if wanted[0] else []
            self.told += self.tracker.events()

    @property
    def now_ns(self) -> int:
        return round(self.way_mm * MS)

    def part(self, number: int, verdict: Judgement | None = None) -> None:
        self.tracker.expect(number, f"p{number}", self.way_mm, self.way_mm)
        if verdict is not None:
            self.order(number, verdict)

    def order(self, number: int, verdict: Judgement) -> None:
        command = GateCommand.PASS if verdict is Judgement.PASS else GateCommand.REJECT
        self.tracker.order(number, f"p{number}", command, verdict, self.now_ns)

    def having(self, kind: type) -> list[Any]:
        return [one for one in self.told if isinstance(one, kind)]


def test_a_pass_opens_the_gate_in_its_window_and_nowhere_else() -> None:
    belt = Belt(GATE)
    belt.part(1, Judgement.PASS)
    belt.run_to(400)
    assert (belt.open_mm[0], belt.open_mm[-1], len(belt.open_mm)) == (180, 219, 40)
    assert belt.having(fates.Finished) == [fates.Finished(1, "p1", GateOutcome.PASSED)]


def test_a_command_that_comes_too_late_acts_on_nothing_and_not_on_the_next_part() -> None:
    belt = Belt(GATE)
    belt.part(1)
    belt.run_to(150)
    belt.part(2, Judgement.REJECT)
    belt.run_to(181)
    belt.order(1, Judgement.PASS)
    belt.run_to(400)
    assert belt.open_mm == []
    assert belt.having(fates.Missed) == [fates.Missed(1, "p1", "no command had come when its window began")]
    assert belt.having(fates.Accepted) == [fates.Accepted(2, "p2", 150 * MS)]


def test_a_window_that_is_noticed_after_its_first_quarter_is_not_begun() -> None:
    for late_mm, opens in ((10, True), (11, False)):
        belt = Belt(GATE)
        belt.part(1, Judgement.PASS)
        belt.run_to(179)
        belt.way_mm = 179 + late_mm
        belt.run_to(400)
        assert bool(belt.open_mm) is opens
        assert bool(belt.having(fates.Missed)) is not opens


def test_where_nobody_judged_amid_a_window_it_stays_closed() -> None:
    belt = Belt(GATE)
    belt.part(1, Judgement.PASS)
    belt.run_to(200)
    belt.tracker.able(False)
    belt.run_to(205)
    belt.tracker.able(True)
    belt.run_to(400)
    assert (belt.open_mm[0], belt.open_mm[-1]) == (180, 200)
    assert belt.having(fates.Missed) == [fates.Missed(1, "p1", "nobody judges")]


def test_what_was_at_the_gate_out_of_reach_is_neither_let_pass_nor_missing_in_the_bin() -> None:
    belt = Belt(GATE)
    belt.part(1, Judgement.REJECT)
    belt.run_to(145)
    belt.part(2, Judgement.PASS)
    belt.run_to(150)
    belt.tracker.blind()
    belt.way_mm = 229
    belt.run_to(500)
    assert belt.open_mm == []
    assert belt.having(fates.Unconfirmed) == []
    assert [one.outcome for one in belt.having(fates.Finished)] == [None, None]


def test_at_rest_wins_where_windows_touch() -> None:
    belt = Belt(GATE)
    belt.part(1, Judgement.PASS)
    belt.run_to(139)
    belt.part(2, Judgement.REJECT)
    belt.run_to(400)
    assert belt.open_mm == []
    assert belt.having(fates.Crowded) == [fates.Crowded("reject", 1, "p1")]


def test_a_part_as_far_as_the_window_is_let_alone() -> None:
    belt = Belt(GATE)
    belt.part(1, Judgement.PASS)
    belt.run_to(140)
    belt.part(2, Judgement.REJECT)
    belt.run_to(400)
    assert len(belt.open_mm) == 40


def test_a_reject_that_is_not_seen_and_an_ejection_that_nobody_wants() -> None:
    belt = Belt(GATE)
    belt.part(1, Judgement.REJECT)
    belt.run_to(200)
    belt.part(2, Judgement.PASS)
    belt.run_to(275)
    assert belt.having(fates.Unconfirmed) == [fates.Unconfirmed("reject", 1, "p1")]
    belt.run_to(330)
    belt.tracker.ejected_seen(0, belt.now_ns)
    belt.run_to(500)
    assert belt.having(fates.Unexpected) == [fates.Unexpected("reject", 2, "p2")]
    belt.tracker.ejected_seen(0, belt.now_ns)
    belt.run_to(510)
    assert belt.having(fates.Unexpected)[1:] == [fates.Unexpected("reject", None, "")]
    assert belt.having(fates.Finished) == [
        fates.Finished(1, "p1", None),
        fates.Finished(2, "p2", GateOutcome.EJECTED, "it was ejected although its gate stood open"),
    ]


def test_a_gate_that_passes_at_rest_strikes_for_its_verdicts_alone() -> None:
    rework = GateSection(
        name="rework",
        output=1,
        distance_mm=70,
        window_mm=30,
        at_rest="pass",
        ejects=frozenset({Judgement.REVIEW}),
    )
    for verdict, strikes in {Judgement.PASS: 0, Judgement.REJECT: 0, Judgement.REVIEW: 30}.items():
        belt = Belt(rework, GATE)
        belt.part(1, verdict)
        belt.run_to(400)
        assert len(belt.open_mm) == strikes


def reading(belt: Belt, *, part: bool = False, ejected: bool = False) -> tuple[Inputs, float]:
    return Inputs((False, part, ejected), (belt.now_ns, belt.now_ns), (), belt.now_ns, 0), belt.way_mm


def test_a_part_whose_sensor_was_not_read_is_a_miss_with_its_reason_and_not_taken_off() -> None:
    belt = Belt(WATCHED)
    sensors = Sensors((WATCHED,), (), belt.tracker)
    belt.part(1, Judgement.PASS)
    for way_mm in (130, 145, 150, 171):  # it was at the sensor at 160; a pulse has 20 mm
        belt.run_to(way_mm)
        sensors.take(*reading(belt))
    belt.run_to(400)
    why = "the inputs were not read for 21 ms while it passed its sensor"
    assert belt.having(fates.Missed) == [fates.Missed(1, "p1", why)]
    assert belt.having(fates.Finished) == [fates.Finished(1, "p1", None, why)]
    assert not belt.having(fates.TakenOff)
    assert belt.open_mm == []


def test_where_ejections_went_unseen_nothing_is_said_of_what_can_have_been_among_them() -> None:
    for unread_mm, outcome in ((20, GateOutcome.PASSED), (21, None)):
        belt = Belt(GATE, WATCHED.model_copy(update={"name": "second", "distance_mm": 130, "part": None}))
        sensors = Sensors((GATE.model_copy(update={"ejected": None}), belt.gates[1]), (), belt.tracker)
        belt.part(1, Judgement.PASS)
        for way_mm in (240, 260, 260 + unread_mm, 265 + unread_mm):
            belt.run_to(way_mm)
            sensors.take(*reading(belt))
        belt.run_to(500)
        assert [one.outcome for one in belt.having(fates.Finished)] == [outcome]
        assert not belt.having(fates.Missed)


def test_a_sensor_that_counts_misses_nothing_between_two_readings() -> None:
    gate = WATCHED.model_copy(update={"part": PartSensor(counter=0, distance_mm=60, tolerance_mm=4)})
    belt = Belt(gate)
    sensors = Sensors((gate,), (16,), belt.tracker)
    belt.part(1, Judgement.PASS)
    for way_mm, count in ((130, 65535), (171, 0)):
        belt.run_to(way_mm)
        sensors.take(Inputs((False,) * 3, (belt.now_ns, belt.now_ns), (count,), belt.now_ns, 0), belt.way_mm)
    belt.run_to(400)
    assert belt.open_mm[0] == 180
    assert not belt.having(fates.Missed)


def test_a_part_said_to_be_taken_off_that_is_seen_ejected_is_an_alarm() -> None:
    belt = Belt(WATCHED)
    belt.part(1, Judgement.PASS)
    belt.run_to(230)
    belt.tracker.ejected_seen(0, belt.now_ns)
    belt.run_to(400)
    assert belt.having(fates.TakenOff) == [fates.TakenOff("reject", 1, "p1")]
    assert belt.having(fates.Reappeared) == [fates.Reappeared("reject", 1, "p1")]
    assert belt.having(fates.Finished) == [
        fates.Finished(1, "p1", GateOutcome.EJECTED, "its part sensor did not see it")
    ]
    troubles = Troubles(Counter())
    for one in belt.told:
        troubles.note(one, 0)
    assert troubles.alarms(0) == {"part_sensor_blind": "gate reject: part p1 came, and its part sensor had not seen it"}


def test_a_part_said_to_be_taken_off_that_comes_to_the_next_sensor_is_an_alarm() -> None:
    second = WATCHED.model_copy(
        update={
            "name": "second",
            "output": 1,
            "distance_mm": 200,
            "part": PartSensor(input=3, distance_mm=150, tolerance_mm=4),
        }
    )
    belt = Belt(WATCHED, second)
    belt.part(1, Judgement.PASS)
    belt.run_to(250)
    belt.tracker.part_seen(1, 250, 250)
    belt.run_to(500)
    assert belt.having(fates.Reappeared) == [fates.Reappeared("second", 1, "p1")]


def test_what_is_said_to_be_taken_off_and_was_a_reject_opens_nothing_beside_it() -> None:
    belt = Belt(WATCHED)
    belt.part(1, Judgement.PASS)
    belt.run_to(130)
    belt.part(2, Judgement.REJECT)  # within a window of it, and its sensor does not see it
    belt.run_to(160)
    belt.tracker.part_seen(0, 160, 160)
    belt.run_to(400)
    assert belt.having(fates.Crowded) == [fates.Crowded("reject", 1, "p1")]
    assert belt.open_mm == []


@pytest.mark.parametrize(("from_mm", "misses"), [(184, True), (216, False)])
def test_a_coupler_that_was_not_written_for_long_may_have_closed_the_gate(from_mm: int, misses: bool) -> None:  # noqa: FBT001 - pytest gives it
    belt = Belt(GATE)
    belt.part(1, Judgement.PASS)
    belt.run_to(200)
    belt.tracker.unwritten(from_mm)
    belt.run_to(400)
    told = "the gate was not moved in time: the coupler was not written for longer than its watchdog waits"
    assert belt.having(fates.Missed) == ([fates.Missed(1, "p1", told)] if misses else [])


def test_lost_ways_leave_every_part_to_the_gate_at_rest_and_a_new_one_is_followed() -> None:
    belt = Belt(GATE)
    belt.part(1, Judgement.PASS)
    belt.run_to(120)
    belt.tracker.lose("it jumped", 120)
    belt.part(2, Judgement.PASS)  # within a window of what nobody knows
    belt.run_to(165)
    belt.part(3, Judgement.PASS)
    belt.run_to(400)
    assert (belt.open_mm[0], belt.open_mm[-1]) == (245, 284)
    assert belt.having(fates.Lost) == [fates.Lost("it jumped", 1)]
    assert {one.sequence for one in belt.having(fates.Missed)} == {1, 2}
    assert len(belt.having(fates.Finished)) == 3


def test_sensors_count_what_a_counter_counts_round_its_end_and_not_its_reset() -> None:
    belt = Belt(GATE)
    for number in (1, 2):
        belt.part(number, Judgement.REJECT)
        belt.run_to(belt.way_mm + 10)
    belt.run_to(220)
    sensors = Sensors((GATE,), (32, 16), belt.tracker)
    for count, full in ((65535, False), (1, True), (40_000, True), (40_000, False)):
        sensors.take(Inputs((full,), (belt.now_ns, belt.now_ns), (0, count), belt.now_ns, 0), belt.way_mm)
        assert bool(sensors.full_bins) is full
    belt.run_to(221)
    assert belt.having(fates.AsCommanded) == [fates.AsCommanded("reject", ejected=True)] * 2
    assert belt.having(fates.Unexpected) == []


def test_an_alarm_lasts_until_its_cause_has_not_come_again_for_ten_seconds() -> None:
    counters: Counter[str] = Counter()
    troubles = Troubles(counters)
    troubles.note(fates.Unconfirmed("reject", 1, "p1"), 0)
    troubles.note(fates.Unconfirmed("reject", 2, "p2"), 5_000 * MS)
    assert troubles.alarms(14_999 * MS) == {"reject_unconfirmed": "gate reject: part p2 was not seen ejected"}
    assert troubles.alarms(15_000 * MS) == {}
    assert counters["reject_unconfirmed"] == 2
