"""The decision stage: triggers and predictions in, one verdict for each part out, to the gate first of all.

    grabber --Trigger, Loss--> docket --OpenPart--> rules --Verdict--> outbox, gate, grabbers, storage
    worker  --Predictions----┘                                └--GateReport--> outbox, storage
    PLC     --PartTriggered--> docket, grabbers (Expose); only where the PLC leads

The gate is the PLC's (link.py), or the station's own (gates.py); where there are both, the station's own tell the end.
A verdict is in the outbox before the gate is told. A restarted stage finds there which parts have been judged: it
answers their repeated triggers with the verdict of then, tells the gate again and storage what it has not confirmed.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import zmq
from msgspec.structs import replace

from config import bus, events, plugins
from config.handover import Inlet
from config.log import Condition, logger
from config.messages import (
    AnyMessage,
    Buffer,
    Control,
    Controlled,
    Enlist,
    Expose,
    GateReport,
    Holding,
    Loss,
    Predictions,
    Reason,
    Recorded,
    Standing,
    Trigger,
    Verdict,
)
from config.service import Service
from decision import realtime
from decision.alarms import Alarms, Happenings
from decision.changeover import Changeover
from decision.control import GIVING_UP, Controls
from decision.deadlines import Docket, OpenPart, Scored
from decision.exposures import Exposures
from decision.fates import Accepted, Finished, Missed
from decision.gate import StationState
from decision.gates import Gates
from decision.handshake import Triggered
from decision.ledger import Ledger
from decision.link import Link
from decision.news import GateMissed, GateOutcomeSeen, GateWritten, JobRequested, PartTriggered, TriggerRefused
from decision.records import Records
from decision.reports import GateReports
from decision.rules import judge
from decision.streaks import Streaks

if TYPE_CHECKING:
    import numpy.typing as npt

    from config.home import Home
    from decision.reports import AtGate

_JUDGED_KEPT = 4096  # verdicts remembered for repeated triggers: a restarted grabber repeats the last 64
_ENLISTED_NS = 1_000_000_000
_EVERY_NS = 100_000_000
_HEARD_NS = 2_000_000_000  # by then storage has heard of this process, and ended the alarms of the one before
_MARGIN_NS = 2_000_000
_UNKNOWN_TRAVEL_NS = 5_000_000_000


class Decision(Service):
    """The service that judges the parts of one station."""

    def __init__(self, home: Home) -> None:
        super().__init__("decision", home)
        self._station = home.read_station()
        self._changeover = Changeover(home, self._station, self.counters)
        self._recipes = self._changeover.recipes
        self._docket = Docket()
        self._judged: OrderedDict[str, Verdict] = OrderedDict()
        self._cameras: dict[str, tuple[int, int]] = {}  # name -> workers, when heard of
        self._exposures = Exposures()
        self._every_ns = 0
        self._been_ready = False
        self._unable = Condition("cannot_judge", self.counters)
        self._streaks = Streaks()
        self._alarms = Alarms(self._station.station, self.counters)
        self._gate_alarms = Alarms(self._station.station, Counter())  # what they tell of is counted as it happens
        self._link_alarms = Alarms(self._station.station)
        self._happenings = Happenings(self._station.station, self.counters)
        self._refused: TriggerRefused | None = None  # the last one, until a trigger is taken
        self._alarms_ns = time.monotonic_ns() + _HEARD_NS
        self._line_stop = False

    def open(self) -> None:
        """Find the outbox, the PLC and the other stages."""
        realtime.raise_priority(self._station.decision.realtime_priority)  # before there are other threads
        self._run_id = self.home.read_run().run_id
        self._link = self._make_link()
        self._gates = self._make_gates()

        storage = self.bus.connect(zmq.DEALER, self.home.endpoint("records"), "decision")
        self._records = Records(self.home.runtime / "outbox", storage, self.counters)
        simulation = self._station.simulation
        travel_ns = round(simulation.gate_travel_s * 1e9) if simulation else _UNKNOWN_TRAVEL_NS
        self._reports = GateReports(self._records, self.counters, travel_ns, own_gates=self._gates is not None)
        self._triggers = self.bus.bind(zmq.ROUTER, self.home.endpoint("triggers"))
        self._inlet = Inlet(self.bus, self.home.addresses("predictions"), self._from_worker, self.counters)
        self._onlookers = self.bus.bind(zmq.PUB, self.home.endpoint("onlookers"))  # never waits for any of them
        self._controls = Controls(self.home.runtime, self._run_id)
        self._clients = self.bus.bind(zmq.ROUTER, self.home.endpoint("controls"))
        self.watch(self._clients, bus.Receiver(self._clients, self._from_client, self.counters))
        people = self.bus.bind(zmq.ROUTER, self.home.endpoint("requests"))
        self.watch(people, bus.Receiver(people, self._changeover.from_person, self.counters))
        self.watch(self._changeover.fileno(), self._changeover.from_files)
        for source, receive in self._inlet.sources.items():
            self.watch(source, receive)
        self.watch(self._triggers, bus.Receiver(self._triggers, self._from_camera, self.counters))
        self.watch(storage, bus.Receiver(storage, self._from_storage, self.counters))
        for side, handler in ((self._link, self._from_plc), (self._gates, self._from_gates)):
            if side:
                self.watch(side.fileno(), handler)
        self._recover(f"{self._station.station}-{self._run_id}-")
        for side in (self._link, self._gates):
            if side:
                side.start()
        self._changeover.start(people, self._announce_job)
        self._announce_job()
        realtime.lock_memory()
        self._garbage = realtime.Garbage(self.counters)

    def _make_link(self) -> Link | None:
        section = self._station.plc
        if section is None:
            return None
        plug_in = plugins.load("decision.plc", section.type)
        driver = plug_in.Driver(plugins.options(plug_in, section.options, "plc: options"))
        ledger = Ledger(self.home.runtime, self._run_id) if section.trigger == "plc" else None
        return Link(driver, self._run_id, self.counters, ledger=ledger, heartbeat_lost_ms=section.heartbeat_lost_ms)

    def _make_gates(self) -> Gates | None:
        section = self._station.io
        if section is None:
            return None
        plug_in = plugins.load("decision.io", section.type)
        driver = plug_in.Driver(plugins.options(plug_in, section.options, "io: options"))
        return Gates(driver, self._station, self.counters)

    def tick(self, now_ns: int) -> None:
        """Judge what is due; ten times a second look after everything else."""
        self._judge_due(now_ns)
        judged_ns = next(reversed(self._judged.values())).judged_ns if self._judged else 0
        self._garbage.tick(now_ns, len(self._docket), judged_ns)
        if now_ns < self._every_ns:
            return
        self._every_ns = now_ns + _EVERY_NS
        self._changeover.tick(now_ns, max((workers for workers, _ in self._cameras.values()), default=0))
        if self._docket.dropped:
            self.counters["answers_without_trigger"] = self._docket.dropped
        self._records.tick(now_ns)
        self._look_at_station(now_ns)
        self._tell_alarms(now_ns)
        self._tell_happenings()
        for part_id, camera in self._exposures.never(now_ns):
            self.counters["never_exposed"] += 1
            self._answer(part_id, camera, Loss(part_id=part_id, camera=camera, reason=Reason.LATE))
            self._exposed(part_id, camera)
        self._reports.tick(now_ns)

    def next_ns(self) -> int | None:
        """Wake a little before the next deadline, so that a FAULT is in time as well."""
        due_ns = self._docket.next_ns()
        return None if due_ns is None else due_ns - _MARGIN_NS

    def close(self) -> None:
        """Judge what is still open (a FAULT where a view is missing), then bring the gate to rest."""
        if not hasattr(self, "_gates"):
            return
        if not self._records.almost_full:
            for part in self._docket.close():
                self._judge(part)
        for side in (self._gates, self._link, self._changeover):
            if side:
                side.close()

    def _recover(self, run: str) -> None:
        """Take up what a former process of this run left in the outbox."""
        left = 0
        for message, waiting in self._records.recover():
            left += waiting
            if isinstance(message, Verdict) and message.part_id.startswith(run):
                self._remember(message)
                self._reports.expect(message)
            elif isinstance(message, GateReport):
                self._reports.forget(message.part_id)
        for part in self._reports.open(time.monotonic_ns()):
            self._order(part)
        if self._link:
            for verdict in self._judged.values():
                self._link.recall(verdict.sequence, verdict.gate, verdict.verdict)
        if left or self._judged:
            logger().info("recovered", unconfirmed=left, judged=len(self._judged), at_gate=len(self._reports))

    def _from_camera(self, message: AnyMessage, _payload: list[bytes], peer: bytes) -> None:
        if isinstance(message, Trigger):
            known = self._judged.get(message.part_id)
            if known is not None:
                self.counters["triggers_repeated"] += 1
                bus.send(self._triggers, known, to=peer)
                return
            if self._recipes.active is None:
                message = replace(message, recipe="")
            self.counters["triggers"] += 1
            self._admit(message)
            self._exposed(message.part_id, message.camera)
        elif isinstance(message, Loss):
            self._answer(message.part_id, message.camera, message)
            self._exposed(message.part_id, message.camera)
        elif isinstance(message, Enlist):
            news = message.camera not in self._cameras
            self._cameras[message.camera] = (message.workers, time.monotonic_ns())
            self._exposures.meet(message.camera, time.monotonic_ns())
            if news or message.workers == 0:
                self._look_at_station(time.monotonic_ns())
            bus.send(self._triggers, self._recipes.job, to=peer)
        self._judge_due(time.monotonic_ns())

    def _expose(self, part: Triggered, *, again: bool) -> None:
        """Open a part that the PLC has triggered, and have its pictures taken unless that was asked for before."""
        part_id = f"{self._station.station}-{self._run_id}-{part.sequence:08d}"
        if part_id in self._judged:
            return
        name, recipe = self._recipes.of_job(part.job)
        expose = Expose(
            part_id=part_id,
            sequence=part.sequence,
            recipe=name,
            trigger_ns=part.trigger_ns,
            trigger_time_ns=time.time_ns() - (time.monotonic_ns() - part.trigger_ns),
            deadline_ns=part.trigger_ns + (recipe.deadline_ms * 1_000_000 if recipe else 0),
            bundles=rules.bundles if (rules := self._recipes.rules(name, part.sequence)) else {},
        )
        views = tuple(recipe.views) if recipe else ()
        fields = {field: getattr(expose, field) for field in expose.__struct_fields__ if field != "bundles"}
        self.counters["parts_triggered"] += 1
        self._admit(Trigger(**fields, station=self._station.station, camera="", views=views))
        self._exposures.begin(part_id, part.sequence, views, again=again)
        for camera in () if again else views:
            if not bus.send(self._triggers, expose, to=camera.encode()):
                self._answer(part_id, camera, Loss(part_id=part_id, camera=camera, reason=Reason.CAMERA_DOWN))
                self._exposed(part_id, camera)
                self._cameras.pop(camera, None)  # away; the next trigger is not taken
                self._look_at_station(time.monotonic_ns())
        self._judge_due(time.monotonic_ns())

    def _admit(self, trigger: Trigger) -> None:
        """Open a part; one that comes while the station is to take none is a FAULT at once."""
        if self._gates:
            self._gates.expect(trigger.sequence, trigger.part_id, trigger.trigger_ns)
        rules = self._recipes.rules(trigger.recipe, trigger.sequence)
        self._recipes.see(trigger.sequence, time.monotonic_ns())
        if trigger.part_id in self._docket or self._controls.takes():
            self._controls.taken(trigger.part_id)
            self._docket.trigger(trigger, rules)
            return
        self.counters["triggers_while_stopped"] += 1
        self._docket.forget(trigger.part_id)  # a prediction that came early
        self._docket.trigger(trigger, rules)
        for camera in trigger.views:
            self._docket.answer(trigger.part_id, camera, _stopped(trigger.part_id, camera))

    def _exposed(self, part_id: str, camera: str) -> None:
        sequence = self._exposures.settle(part_id, camera)
        if sequence is not None and self._link:
            self._link.exposed(sequence)

    def _from_worker(self, message: AnyMessage, payload: list[Buffer], _peer: bytes) -> None:
        if isinstance(message, Loss):
            self._answer(message.part_id, message.camera, message)
        elif isinstance(message, Holding):
            self._changeover.from_worker(message, time.monotonic_ns())
            return
        elif isinstance(message, Predictions):
            self.counters["predictions"] += len(message.each)
            maps = _maps(message, payload)
            for number, prediction in enumerate(message.each):
                part_id, camera = prediction.part_id, prediction.camera
                if maps is not None:
                    self._answer(part_id, camera, Scored(prediction, maps[number]))
                else:
                    self.counters["malformed_message"] += 1
                    self._answer(part_id, camera, Loss(part_id=part_id, camera=camera, reason=Reason.NOT_FINITE))
        self._judge_due(time.monotonic_ns())

    def _answer(self, part_id: str, camera: str, answer: Scored | Loss) -> None:
        if part_id in self._judged:
            self.counters["answers_too_late"] += 1
            return
        self._docket.answer(part_id, camera, answer)

    def _judge_due(self, now_ns: int) -> None:
        if not self._records.has_room():
            return  # what cannot be kept must not be judged: the parts stay open, the gate at rest ejects them
        for part in self._docket.due(now_ns + _MARGIN_NS):
            self._judge(part)

    def _judge(self, part: OpenPart) -> None:
        verdict, maps = judge(part, part.rules, self._station.line, time.monotonic_ns())
        parts = self._records.keep(verdict, maps)
        self._order(self._reports.expect(verdict))
        self._remember(verdict)
        for camera in self._cameras:
            bus.send_parts(self._triggers, parts[:2], to=camera.encode())  # the maps are for storage alone
        self._records.send(verdict.record_id, parts)
        bus.send_parts(self._onlookers, parts[:2])
        self._controls.judged(verdict.part_id)
        self.counters[verdict.verdict.lower()] += 1
        self._tell_alarms(verdict.judged_ns)

    def _remember(self, verdict: Verdict) -> None:
        self._judged[verdict.part_id] = verdict
        recipe = self._recipes.find(verdict.recipe)
        if recipe is not None:
            self._streaks.take(verdict, recipe.alarms)
        self._docket.forget(verdict.part_id)
        self._exposures.forget(verdict.part_id)
        if len(self._judged) > _JUDGED_KEPT:
            self._judged.popitem(last=False)

    def _tell_alarms(self, now_ns: int) -> None:
        on, of_gates = dict(self._streaks.on), {}
        if self._gates:
            of_gates = self._gates.alarms()
            if self._gates.full_bins:
                on["bin_full"] = f"gate {self._gates.full_bins}"
        stop = self._streaks.stops_line or (self._gates is not None and self._gates.stops_line)
        if stop is not self._line_stop:
            self._line_stop = stop
            for side in (self._gates, self._link):
                if side:
                    side.stop_line(stop)
        if now_ns < self._alarms_ns or self._records.almost_full:
            return
        news = self._alarms.update(on) + self._gate_alarms.update(of_gates)
        news += self._link_alarms.update(self._link.alarms() if self._link else {}) + self._changeover.events()
        for event in news:
            self._records.deliver(event)

    def _tell_happenings(self) -> None:
        if not self._records.almost_full:
            for event in self._happenings.events():
                self._records.deliver(event)

    def _order(self, part: AtGate) -> None:
        verdict = part.verdict
        if self._gates:
            self._gates.order(verdict.sequence, verdict.part_id, verdict.gate, verdict.verdict)
        if self._link:
            self._link.order(verdict.sequence, verdict.part_id, verdict.gate, verdict.verdict, part.expires_ns)

    def _from_plc(self) -> None:
        for event in self._link.events() if self._link else ():
            match event:
                case JobRequested(job):
                    self._take_job(job)
                case TriggerRefused() if event != self._refused:  # a PLC may try one many times in a second
                    self._refused = event
                    why = event.code.name.lower().replace("_", " ")
                    self._happenings.note("trigger_refused", f"part {event.part_number}: {why} (error {event.code})")
                case PartTriggered(part, again):
                    self._refused = None
                    self._expose(part, again=again)
                case _ if self._gates:
                    pass  # the station's own gates tell what became of a part
                case GateWritten(_, part_id, written_ns):
                    self._reports.written(part_id, written_ns)
                case GateOutcomeSeen(sequence, outcome, _):
                    self._reports.seen(sequence, outcome)
                case GateMissed() | _:
                    pass  # the link has counted and logged it; the report follows with the outcome or at its time
        self._tell_happenings()

    def _take_job(self, job: int) -> None:
        refused = self._recipes.ask(job)
        if refused:
            self._happenings.note("job_refused", f"the PLC asks for job {refused}, which no recipe has")
        self._announce_job(refused=refused)

    def _from_gates(self) -> None:
        for event in self._gates.events() if self._gates else ():
            match event:
                case Accepted(_, part_id, accepted_ns):
                    self._reports.written(part_id, accepted_ns)
                case Missed(_, part_id, _):
                    self._reports.missed(part_id)
                case Finished(_, part_id, outcome, held_back) if part_id in self._reports:
                    if held_back is not None:
                        self.counters["good_part_held_back"] += 1
                        self._happenings.note("good_part_held_back", f"part {part_id}: {held_back}")
                    self._reports.finish(part_id, outcome)
                case _:
                    pass  # what is wrong is among the alarms of the gates
        self._tell_happenings()

    def _from_storage(self, message: AnyMessage, _payload: list[bytes], _peer: bytes) -> None:
        if isinstance(message, Recorded):
            self._records.recorded(message)

    def _from_client(self, message: AnyMessage, _payload: list[bytes], peer: bytes) -> None:
        """Do what a client of the OPC UA server orders, if its state and the PLC let it."""
        if not isinstance(message, Control):
            return
        standing = self._look_at_station(time.monotonic_ns())
        refused = self._controls.refuses(message, standing, recipe=standing.recipe, asked=self._recipes.asked)
        if refused or (message.recipe is not None and self._recipes.find(message.recipe) is None):
            answer = Controlled(order_id=message.order_id, refused=refused or "RECIPE", standing=standing)
            bus.send(self._clients, answer, to=peer)
            return
        detail = f"{message.method} by {message.who}" + (f": {message.detail}" if message.detail else "")
        logger().info("control", detail=detail)
        self._controls.order(message, standing, peer)
        if message.method in GIVING_UP and not self._records.almost_full:
            for part in self._docket.close():
                for camera in part.trigger.views:
                    part.answers.setdefault(camera, _stopped(part.trigger.part_id, camera))
                self._judge(part)
        if message.method.startswith("Prepare") and message.recipe and message.recipe != self._recipes.active:
            self._changeover.activate(message.recipe, message.who)
        self._records.deliver(events.happened(self._station.station, self.name, "control", "INFO", detail))
        self._look_at_station(time.monotonic_ns())

    def _announce_job(self, *, refused: int = 0) -> None:
        recipe = self._recipes.recipe
        if self._link:
            self._link.job_active(recipe.job if recipe else 0, refused=refused)
        for camera in self._cameras:
            bus.send(self._triggers, self._recipes.job, to=camera.encode())

    def _what_is_wrong(self, now_ns: int) -> list[str]:
        """Say what keeps the station from judging."""
        wrong = []
        for section in self._station.cameras:
            workers, heard_ns = self._cameras.get(section.name, (0, -math.inf))
            if now_ns - heard_ns > _ENLISTED_NS:
                wrong.append(f"camera {section.name} is away")
            elif workers == 0:
                wrong.append(f"camera {section.name} has no worker")
        if self._recipes.active is None:
            wrong.append("the PLC asks for an unknown job")
        if self._records.almost_full:
            wrong.append("verdicts cannot be kept")
        return wrong

    def _look_at_station(self, now_ns: int) -> Standing:
        """READY needs every camera with a worker, a known job, room for verdicts, and nobody who has stopped it."""
        wrong = self._what_is_wrong(now_ns)
        standing = Standing(
            state="DEGRADED" if wrong else "READY",
            detail="; ".join(wrong),
            recipe=self._recipes.active if self._controls.prepared else None,
        )
        standing = self._controls.show(standing, open_parts=len(self._docket))
        if self._controls.why_none:
            wrong.append(self._controls.why_none)
        self.detail = "; ".join(wrong)
        if not wrong:
            self._been_ready = True
            self._unable.end()
        elif self._been_ready:
            self._unable.occur(why=self.detail)
        self.state = "DEGRADED" if wrong else "READY"
        for side in (self._gates, self._link):
            if side:
                side.able(StationState.DEGRADED if wrong else StationState.READY)
        bus.send(self._onlookers, standing)
        for peer, answer in self._controls.answers(standing, open_parts=len(self._docket)):
            bus.send(self._clients, answer, to=peer)
        return standing


def _maps(message: Predictions, payload: list[Buffer]) -> npt.NDArray[np.float32] | None:
    """Return the anomaly maps `(N, h, w)` of a batch, None where the payload is not as many of the shape they say."""
    shapes = {prediction.map_shape for prediction in message.each}
    shape = (len(message.each), *next(iter(shapes), (0, 0)))
    if len(shapes) != 1 or len(payload) != 1 or len(payload[0]) != 4 * math.prod(shape) or not all(shape):
        return None
    return np.frombuffer(payload[0], np.float32).reshape(shape)


def _stopped(part_id: str, camera: str) -> Loss:
    return Loss(part_id=part_id, camera=camera, reason=Reason.STOPPED)
