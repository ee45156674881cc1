"""What the link's thread says to the PLC and hears from it, while the connection lasts and again after it was lost."""

from __future__ import annotations

import contextlib
import queue
import time
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from config.errors import DeviceError
from decision import registers
from decision.gate import PlcInputs, StationOutputs, StationState
from decision.handshake import Handshake
from decision.news import (
    Event,
    GateMissed,
    GateOutcomeSeen,
    GateOutcomesLost,
    GateOutcomesRecounted,
    GateWritten,
    JobRequested,
    LinkDown,
    LinkUp,
    PartTriggered,
    TriggerRefused,
)
from decision.registers import Result

if TYPE_CHECKING:
    from config.mailbox import Mailbox
    from decision.gate import Driver
    from decision.ledger import Ledger

LOOP_SILENT_NS = 500_000_000  # the loop has not said that it can judge for so long: it hangs, and the heartbeat stops
_POLL_NS = 20_000_000
_LED_POLL_NS = 2_000_000  # where the PLC leads, a trigger waits for half of it on average
_HEARTBEAT_NS = 100_000_000
_ALONE_NS = 300_000_000  # a heartbeat that stands for so long is of a station that is gone, or cannot judge


@dataclass
class Order:
    """A part's result on its way to the PLC."""

    result: Result
    part_id: str
    expires_ns: int
    answered: bool = False  # the loop knows what became of it
    missed: bool = False


@dataclass(frozen=True)
class Exposed:
    """Every camera has its picture of a part, or will have none."""

    sequence: int


@dataclass(frozen=True)
class JobRefused:
    """No recipe has the job that the PLC asks for."""


@dataclass
class Said:
    """What the loop has said last; the thread reads it."""

    state: StationState = StationState.STOPPED
    renewed_ns: int = 0
    job: int = 0
    refused_job: int = 0
    line_stop: bool = False
    closing: bool = False


Orders = queue.SimpleQueue[Order | Result | Exposed | JobRefused | None]  # None: look at what was said


