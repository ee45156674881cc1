"""The handshake against a PLC that knows nothing of our code: both sides restart, polls get lost or repeated.

The PLC here is a model of its own, written from the manual. What it counts is what a controls engineer would count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import replace as with_changes

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from config.messages import GateCommand, Judgement, as_json, from_json
from decision.gate import PlcInputs, StationSignals
from decision.handshake import QUEUE, Handshake, Memory, Triggered
from decision.ledger import PAGE_BYTES
from decision.registers import ErrorCode, Result

JOB = 7
AT_REST = StationSignals()
COLD = PlcInputs(run=0, heartbeat=0, requested_job=0, outcome_count=0)


@dataclass(frozen=True)
class Shown:
    """What the station has written last, as it stands in the PLC's memory."""

    acked_part: int = 0
    error_part: int = 0
    error_code: int = 0
    result: Result | None = None
    signals: StationSignals = AT_REST
    run: int = 0


@dataclass
class Plc:
    """A PLC's program that leads, one step for each cycle."""

    out: PlcInputs = COLD
    last: int = 0  # highest number that it has used
    acked: list[int] = field(default_factory=list)  # numbers whose trigger the station has taken
    refused: list[int] = field(default_factory=list)
    results: list[int] = field(default_factory=list)

    def cycle(self, shown: Shown, *, wants_part: bool, skips: int, impatient: bool) -> None:
        signals, out = shown.signals, self.out.signals
        if not shown.run:
            return  # the station has not spoken to this PLC yet
        number = self.out.part_number
        if out.trigger:
            if signals.ack and shown.acked_part == number:
                self.acked.append(number)
                out = with_changes(out, trigger=False)
            elif (signals.overrun and shown.error_part == number) or impatient:
                self.refused.append(number)
                out = with_changes(out, trigger=False)
        elif wants_part and (impatient or (signals.ready and not signals.ack)):
            number = self.last = max(self.last, shown.acked_part) + 1 + skips
            out = with_changes(out, trigger=True, trigger_enable=True)
        else:
            out = with_changes(out, trigger_enable=True)
        if signals.results_valid and not out.results_ack:
            assert shown.result is not None
            self.results.append(shown.result.sequence + 1)
            out = with_changes(out, results_ack=True)
        elif not signals.results_valid:
            out = with_changes(out, results_ack=False)
        out = with_changes(out, error_reset=signals.error and not out.trigger)
        self.out = with_changes(self.out, part_number=number, signals=out)


