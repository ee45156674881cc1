"""Whatever happens between cameras and gates: nothing passes that has not earned it, and each part has one end."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from config.gates import EjectedSensor, GateSection, PartSensor
from config.messages import GateCommand, GateOutcome, Judgement
from decision import fates
from decision.tracker import Tracker

MS = 1_000_000
EJECTED = EjectedSensor(input=0, after_ms=30, tolerance_ms=20)
SENSOR = PartSensor(input=1, distance_mm=60, tolerance_mm=4)
PLAIN = (GateSection(name="reject", output=0, distance_mm=100, window_mm=40, ejected=EJECTED),)
WATCHED = (GateSection(name="reject", output=0, distance_mm=100, window_mm=40, ejected=EJECTED, part=SENSOR),)
REVIEW = frozenset({Judgement.REVIEW})
SCRAP = frozenset({Judgement.REJECT, Judgement.FAULT})
SEVERAL = (
    GateSection(name="rework", output=1, distance_mm=70, window_mm=30, at_rest="pass", ejects=REVIEW, ejected=EJECTED),
    GateSection(name="scrap", output=2, distance_mm=130, window_mm=40, ejects=SCRAP, part=SENSOR, ejected=EJECTED),
    GateSection(name="last", output=0, distance_mm=200, window_mm=50, ejected=EJECTED),
)
VERDICTS = {
    Judgement.PASS: GateCommand.PASS,
    Judgement.REJECT: GateCommand.REJECT,
    Judgement.REVIEW: GateCommand.REJECT,
    Judgement.FAULT: GateCommand.STOP,
}
JUDGEMENTS = st.sampled_from([Judgement.PASS, Judgement.PASS, *Judgement])


class Body:
    """A part as the world knows it."""

    def __init__(self, sequence: int | None, at_mm: float, gates: int) -> None:
        self.sequence = sequence
        self.at_mm = at_mm
        self.verdict: Judgement | None = None  # what the tracker was told
        self.on_belt = True
        self.sensed: set[int] = set()
        self.settled: set[int] = set()
        self.rises = [0] * gates
        self.was_on = [False] * gates


class Line:
    """A belt with parts, gates that do what the tracker wants, and sensors that see what is there."""

    def __init__(self, gates: tuple[GateSection, ...] = PLAIN) -> None:
        super().__init__()
        self.now_ns = 0
        self.way_mm = 0.0
        self.bodies: list[Body] = []
        self.told: list[fates.Fate] = []
        self.edges: list[tuple[int, int]] = []  # when an ejected part falls past which gate's sensor
        self.count = 0
        self.able = True
        self.start(gates)

    def start(self, gates: tuple[GateSection, ...]) -> None:
        self.gates = gates
        self.tracker = Tracker(gates)
        self.outputs = (False,) * len(gates)
        self.tracker.move(self.way_mm, self.now_ns)
        self.tracker.written(self.outputs, self.way_mm)
        self.step(60.0, 60 * MS)

    def come(self) -> Body:
        self.count += 1
        self.bodies.append(Body(self.count, self.way_mm, len(self.gates)))
        self.tracker.expect(self.count, f"p{self.count}", self.way_mm, self.way_mm)
        return self.bodies[-1]

    def order(self, body: Body, verdict: Judgement) -> None:
        body.verdict = verdict
        self.tracker.order(body.sequence or 0, f"p{body.sequence}", VERDICTS[verdict], verdict, self.now_ns)

    def step(self, distance_mm: float, duration_ns: int) -> None:
        """Run the belt in steps of 2 mm, and of 10 ms, at most."""
        parts = max(1, round(distance_mm / 2), duration_ns // (10 * MS))
        for _ in range(parts):
            self.now_ns += duration_ns // parts
            self.way_mm += distance_mm / parts
            self.be_ejected_or_pass(checked=True)
            self.see(late=False)
            self.tracker.move(self.way_mm, self.now_ns)
            self.act()

    def act(self) -> None:
        self.outputs = self.tracker.wanted()
        self.tracker.written(self.outputs, self.way_mm)
        for body in self.bodies:
            for index, gate in enumerate(self.gates):
                inside = body.at_mm + gate.start_mm <= self.way_mm < body.at_mm + gate.end_mm
                if not inside:
                    continue
                on = self.outputs[index]
                if gate.at_rest == "eject" and on and body.on_belt:
                    assert self.earned(body, gate), (gate.name, body.sequence, body.verdict)
                shared = any(
                    other is not body and abs(other.at_mm - body.at_mm) <= gate.window_mm for other in self.bodies
                )
                if on and not body.was_on[index] and not shared:
                    body.rises[index] += 1
                    assert self.way_mm <= body.at_mm + gate.start_mm + gate.window_mm / 4 + 0.001, "amid a part"
                body.was_on[index] = on
                assert body.rises[index] <= 1
        for index in range(len(self.gates)):
            if self.outputs[index]:
                assert self.able
                assert any(self.acted_on(body, index) for body in self.bodies), "a command outside any window"
        self.told += self.tracker.events()

    def earned(self, body: Body, gate: GateSection) -> bool:
        return body.verdict is not None and (body.verdict is Judgement.PASS or body.verdict not in gate.ejects)

    def is_pass(self, sequence: int) -> bool:
        return any(body.sequence == sequence and body.verdict is Judgement.PASS for body in self.bodies)

    def acted_on(self, body: Body, index: int) -> bool:
        gate = self.gates[index]
        within = body.at_mm + gate.start_mm <= self.way_mm < body.at_mm + gate.end_mm
        return within and body.sequence is not None and self.earned(body, gate) == (gate.at_rest == "eject")

    def be_ejected_or_pass(self, *, checked: bool) -> None:
        for body in self.bodies:
            for index, gate in enumerate(self.gates):
                if not body.on_belt or index in body.settled or self.way_mm < body.at_mm + gate.distance_mm:
                    continue
                body.settled.add(index)
                ejects = self.outputs[index] != (gate.at_rest == "eject")
                if ejects:
                    body.on_belt = False
                    self.edges.append((self.now_ns + 30 * MS, index))
                elif checked and gate.earns:
                    assert self.earned(body, gate), f"part {body.sequence} has passed and is {body.verdict}"

    def see(self, *, late: bool) -> None:
        due = [edge for edge in self.edges if edge[0] <= self.now_ns]
        self.edges = [edge for edge in self.edges if edge[0] > self.now_ns]
        for _, index in due:
            self.tracker.ejected_seen(index, self.now_ns)
        for body in self.bodies:
            for index, gate in enumerate(self.gates):
                if gate.part and body.on_belt and index not in body.sensed:
                    at_mm = body.at_mm + gate.part.distance_mm
                    if self.way_mm >= at_mm:
                        body.sensed.add(index)
                        self.tracker.part_seen(index, at_mm, self.way_mm if late else at_mm)


class World(Line, RuleBasedStateMachine):
    """A line with everything that can happen to it."""

    @initialize(gates=st.sampled_from([PLAIN, WATCHED, SEVERAL]))
    def switch_on(self, gates: tuple[GateSection, ...]) -> None:
        self.start(gates)

    # the station

    @rule(gap_mm=st.floats(0, 90))
    def part_comes(self, gap_mm: float) -> None:
        self.step(gap_mm, round(gap_mm * MS))
        self.come()
        self.tracker.expect(self.count, f"p{self.count}", self.way_mm - 3, self.way_mm - 3)

    @rule(back=st.integers(0, 5), verdict=JUDGEMENTS)
    def part_is_judged(self, back: int, verdict: Judgement) -> None:
        waiting = [body for body in self.bodies if body.sequence is not None and body.verdict is None]
        if waiting:
            self.order(waiting[min(back, len(waiting) - 1)], verdict)

    @rule(back=st.integers(0, 5), verdict=JUDGEMENTS)
    def part_is_judged_again(self, back: int, verdict: Judgement) -> None:
        """A repeated order, of whatever kind, changes nothing."""
        judged = [body for body in self.bodies if body.verdict is not None]
        if judged:
            body = judged[max(0, len(judged) - 1 - back)]
            self.tracker.order(body.sequence or 0, f"p{body.sequence}", VERDICTS[verdict], verdict, self.now_ns)

    @rule(able=st.booleans())
    def judging_stops_or_goes_on(self, *, able: bool) -> None:
        self.able = able
        self.tracker.able(able)
        self.act()

    # the belt

    @rule(distance_mm=st.floats(0, 120), mm_per_ms=st.floats(0.1, 3))
    def belt_runs(self, distance_mm: float, mm_per_ms: float) -> None:
        self.step(distance_mm, round(distance_mm / mm_per_ms * MS))

    @rule(stop_ms=st.integers(1, 500))
    def belt_stops(self, stop_ms: int) -> None:
        self.step(0.0, stop_ms * MS)

    @rule(back_mm=st.floats(0, 7))
    def belt_runs_back_a_little(self, back_mm: float) -> None:
        self.now_ns += 10 * MS
        self.tracker.move(self.way_mm - back_mm, self.now_ns)
        self.act()
        self.tracker.move(self.way_mm, self.now_ns)
        self.act()

    @rule(distance_mm=st.floats(5, 200))
    def station_stalls(self, distance_mm: float) -> None:
        """The belt runs on, and nobody looks."""
        self.now_ns += round(distance_mm * MS)
        self.way_mm += distance_mm
        self.be_ejected_or_pass(checked=False)
        self.see(late=True)
        self.tracker.move(self.way_mm, self.now_ns)
        self.act()

    @rule(distance_mm=st.floats(0, 200))
    def coupler_is_away(self, distance_mm: float) -> None:
        self.tracker.blind()
        self.outputs = (False,) * len(self.gates)  # its watchdog
        self.now_ns += round(distance_mm * MS)
        self.way_mm += distance_mm
        self.be_ejected_or_pass(checked=False)
        self.edges = [edge for edge in self.edges if edge[0] > self.now_ns]
        self.tracker.move(self.way_mm, self.now_ns)
        self.tracker.written(self.outputs, self.way_mm)
        self.act()

    @rule()
    def encoder_jumps(self) -> None:
        self.tracker.lose("jump", self.way_mm)
        self.act()

    @rule(back=st.integers(0, 5))
    def part_is_taken_off(self, back: int) -> None:
        near = [body for body in self.bodies if body.on_belt and not self.may_be_taken_for(body)]
        if near:
            near[max(0, len(near) - 1 - back)].on_belt = False

    @rule(back=st.integers(0, 5))
    def part_sensor_does_not_see(self, back: int) -> None:
        """A part that stays on the belt passes its sensors unseen: it is held back, and told when it comes again."""
        near = [body for body in self.bodies if body.on_belt and body.sequence is not None and not body.sensed]
        near = [body for body in near if not self.may_be_taken_for(body)]
        if near:
            near[max(0, len(near) - 1 - back)].sensed = set(range(len(self.gates)))

    @precondition(lambda self: self.gates[0].part is not None)
    @rule(distance_mm=st.floats(5, 80))
    def inputs_are_not_read(self, distance_mm: float) -> None:
        """For longer than a pulse: parts pass the sensors, and fall past them, unseen."""
        self.now_ns += round(distance_mm * MS)
        before_mm, self.way_mm = self.way_mm, self.way_mm + distance_mm
        self.be_ejected_or_pass(checked=False)
        self.edges = [edge for edge in self.edges if edge[0] > self.now_ns]
        for body in self.bodies:
            for index, gate in enumerate(self.gates):
                if gate.part and before_mm < body.at_mm + gate.part.distance_mm <= self.way_mm:
                    body.sensed.add(index)
        for index in range(len(self.gates)):
            self.tracker.part_unwatched(index, before_mm, self.way_mm, round(distance_mm * MS))
            self.tracker.ejected_unwatched(index, self.now_ns)
        self.tracker.move(self.way_mm, self.now_ns)
        self.act()

    @precondition(lambda self: self.gates[0].part is not None)
    @rule()
    def part_is_put_on(self) -> None:
        """Behind the cameras, before the part sensor."""
        body = Body(None, self.way_mm - 30, len(self.gates))
        if not self.may_be_taken_for(body):
            self.bodies.append(body)

    def may_be_taken_for(self, body: Body) -> bool:
        """Tell whether a part could stand for another: what is exchanged within a sensor's tolerance looks the same."""
        return any(
            (other.sequence is None) is not (body.sequence is None)
            and abs(other.at_mm - body.at_mm) <= SENSOR.tolerance_mm + 0.001
            for other in self.bodies
        )

    def teardown(self) -> None:
        self.able = True
        self.tracker.able(True)
        for body in self.bodies:
            if body.sequence is not None and body.verdict is None:
                self.order(body, Judgement.PASS)
        for _ in range(10):
            self.step(100.0, 100 * MS)
        self.told += self.tracker.events()
        announced = [body.sequence for body in self.bodies if body.sequence is not None]
        finished = [one.sequence for one in self.told if isinstance(one, fates.Finished)]
        assert sorted(finished) == announced
        accepted = [one.sequence for one in self.told if isinstance(one, fates.Accepted)]
        missed = [one.sequence for one in self.told if isinstance(one, fates.Missed)]
        assert len(accepted) == len(set(accepted))
        assert len(missed) == len(set(missed))
        assert set(accepted) | set(missed) == set(announced)
        taken_off = {one.sequence for one in self.told if isinstance(one, fates.TakenOff)}
        reappeared = {one.sequence for one in self.told if isinstance(one, fates.Reappeared)}
        assert reappeared <= taken_off
        for one in self.told:
            if isinstance(one, fates.Finished):
                passed = one.outcome is GateOutcome.PASSED
                assert not (passed and one.held_back), one
                assert one.held_back or one.outcome is not GateOutcome.EJECTED or not self.is_pass(one.sequence), one
                if one.outcome is GateOutcome.EJECTED and one.sequence in taken_off:
                    assert one.sequence in reappeared, one
        for one in self.told:
            event(type(one).__name__)
            if isinstance(one, fates.Finished):
                event(f"finished {one.outcome}")