class Conversation:
    """The attendant's talk with one PLC: all of its methods are the thread's."""

    def __init__(
        self,
        driver: Driver,
        run_id: str,
        said: Said,
        orders: Orders,
        news: Mailbox[Event],
        ledger: Ledger | None,
        plc_silent_ns: int,
    ) -> None:
        """Take orders and what is `said` from the loop, and put what happens into `news`."""
        self._driver = driver
        self._run = zlib.crc32(run_id.encode()) or 1
        self._said = said
        self._orders = orders
        self._news = news
        self._plc_silent_ns = plc_silent_ns
        self._recent: dict[int, Order] = {}  # what the PLC's ring holds or should hold, by slot
        self._unwritten: dict[int, Order] = {}  # those that this connection has not carried yet
        self._up: bool | None = None
        self._heartbeat = 0
        self._heartbeat_due_ns = 0
        self._told: StationOutputs | None = None
        self._plc_heartbeat = 0
        self._plc_heartbeat_ns = 0
        self._outcomes_seen: int | None = None
        self._requested_job = 0
        self._ledger = ledger
        self._handshake = Handshake(ledger.read()) if ledger else None
        self._kept = self._handshake.memory if self._handshake else None
        self._poll_ns = _LED_POLL_NS if ledger else _POLL_NS
        for part in self._kept.open if self._kept else ():
            self._tell(PartTriggered(part, again=True))

    def lost(self, reason: str) -> bool:
        """Tell that the PLC does not answer, once."""
        was_up = self._up is True
        if self._up is not False:
            self._up = False
            self._tell(LinkDown(reason))
        return was_up

    def hang_up(self) -> None:
        """Disconnect."""
        self._driver.close()

    def wait(self, until_ns: int) -> None:
        """Take orders without a PLC."""
        while not self._said.closing and (now_ns := time.monotonic_ns()) < until_ns:
            self._miss_expired(now_ns)
            self._take(min(until_ns, now_ns + _POLL_NS))

    def converse(self) -> None:
        """Talk to the PLC until the link is closed; DeviceError says that the PLC is gone."""
        self._driver.open()
        self._agree()
        poll_due_ns = 0
        while not self._said.closing:
            self._take(min(poll_due_ns, self._heartbeat_due_ns))
            self._write_orders()
            self._write_outputs()
            if time.monotonic_ns() >= poll_due_ns:
                self._poll()
                self._write_outputs()
                poll_due_ns = time.monotonic_ns() + self._poll_ns
        self._said.state = StationState.STOPPED
        self._write_outputs()
        self._take(0)
        self._write_orders()
        self._write_outputs()  # with the result of a part that was judged at the last moment

    def _agree(self) -> None:
        """Bring a PLC that was just reached to what the station knows."""
        inputs = self._driver.read_inputs()
        if inputs.run not in {0, self._run}:
            self._insist_on_being_alone(inputs.run)
        if inputs.run != self._run:
            self._driver.clear_results()
        if self._handshake:
            self._handshake.connected()
        self._look(inputs)
        if self._outcomes_seen is None or inputs.run != self._run:
            ours = inputs.run in (0, self._run)  # 0: a cold PLC, all that it tells is new
            self._outcomes_seen = max(0, inputs.outcome_count - registers.SLOTS) if ours else inputs.outcome_count
        self._plc_heartbeat, self._plc_heartbeat_ns = inputs.heartbeat, time.monotonic_ns()
        self._told = None
        self._unwritten = {slot: order for slot, order in self._recent.items() if not order.missed}
        self._take(0)
        self._write_outputs()
        self._write_orders()

    def _insist_on_being_alone(self, run: int) -> None:
        """Raise DeviceError where the station of another run still writes: by its results our parts would pass."""
        heartbeat = self._driver.read_heartbeat()
        until_ns = time.monotonic_ns() + _ALONE_NS
        while (now_ns := time.monotonic_ns()) < until_ns:
            self.wait(min(until_ns, now_ns + _POLL_NS))
            if self._said.closing:
                raise DeviceError("the link was closed before it was known whether the PLC serves another station")
            if self._driver.read_heartbeat() != heartbeat:
                raise DeviceError(f"the PLC serves another station, of run {run}: its heartbeat moves")

    def _take(self, until_ns: int) -> None:
        """Accept the orders that wait; wait for one until `until_ns`."""
        wait_s = max(0, until_ns - time.monotonic_ns()) / 1e9
        with contextlib.suppress(queue.Empty):
            order = self._orders.get(timeout=wait_s)
            while True:
                self._take_in(order)
                order = self._orders.get_nowait()

    def _take_in(self, order: Order | Result | Exposed | JobRefused | None) -> None:
        if isinstance(order, Order):
            self._accept(order)
            order = order.result
        if self._handshake:
            match order:
                case Result():
                    self._handshake.judged(order)
                case Exposed(sequence):
                    self._handshake.exposed(sequence)
                case JobRefused():
                    self._handshake.job_refused()
            self._keep()

    def _accept(self, order: Order) -> None:
        slot = registers.slot(order.result.sequence)
        overtaken = self._recent.get(slot)
        if overtaken is not None and not overtaken.answered:
            self._miss(overtaken)
        self._recent[slot] = self._unwritten[slot] = order

    def _write_orders(self) -> None:
        if not self._unwritten:
            return
        now_ns = time.monotonic_ns()
        self._miss_expired(now_ns)
        orders = sorted(self._unwritten.values(), key=lambda order: order.result.sequence)
        urgent = [order for order in orders if order.expires_ns >= now_ns]
        told_again = [order for order in orders if order.expires_ns < now_ns]
        for batch in (urgent, told_again):
            if not batch:
                continue
            self._driver.write_results([order.result for order in batch])
            written_ns = time.monotonic_ns()
            for order in batch:
                del self._unwritten[registers.slot(order.result.sequence)]
                if order.answered:
                    continue
                if written_ns > order.expires_ns:
                    self._miss(order)
                else:
                    order.answered = True
                    self._tell(GateWritten(order.result.sequence, order.part_id, written_ns))

    def _miss_expired(self, now_ns: int) -> None:
        for slot, order in list(self._unwritten.items()):
            if not order.answered and order.expires_ns < now_ns:
                del self._unwritten[slot]
                self._miss(order)

    def _miss(self, order: Order) -> None:
        order.answered = order.missed = True
        self._tell(GateMissed(order.result.sequence, order.part_id))

    def _present_state(self, now_ns: int) -> StationState:
        if self._said.state is StationState.READY and now_ns - self._said.renewed_ns > LOOP_SILENT_NS:
            return StationState.DEGRADED
        return self._said.state

    def _write_outputs(self) -> None:
        now_ns = time.monotonic_ns()
        state = self._present_state(now_ns)
        if now_ns >= self._heartbeat_due_ns:
            self._heartbeat_due_ns = now_ns + _HEARTBEAT_NS
            if state is StationState.READY:
                self._heartbeat = (self._heartbeat + 1) % registers.WORD
        outputs = StationOutputs(
            self._heartbeat, state, self._said.job, self._said.line_stop, self._run, refused_job=self._said.refused_job
        )
        if self._handshake:
            memory = self._handshake.memory
            outputs = replace(
                outputs,
                acked_part=memory.acked_part,
                error_code=memory.error_code,
                error_part=memory.error_part,
                result=self._handshake.result,
                signals=self._handshake.signals(able=state is StationState.READY),
            )
        if outputs != self._told:
            self._driver.write_outputs(outputs)
            self._told = outputs

    def _look(self, inputs: PlcInputs) -> None:
        """Let the handshake see what the PLC shows; what it takes is kept before anybody is told."""
        if self._handshake is None:
            return
        now_ns = time.monotonic_ns()
        able = self._present_state(now_ns) is StationState.READY
        before = self._handshake.refused
        part = self._handshake.look(inputs, able=able, job=self._said.job, now_ns=now_ns)
        self._keep()
        if self._handshake.refused != before:
            memory = self._handshake.memory
            self._tell(TriggerRefused(memory.error_code, memory.error_part))
        if part is not None:
            self._tell(PartTriggered(part, again=False))

    def _keep(self) -> None:
        if self._handshake and self._ledger and self._handshake.memory is not self._kept:
            self._kept = self._handshake.memory
            self._ledger.write(self._kept)

    def _poll(self) -> None:
        inputs = self._driver.read_inputs()
        now_ns = time.monotonic_ns()
        if inputs.run != self._run:
            raise DeviceError(
                f"the PLC holds run {inputs.run}, not {self._run}: it restarted, or serves another station"
            )
        if inputs.requested_job != self._requested_job:
            self._requested_job = inputs.requested_job
            self._tell(JobRequested(inputs.requested_job))
        if inputs.heartbeat != self._plc_heartbeat:
            self._plc_heartbeat, self._plc_heartbeat_ns = inputs.heartbeat, now_ns
            if not self._up:
                self._up = True
                self._tell(LinkUp())
        elif now_ns - self._plc_heartbeat_ns > self._plc_silent_ns:
            raise DeviceError(
                "the PLC answers but its heartbeat stands still: its program does not run, or writes elsewhere than "
                "the register map says (andon plc map)"
            )
        self._look(inputs)
        self._fetch_outcomes(inputs.outcome_count)

    def _fetch_outcomes(self, count: int) -> None:
        seen = self._outcomes_seen or 0
        if count < seen:
            self._tell(GateOutcomesRecounted(seen, count))
            self._outcomes_seen = seen = max(0, count - registers.SLOTS)
        if count - seen > registers.SLOTS:
            self._tell(GateOutcomesLost(count - registers.SLOTS - seen))
            seen = count - registers.SLOTS
        while seen < count:
            outcomes = self._driver.read_outcomes(seen + 1, count - seen)
            now_ns = time.monotonic_ns()
            for outcome in outcomes:
                if outcome is not None:
                    self._tell(GateOutcomeSeen(outcome.sequence, outcome.outcome, now_ns))
            if None in outcomes:
                self._tell(GateOutcomesLost(outcomes.count(None)))
            seen += len(outcomes)
            self._outcomes_seen = seen
            self._take(0)
            self._write_orders()

    def _tell(self, event: Event) -> None:
        self._news.put(event)
