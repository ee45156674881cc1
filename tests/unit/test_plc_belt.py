from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from config.messages import GateCommand, GateOutcome, Judgement
from config.schedule import Schedule
from config.station import SimulationSection
from decision.registers import Result
from deploy.plc.belt import Belt, Tally, Watch

MS = 1_000_000
START_NS = 5_000 * MS
JOBS = {"bracket": 7, "cap": 9}


def make_belt(*, rate_per_s: float = 10, parts: int | None = None, every: int = 0, tally: Tally | None = None) -> Belt:
    section = SimulationSection(
        rate_per_s=rate_per_s,
        products=tuple(JOBS) if every else ("bracket",),
        changeover_every_parts=every,
        changeover_pause_s=1.0,
        gate_travel_s=0.5,
    )
    return Belt(Schedule(section, START_NS, parts), JOBS, tally or Tally(run_id="r"))


def result(sequence: int, command: GateCommand) -> Result:
    return Result(sequence, command, Judgement.PASS if command is GateCommand.PASS else Judgement.REJECT)


def test_a_part_is_at_the_gate_one_travel_after_the_cameras_and_not_before() -> None:
    belt = make_belt()
    gate_ns = START_NS + 500 * MS
    assert belt.at_gate(gate_ns - 1) is None
    assert belt.at_gate(gate_ns) == 0
    belt.move_gate(None, gate_ns)
    assert belt.at_gate(gate_ns) is None
    assert belt.next_gate_ns() == gate_ns + 100 * MS


def test_the_gate_opens_for_a_pass_of_that_very_part_and_nothing_else() -> None:
    belt = make_belt()
    slots = [
        result(0, GateCommand.PASS),
        result(1, GateCommand.REJECT),
        result(2, GateCommand.STOP),
        None,
        result(3, GateCommand.PASS),  # the part before: the classic fault
        result(6, GateCommand.PASS),
        result(262, GateCommand.PASS),  # the same slot, a lap ahead
    ]
    outcomes = []
    for sequence, held in enumerate(slots):
        outcome = belt.move_gate(held, belt.gate_ns(sequence))
        assert outcome is not None
        assert outcome.sequence == sequence
        outcomes.append(outcome.outcome)
    assert outcomes == [GateOutcome.PASSED] + [GateOutcome.EJECTED] * 6
    tally = belt.tally
    assert (tally.passed, tally.ejected, tally.ejected_unjudged, tally.stop_requests) == (1, 6, 4, 1)


def test_after_the_last_part_nothing_comes() -> None:
    belt = make_belt(parts=1)
    belt.move_gate(None, belt.gate_ns(0))
    assert belt.next_gate_ns() is None
    assert belt.at_gate(10**18) is None


def test_parts_that_passed_while_the_plc_was_dead_are_unseen_and_then_it_goes_on() -> None:
    tally = Tally(run_id="r", passed=3, ejected=1)
    belt = make_belt(tally=tally)
    now_ns = belt.gate_ns(20) + 5 * MS
    outcomes = {}
    while (sequence := belt.at_gate(now_ns)) is not None:
        outcomes[sequence] = belt.move_gate(result(sequence, GateCommand.PASS), now_ns)
    assert [sequence for sequence, outcome in outcomes.items() if outcome is not None] == [20]
    assert (tally.passed, tally.unseen, tally.parts) == (4, 16, 21)


def test_the_job_changes_between_the_last_part_of_one_product_and_the_first_of_the_next() -> None:
    belt = make_belt(every=3, parts=6)
    last_ns, first_ns = START_NS + 200 * MS, START_NS + 300 * MS + 1000 * MS
    assert belt.job(START_NS - 1000 * MS) == 7
    assert belt.job(last_ns + 49 * MS) == 7
    assert belt.job(last_ns + 51 * MS) == 9
    assert belt.job(first_ns + 10_000 * MS) == 9


@given(
    rate_per_s=st.floats(1, 500),
    commands=st.lists(st.sampled_from([None, *GateCommand]), min_size=1, max_size=60),
    lateness_ms=st.lists(st.integers(0, 400), min_size=60, max_size=60),
)
def test_every_part_is_dealt_with_exactly_once_and_in_order(
    rate_per_s: float, commands: list[GateCommand | None], lateness_ms: list[int]
) -> None:
    belt = make_belt(rate_per_s=rate_per_s, parts=len(commands))
    seen: list[int] = []
    now_ns = START_NS
    passed = 0
    while (next_ns := belt.next_gate_ns()) is not None:
        now_ns = max(now_ns, next_ns + lateness_ms[belt.tally.parts] * MS)
        sequence = belt.at_gate(now_ns)
        assert sequence is not None
        seen.append(sequence)
        command = commands[sequence]
        outcome = belt.move_gate(result(sequence, command) if command else None, now_ns)
        opened = outcome is not None and outcome.outcome is GateOutcome.PASSED
        assert not opened or command is GateCommand.PASS
        passed += opened
    assert seen == list(range(len(commands)))
    assert belt.tally.parts == len(commands)
    assert belt.tally.passed == passed


def test_a_lost_heartbeat_is_counted_once_and_a_stopped_station_is_not_missed() -> None:
    tally = Tally(run_id="r")
    watch = Watch(tally)
    assert watch.lost
    watch.see(1, 1, 0, 0)
    assert not watch.lost
    watch.see(1, 1, 0, 500 * MS)
    assert not watch.lost
    for later_ms in (501, 900):
        watch.see(1, 1, 0, later_ms * MS)
    assert watch.lost
    assert tally.heartbeat_losses == 1
    watch.see(2, 1, 0, 1000 * MS)
    watch.see(2, 0, 0, 2000 * MS)
    assert watch.lost
    assert tally.heartbeat_losses == 1


def test_a_stop_request_counts_when_it_rises() -> None:
    tally = Tally(run_id="r")
    watch = Watch(tally)
    for line_stop in (0, 1, 1, 0, 1):
        watch.see(0, 1, line_stop, 0)
    assert tally.stop_requests == 2
