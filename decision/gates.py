"""The thread that drives the station's own gates: inputs and outputs at one side, the tracker at the other.

It is to the decision loop what the link is: orders go in, what became of them comes out, and nobody waits. Whatever is
lost (the coupler, the encoder, the decision loop) leaves the gates at rest.
"""

from __future__ import annotations

import contextlib
import math
import queue
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.errors import ConfigurationError, DeviceError
from config.mailbox import Mailbox
from config.messages import GateCommand, Judgement
from decision.attendant import Attendant
from decision.coupler import Driver, Inputs
from decision.fates import Fate
from decision.gate import StationState
from decision.sensors import Sensors
from decision.tracker import Tracker
from decision.travel import Encoder, Travel
from decision.troubles import Troubles

if TYPE_CHECKING:
    from config.station import Station

_LOOP_SILENT_NS = 500_000_000  # `able` not called for so long: the loop hangs, and nobody judges
_REFRESH_NS = 50_000_000  # outputs are written at least so often, for the coupler's watchdog
_SLOW_NS = 1_000_000_000  # all readings left out for so long: as good as no answer
_STOP_PULSE_NS = 1_000_000_000  # how long a part that asks for it keeps the line-stop output on
_BEHIND_NS = 2_000  # after a change is due by arithmetic, so that rounding never wakes us before it


@dataclass(frozen=True)
class IoUp:
    """The coupler answers."""


@dataclass(frozen=True)
class IoDown:
    """The coupler does not answer: its watchdog puts the gates at rest."""

    reason: str


@dataclass(frozen=True)
class IoSlow:
    """A reading was left out: it took so long that nobody knows when the counters stood so."""

    doubt_ns: int


Event = Fate | IoUp | IoDown | IoSlow


@dataclass(frozen=True)
class _Expected:
    sequence: int
    part_id: str
    trigger_ns: int


@dataclass(frozen=True)
class _Order:
    sequence: int
    part_id: str
    command: GateCommand
    verdict: Judgement


