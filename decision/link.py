"""The thread between decision loop and PLC driver: orders go out at once, and the loop never waits for a PLC."""

from __future__ import annotations

import queue
import time
from collections import Counter

from config.log import Condition, logger
from config.mailbox import Mailbox
from config.messages import GateCommand, Judgement
from decision.attendant import Attendant
from decision.conversation import LOOP_SILENT_NS, Conversation, Exposed, JobRefused, Order, Orders, Said
from decision.gate import Driver, StationState
from decision.ledger import Ledger
from decision.news import (
    Event,
    GateMissed,
    GateOutcomeSeen,
    GateOutcomesLost,
    GateOutcomesRecounted,
    GateWritten,
    LinkDown,
    LinkUp,
    PartTriggered,
    TriggerRefused,
)
from decision.registers import Result
from decision.troubles import Recent

_STEADY_NS = 1_000_000_000  # a connection that comes and goes is one alarm
_AWAITED_NS = 10_000_000_000  # a PLC that starts with the station


class Link:
    """Keep one PLC informed of results, state and heartbeat, and the decision loop of what the PLC tells.

    Its methods are for the loop's thread and none of them blocks, but `close` (0.3 s at most). After a lost connection
    the PLC is told everything again that its rings hold. Results of another run are cleared before the first of this
    one: no part is passed by an old PASS. Where the PLC leads the link also runs the handshake.
    """

    def __init__(
        self,
        driver: Driver,
        run_id: str,
        counters: Counter[str],
        *,
        ledger: Ledger | None = None,
        heartbeat_lost_ms: int = 500,
    ) -> None:
        """Name the run that results belong to; `counters` are touched by the loop's thread only.

        With a `ledger`, which keeps what the handshake knows, the PLC leads. Its heartbeat may stand still for
        `heartbeat_lost_ms`.
        """
        self._counters = counters
        self._down = Condition("plc_down", counters)
        self._missing = Condition("gate_missed", counters)
        self._refusing = Condition("trigger_refused", counters)
        self._losing = Condition("gate_outcomes_lost", Counter())  # this one counts how often, `counters` how many
        self._recent = Recent()
        self._why_down = ""
        self._awaited_ns = 0  # until then it need not be there
        self._steady_ns = 0  # from then on it is up for good
        self._leads = ledger is not None
        self._said = Said()
        self._orders: Orders = queue.SimpleQueue()
        self._events: Mailbox[Event] = Mailbox()
        silent_ns = heartbeat_lost_ms * 1_000_000
        talk = Conversation(driver, run_id, self._said, self._orders, self._events, ledger, silent_ns)
        self._thread = Attendant("plc-link", talk)

    def start(self) -> None:
        """Begin to connect; in this process, the interpreter changes threads every 0.1 ms from now on."""
        self._awaited_ns = time.monotonic_ns() + _AWAITED_NS
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor that can be read when there are events."""
        return self._events.fileno()

    def order(self, sequence: int, part_id: str, command: GateCommand, verdict: Judgement, expires_ns: int) -> None:
        """Tell the PLC a part's result; answered once, by GateWritten or, past `expires_ns`, by GateMissed."""
        self._orders.put(Order(Result(sequence, command, verdict), part_id, expires_ns))
        time.sleep(0)  # lets go of the interpreter: the thread would ask for it one switch interval later

    def recall(self, sequence: int, command: GateCommand, verdict: Judgement) -> None:
        """Tell the handshake what a former process of this run has judged: maybe the PLC was not told."""
        if self._leads:
            self._orders.put(Result(sequence, command, verdict))

    def exposed(self, sequence: int) -> None:
        """Tell the PLC that every camera has its picture of a part, or will have none."""
        self._orders.put(Exposed(sequence))

    def able(self, state: StationState) -> None:
        """Say whether the station can judge; say READY at least every 0.5 s, or the heartbeat stops.

        What crashed the link's thread, such as a driver that raises something else than DeviceError, is raised here.
        """
        self._thread.raise_crash()
        now_ns = time.monotonic_ns()
        silent_ns, self._said.renewed_ns = now_ns - self._said.renewed_ns, now_ns
        if state is self._said.state is StationState.READY and silent_ns > LOOP_SILENT_NS:
            self._counters["loop_silent"] += 1
            logger().warning("the decision loop hung, the heartbeat to the PLC stood still", silent_s=silent_ns / 1e9)
            self._note("loop_silent", f"the decision stage hung for {silent_ns / 1e9:.1f} s, its heartbeat stood still")
        if state is not self._said.state:
            self._said.state = state
            self._orders.put(None)

    def job_active(self, job: int, *, refused: int = 0) -> None:
        """Tell the PLC by which job the station judges; or 0, and the one it asked for and cannot have."""
        self._said.job, self._said.refused_job = job, refused
        self._orders.put(JobRefused() if refused else None)

    def stop_line(self, wanted: bool) -> None:  # noqa: FBT001 - the register is a yes or no
        """Ask the PLC to stop the line, or no longer."""
        self._said.line_stop = wanted
        self._orders.put(None)

    def alarms(self) -> dict[str, str]:
        """Return the alarms that are on, with what to say of each."""
        now_ns = time.monotonic_ns()
        on = self._recent.on(now_ns)
        if (self._down.active and now_ns >= self._awaited_ns) or now_ns < self._steady_ns:
            on["plc_down"] = self._why_down
        return on

    def events(self) -> list[Event]:
        """Return what has happened since the last call, oldest first; it is counted and logged here."""
        found = self._events.drain()
        for event in found:
            self._count(event)
        return found

    def close(self) -> None:
        """Make the outputs safe (state 0, heartbeat still) and end; 0.3 s at most, also where the PLC is gone."""
        self._thread.closing = self._said.closing = True
        self._orders.put(None)
        if not self._thread.join():
            self._counters["plc_close_timeout"] += 1
            return
        self._events.close()

    def _note(self, name: str, detail: str) -> None:
        self._recent.note(name, detail, time.monotonic_ns())

    def _count(self, event: Event) -> None:
        match event:
            case LinkDown(reason):
                self._down.occur(reason=reason)
                self._why_down = reason
            case LinkUp():
                now_ns = time.monotonic_ns()
                if self._down.active and now_ns >= self._awaited_ns:
                    self._steady_ns = now_ns + _STEADY_NS
                self._awaited_ns = 0
                self._down.end()
            case GateMissed(sequence, part_id):
                self._missing.occur(part_id=part_id, sequence=sequence)
                self._note("gate_missed", f"part {part_id}: its result came too late for the PLC")
            case GateWritten():
                self._missing.end()
            case TriggerRefused(code, number):
                self._refusing.occur(why=code.name.lower(), part_number=number)
            case PartTriggered():
                self._refusing.end()
            case _:
                self._count_outcome(event)

    def _count_outcome(self, event: Event) -> None:
        match event:
            case GateOutcomesLost(count):
                self._counters["gate_outcomes_lost"] += count
                self._losing.occur(first=count)
                self._note("gate_outcomes_lost", f"of {count} parts the PLC told no outcome that can be read")
            case GateOutcomesRecounted(before, count):
                self._counters["gate_outcomes_recounted"] += 1
                logger().warning("the PLC counts its outcomes anew", before=before, count=count)
                self._note("gate_outcomes_recounted", f"outcome_count of the PLC went from {before} to {count}")
            case GateOutcomeSeen():
                self._losing.end()
            case _:
                pass