QUICK = settings(max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


def test_nothing_passes_unearned_and_every_part_has_one_end() -> None:
    run_state_machine_as_test(World, settings=QUICK)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_histories() -> None:
    run_state_machine_as_test(World, settings=settings(QUICK, max_examples=10_000))


@settings(max_examples=100, deadline=None)
@given(
    gates=st.sampled_from([PLAIN, WATCHED]),
    parts=st.lists(st.tuples(st.integers(42, 120), JUDGEMENTS, st.integers(0, 110), st.booleans()), max_size=25),
    speeds=st.lists(st.floats(0.05, 3), min_size=1, max_size=20),
)
def test_an_undisturbed_belt_treats_every_part_as_it_should(
    gates: tuple[GateSection, ...], parts: list[tuple[int, Judgement, int, bool]], speeds: list[float]
) -> None:
    """Latencies longer than gaps, speeds and parts taken off: each part's end is what arithmetic says."""
    line = Line(gates)
    come_mm, plan = line.way_mm, list[tuple[float, int, str]]()
    for number, (gap_mm, _, latency_mm, stays) in enumerate(parts):
        come_mm += gap_mm
        plan += [(come_mm, number, "comes"), (come_mm + latency_mm + 0.5, number, "is judged")]
        plan += [] if stays or gates is PLAIN else [(come_mm + 20, number, "is taken off")]
    for step, (at_mm, number, what) in enumerate(sorted(plan)):
        line.step(at_mm - line.way_mm, round((at_mm - line.way_mm) / speeds[step % len(speeds)] * MS))
        if what == "comes":
            line.come()
        elif what == "is judged":
            line.order(line.bodies[number], parts[number][1])
        else:
            line.bodies[number].on_belt = False
    line.step(200, 400 * MS)
    line.step(0, 100 * MS)
    outcomes = {one.sequence: one.outcome for one in line.told if isinstance(one, fates.Finished)}
    assert sorted(outcomes) == [body.sequence for body in line.bodies]
    for (_, verdict, latency_mm, stays), body in zip(parts, line.bodies, strict=True):
        passes = verdict is Judgement.PASS and latency_mm < gates[0].start_mm
        expected = GateOutcome.PASSED if passes else GateOutcome.EJECTED
        assert outcomes[body.sequence] is (expected if stays or gates is PLAIN else None)
    told = {type(one) for one in line.told}
    assert not told & {fates.Crowded, fates.Exposed, fates.Unexpected, fates.Unconfirmed, fates.Stranger, fates.Lost}
    assert (fates.TakenOff in told) is (gates is WATCHED and not all(stays for *_, stays in parts))