class Gates:
    """Drive the gates of one station, and tell the decision loop what became of each part.

    Its methods are for the loop's thread and none of them blocks, but `close` (0.3 s at most); those of a Talk are the
    attendant's.
    """

    def __init__(self, driver: Driver, station: Station, counters: Counter[str]) -> None:
        """Take the station's tables; raise ConfigurationError where they name what the driver does not have."""
        self._driver = driver
        self._gates = station.gates
        self._encoder_counter = station.encoder.counter if station.encoder else None
        io = station.io
        if io is None:
            raise ConfigurationError("io: gates need an [io] table")
        _check(driver, station)
        self._poll_ns = round(io.poll_ms * 1e6)
        self._watchdog_ns = round(io.watchdog_ms * 1e6)
        self._line_stop_output = io.line_stop_output
        self._tracker = Tracker(station.gates)
        self._sensors = Sensors(station.gates, driver.counter_bits, self._tracker)
        precision_mm = self._tracker.precision_mm
        self._encoder: Encoder | None = None
        self._doubt_ns = sys.maxsize  # a reading that is less certain is of no use
        self._mm_per_ns = 0.0  # of a belt without an encoder: that is all there is to know of it
        if station.encoder:
            bits = driver.counter_bits[station.encoder.counter]
            self._encoder = Encoder(bits, station.encoder.mm_per_count, station.encoder.top_speed_mm_s, precision_mm)
            self._doubt_ns = round(precision_mm / 2 / station.encoder.top_speed_mm_s * 1e9)
        elif station.belt:
            self._mm_per_ns, precision_mm = station.belt.speed_mm_s / 1e9, math.inf
        self._travel = Travel(precision_mm)
        self.troubles = Troubles(counters)
        # from the loop to the thread
        self._orders: queue.SimpleQueue[_Expected | _Order | None] = queue.SimpleQueue()  # None: look at the rest
        self._state = StationState.STOPPED
        self._renewed_ns = 0
        self._line_stop = False
        # from the thread to the loop
        self._events: Mailbox[Event] = Mailbox()
        # the thread's own
        self._pending: list[_Expected | _Order] = []
        self._up: bool | None = None
        self._outputs: tuple[bool, ...] | None = None  # as the coupler has taken them
        self._written_ns: int | None = None  # when the coupler was written last
        self._stop_until_ns = 0
        self._thread = Attendant("gates", self)

    def start(self) -> None:
        """Begin to connect; in this process, the interpreter changes threads every 0.1 ms from now on."""
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor that can be read when there are events."""
        return self._events.fileno()

    def expect(self, sequence: int, part_id: str, trigger_ns: int) -> None:
        """Announce a part as soon as it is triggered; what is not announced is not let pass."""
        self._orders.put(_Expected(sequence, part_id, trigger_ns))

    def order(self, sequence: int, part_id: str, command: GateCommand, verdict: Judgement) -> None:
        """Give the command for a part: answered once, by Accepted or Missed; Finished tells its end."""
        self._orders.put(_Order(sequence, part_id, command, verdict))

    def able(self, state: StationState) -> None:
        """Say that the loop lives, at least every 0.5 s; what crashed the thread is raised here."""
        self._thread.raise_crash()
        self._renewed_ns = time.monotonic_ns()
        self._state = state

    def stop_line(self, wanted: bool) -> None:  # noqa: FBT001 - the output is a yes or no
        """Have the line-stop output on, or no longer."""
        self._line_stop = wanted
        self._orders.put(None)

    def events(self) -> list[Event]:
        """Return what has happened since the last call, oldest first; it is counted here."""
        found = self._events.drain()
        for event in found:
            self._note(event)
        return found

    def alarms(self) -> dict[str, str]:
        """Return the alarms that are on now, with what to say of each: all that they tell of is counted."""
        return self.troubles.alarms(time.monotonic_ns())

    @property
    def full_bins(self) -> str:
        """The gates whose bin is full; empty if none is."""
        return ", ".join(sorted(self._sensors.full_bins))

    @property
    def stops_line(self) -> bool:
        """Whether a full bin is to stop the line."""
        return any(gate.bin_full_stops_line and gate.name in self._sensors.full_bins for gate in self._gates)

    def close(self) -> None:
        """Put the gates at rest and end; 0.3 s at most, also where the coupler is gone."""
        self._thread.closing = True
        self._orders.put(None)
        if not self._thread.join():
            self.troubles.counters["io_close_timeout"] += 1
            return
        self._events.close()

    def _note(self, event: Event) -> None:
        match event:
            case IoDown(reason):
                self.troubles.io_down(reason)
            case IoUp():
                self.troubles.io_up()
            case IoSlow(doubt_ns):
                self.troubles.io_slow(doubt_ns, time.monotonic_ns())
            case _:
                self.troubles.note(event, time.monotonic_ns())

    # From here on: the thread.

    def lost(self, reason: str) -> bool:
        """Tell that the coupler does not answer, once."""
        was_up = self._up is True
        if self._up is not False:
            self._up = False
            self._tell([IoDown(reason)])
        return was_up

    def hang_up(self) -> None:
        """Disconnect: outputs and sensors are out of reach."""
        self._driver.close()
        self._outputs = self._written_ns = None
        self._tracker.blind()

    def wait(self, until_ns: int) -> None:
        """Hear the loop without a coupler: nobody knows where the parts are that come now."""
        while not self._thread.closing and time.monotonic_ns() < until_ns:
            self._take(until_ns)
            for item in self._pending:
                if isinstance(item, _Expected):
                    self._tracker.expect(item.sequence, item.part_id, -math.inf, math.inf)
                else:
                    self._order(item)
            self._pending.clear()
            self._tell(self._tracker.events())

    def converse(self) -> None:
        """Drive the gates until they are closed; DeviceError says that the coupler is gone."""
        self._driver.open()
        self._write((False,) * self._driver.outputs)
        self._sensors.forget()
        poll_due_ns, seen_ns = 0, time.monotonic_ns()
        while not self._thread.closing:
            change_ns = self._change_ns()
            self._take(min(poll_due_ns, change_ns))
            if self._pending or time.monotonic_ns() >= poll_due_ns:
                if self._poll(self._driver.read()):
                    self._handle_pending()
                    seen_ns = time.monotonic_ns()
                elif time.monotonic_ns() - seen_ns > _SLOW_NS:
                    raise DeviceError(f"the coupler has answered too slowly for {_SLOW_NS / 1e9:.0f} s")
                poll_due_ns = time.monotonic_ns() + self._poll_ns
            now_ns = time.monotonic_ns()
            self._tracker.able(self._state is not StationState.STOPPED and now_ns - self._renewed_ns < _LOOP_SILENT_NS)
            self._move(self._travel.between(now_ns)[0], now_ns)
            self._set_outputs(now_ns)
            self._tell(self._tracker.events())
        self._write((False,) * self._driver.outputs)

    def _take(self, until_ns: int) -> None:
        """Collect what the loop says; wait for it until `until_ns`."""
        wait_s = max(0, until_ns - time.monotonic_ns()) / 1e9
        with contextlib.suppress(queue.Empty):
            item = self._orders.get(timeout=wait_s)
            while True:
                if item is not None:
                    self._pending.append(item)
                item = self._orders.get_nowait()

    def _poll(self, inputs: Inputs) -> bool:
        """Take a reading; return whether it is of use."""
        if inputs.doubt_ns > self._doubt_ns:
            self._tell([IoSlow(inputs.doubt_ns)])
            return False
        if self._encoder is not None and self._encoder_counter is not None:
            why = self._encoder.read(inputs.counts[self._encoder_counter], inputs.read_ns)
            way_mm = self._encoder.way_mm
        else:
            why, way_mm = None, self._mm_per_ns * inputs.read_ns
        if why is not None:
            self._lose(why, way_mm)
        self._travel.add(inputs.read_ns, way_mm)
        self._sensors.take(inputs, way_mm)  # before the belt moves on: what it saw counts for windows that begin now
        self._move(way_mm, inputs.read_ns)
        if not self._up:
            self._up = True
            self._tell([IoUp()])
        return True

    def _move(self, way_mm: float, now_ns: int) -> None:
        if self._written_ns is not None and now_ns - self._written_ns > self._watchdog_ns:
            self._tracker.unwritten(self._travel.between(self._written_ns + self._watchdog_ns)[0])
        self._tracker.move(way_mm, now_ns)

    def _lose(self, why: str, way_mm: float) -> None:
        self._travel.forget()
        self._tracker.lose(why, way_mm)

    def _handle_pending(self) -> None:
        """Hand over what the loop has said; the belt was just looked at: every trigger lies before that reading."""
        for item in self._pending:
            if isinstance(item, _Expected):
                low_mm, high_mm = self._travel.between(item.trigger_ns)
                if self._encoder is not None and self._travel.stood(item.trigger_ns):
                    self._lose("a part came while the encoder stood still", self._encoder.way_mm)
                    self._travel.add(time.monotonic_ns(), self._encoder.way_mm)
                    low_mm = -math.inf
                self._tracker.expect(item.sequence, item.part_id, low_mm, high_mm)
            else:
                self._order(item)
        self._pending.clear()

    def _order(self, order: _Order) -> None:
        now_ns = time.monotonic_ns()
        self._tracker.order(order.sequence, order.part_id, order.command, order.verdict, now_ns)
        if order.command is GateCommand.STOP:
            self._stop_until_ns = now_ns + _STOP_PULSE_NS

    def _change_ns(self) -> int:
        next_mm = self._tracker.next_mm()
        due_ns = self._travel.when(next_mm) if next_mm is not None else None
        return sys.maxsize if due_ns is None else due_ns + _BEHIND_NS

    def _set_outputs(self, now_ns: int) -> None:
        outputs = [False] * self._driver.outputs
        for gate, on in zip(self._gates, self._tracker.wanted(), strict=True):
            outputs[gate.output] = on
        if self._line_stop_output is not None:
            outputs[self._line_stop_output] = self._line_stop or self.stops_line or now_ns < self._stop_until_ns
        if tuple(outputs) != self._outputs or now_ns - (self._written_ns or 0) >= _REFRESH_NS:
            self._write(tuple(outputs))

    def _write(self, outputs: tuple[bool, ...]) -> None:
        began_ns = time.monotonic_ns()
        self._driver.write(outputs)
        now_ns, self._written_ns = time.monotonic_ns(), began_ns  # it may have heard that at once
        self._outputs = outputs
        if now_ns - began_ns > self._watchdog_ns:
            self._tracker.unwritten(self._travel.between(began_ns + self._watchdog_ns)[0])
        else:
            self._tracker.written([outputs[gate.output] for gate in self._gates], self._travel.between(now_ns)[0])

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._events.put(event)


def _check(driver: Driver, station: Station) -> None:
    """Compare the numbers in the station file with what the driver has."""
    outputs = [(f"gates: {gate.name}: output", gate.output) for gate in station.gates]
    if station.io and station.io.line_stop_output is not None:
        outputs.append(("io: line_stop_output", station.io.line_stop_output))
    inputs = [(f"gates: {gate.name}: input", number) for gate in station.gates for number in gate.inputs]
    counters = [(f"gates: {gate.name}: counter", number) for gate in station.gates for number in gate.counters]
    if station.encoder:
        counters.append(("encoder: counter", station.encoder.counter))
    kinds = (
        ("outputs", outputs, driver.outputs),
        ("inputs", inputs, driver.inputs),
        ("counters", counters, len(driver.counter_bits)),
    )
    for kind, used, count in kinds:
        for where, number in used:
            if number >= count:
                raise ConfigurationError(f"{where} {number}: io.options has {count} {kind}, numbered from 0")