class Line(RuleBasedStateMachine):
    """A station, a PLC and what lies between them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = as_json(Memory())
        self.station = Handshake(Memory())
        self.plc = Plc()
        self.plc_memory = Shown()  # the station's registers in the PLC
        self.taken: list[int] = []  # numbers, over all lives of the station
        self.judged: list[int] = []
        self.open: list[Triggered] = []
        self.lives = 1  # of the PLC
        self.former: list[Plc] = []
        self.able = True
        self.job = JOB
        self.now_ns = 0

    # the station's process

    @rule(lost=st.booleans())
    def station_polls(self, *, lost: bool) -> None:
        """Read, keep, write; the answer to the write may get lost, or the write itself."""
        self.poll()
        if not lost:
            self.write()

    @rule()
    def station_writes_without_reading(self) -> None:
        self.write()

    @rule()
    def station_is_killed_in_the_middle_of_writing(self) -> None:
        """The signals come last, where a protocol cannot write all at once."""
        before = self.plc_memory.signals
        self.poll()
        self.write()
        self.plc_memory = with_changes(self.plc_memory, signals=before)
        self.restart()

    @rule()
    def station_is_killed_between_reading_and_writing(self) -> None:
        self.poll()
        self.restart()

    @rule()
    def station_is_killed_before_it_keeps_what_it_read(self) -> None:
        self.station.look(self.plc.out, able=self.able, job=JOB, now_ns=self.now_ns)
        self.restart()

    @rule()
    def connection_is_lost_and_made_again(self) -> None:
        self.station.connected()
        self.poll()
        self.write()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), again=st.booleans())
    def part_is_judged(self, data: st.DataObject, *, again: bool) -> None:
        part = data.draw(st.sampled_from(self.open))
        self.judge(part, GateCommand.REJECT)
        if again:
            self.station.judged(Result(part.sequence, GateCommand.PASS, Judgement.PASS))

    @rule(sequence=st.integers(0, 100))
    def part_that_was_never_taken_is_judged(self, sequence: int) -> None:
        if sequence + 1 not in self.taken:
            self.station.judged(Result(sequence, GateCommand.PASS, Judgement.PASS))
            self.keep()

    @rule(data=st.data())
    def cameras_have_their_pictures(self, data: st.DataObject) -> None:
        if self.taken:
            self.station.exposed(data.draw(st.sampled_from(self.taken)) - 1)

    @rule(able=st.booleans())
    def station_can_or_cannot_judge(self, *, able: bool) -> None:
        self.able = able

    # the PLC

    @rule(wants_part=st.booleans(), skips=st.sampled_from((0, 0, 0, 0, 1, 3)), cycles=st.integers(1, 3))
    def plc_runs(self, *, wants_part: bool, skips: int, cycles: int) -> None:
        for _ in range(cycles):
            self.plc.cycle(self.plc_memory, wants_part=wants_part, skips=skips, impatient=False)

    @rule()
    def plc_triggers_without_asking_and_does_not_wait(self) -> None:
        self.plc.cycle(self.plc_memory, wants_part=True, skips=0, impatient=True)

    @rule(number=st.integers(0, 60))
    def plc_triggers_with_any_number(self, number: int) -> None:
        if not self.plc.out.signals.trigger:
            signals = with_changes(self.plc.out.signals, trigger=True, trigger_enable=True)
            self.plc.out = with_changes(self.plc.out, part_number=number, signals=signals)
            self.plc.last = max(self.plc.last, number)

    @rule(job=st.sampled_from((0, JOB, 99)))
    def plc_asks_for_a_job(self, job: int) -> None:
        self.plc.out = with_changes(self.plc.out, requested_job=job)

    @rule()
    def plc_starts_cold(self) -> None:
        """It forgets everything; the station notices by the run, and begins a new conversation."""
        self.former.append(self.plc)
        self.plc, self.plc_memory = Plc(), Shown()
        self.lives += 1
        self.station.connected()
        self.poll()
        self.write()

    @rule()
    def everything_settles(self) -> None:
        """Whatever happened: from here on the line comes back by itself and works."""
        self.able = True
        self.plc.out = with_changes(self.plc.out, requested_job=JOB)
        before = len(self.taken)
        for _ in range(4 * QUEUE + 20):
            self.poll()
            for part in list(self.open):
                self.judge(part, GateCommand.PASS)
            self.write()
            self.plc.cycle(self.plc_memory, wants_part=len(self.taken) == before, skips=0, impatient=False)
            if len(self.taken) > before and self.handed() == set(self.taken) and self.at_rest():
                return
        raise AssertionError(f"the line does not come back: {self.plc_memory}, {self.plc.out}")

    def at_rest(self) -> bool:
        signals = self.plc_memory.signals
        return signals.ready and not (signals.error or signals.overrun or signals.results_valid or signals.busy)

    def judge(self, part: Triggered, command: GateCommand) -> None:
        self.open.remove(part)
        self.judged.append(part.sequence + 1)
        self.station.judged(Result(part.sequence, command, Judgement.FAULT))
        self.keep()

    # what both do

    def poll(self) -> None:
        self.now_ns += 1
        before = self.station._trigger
        part = self.station.look(self.plc.out, able=self.able, job=JOB, now_ns=self.now_ns)
        self.keep()
        if self.plc.out.signals.trigger and not self.station.signals(able=self.able).ack:
            assert self.station.memory.overrun or before == self.plc.out.part_number, "told when it was seen"
        if part is not None:
            self.taken.append(part.sequence + 1)
            self.open.append(part)
            # the number under a trigger that is high at this very moment, and a station that said that it is ready
            assert part.sequence + 1 == self.plc.out.part_number
            assert self.plc.out.signals.trigger
            assert part.job == JOB
            assert self.able
            assert self.plc.out.requested_job in {0, JOB}

    def write(self) -> None:
        memory = self.station.memory
        self.plc_memory = Shown(
            memory.acked_part,
            memory.error_part,
            memory.error_code,
            self.station.result,
            self.station.signals(able=self.able),
            run=1,
        )

    def keep(self) -> None:
        self.kept = as_json(self.station.memory)
        assert len(self.kept) < PAGE_BYTES - 8

    def restart(self) -> None:
        memory = from_json(Memory, self.kept)
        self.station = Handshake(memory)
        known = {part.sequence for part in self.open}
        for part in memory.open:
            assert part.sequence in known, "a part that the former process was not told of, or has judged"
        self.open = list(memory.open)

    def handed(self) -> set[int]:
        return {number for plc in (*self.former, self.plc) for number in plc.results}

    @invariant()
    def no_trigger_is_taken_twice(self) -> None:
        assert len(set(self.taken)) == len(self.taken)
        assert self.taken == sorted(self.taken)

    @invariant()
    def every_result_is_of_a_part_that_was_taken_and_judged(self) -> None:
        for plc in (*self.former, self.plc):
            assert set(plc.results) <= set(self.taken) & set(self.judged)
            assert len(set(plc.results)) == len(plc.results), "a PLC that lives on gets each result once"

    @invariant()
    def what_the_plc_believes_was_taken_was_taken(self) -> None:
        for plc in (*self.former, self.plc):
            assert set(plc.acked) <= set(self.taken)

    @invariant()
    def no_part_is_forgotten(self) -> None:
        memory = self.station.memory
        waiting = {part.sequence + 1 for part in memory.open} | {one.sequence + 1 for one in memory.results}
        assert set(self.taken) == self.handed() | waiting
        assert len(memory.open) + len(memory.results) <= QUEUE

    @invariant()
    def an_ack_is_for_the_part_under_the_trigger(self) -> None:
        if self.station.signals(able=self.able).ack and self.station._trigger == self.plc.out.part_number:
            assert self.plc.out.part_number == self.station.memory.acked_part
            assert self.plc.out.part_number in self.taken

    @invariant()
    def signals_agree(self) -> None:
        memory, signals = self.station.memory, self.station.signals(able=self.able)
        assert signals.results_valid == (self.station.result is not None)
        assert signals.busy == bool(self.open)
        assert signals.inspection_completed == bool(len(self.judged) % 2)
        assert signals.error == (memory.error_code != ErrorCode.NONE and not self.station._reset)
        if signals.ready:
            assert not signals.ack
            assert signals.exposure_complete or not self.taken


TestHandshake = Line.TestCase
TestHandshake.settings = settings(
    max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestManyHistories(Line.TestCase):
    settings = settings(TestHandshake.settings, max_examples=10_000)
