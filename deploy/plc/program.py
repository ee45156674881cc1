"""The program that the PLC runs, cycle by cycle: over its memory, and the belt that its sensors and its gate are at."""

from __future__ import annotations

import time
from typing import TextIO

from config.holds import Holds
from config.messages import GateCommand, GateOutcome
from decision import registers
from decision.gate import StationSignals
from decision.registers import Register, Result
from deploy.plc.belt import Belt, Drive, Tally, Watch
from deploy.plc.faults import UNKNOWN_JOB, Fault
from deploy.plc.leader import Leader, StationSide
from deploy.plc.memory import Memory

_CYCLE_NS = 20_000_000
_LEADING_CYCLE_NS = 2_000_000
_HEARTBEAT_NS = 50_000_000


class Program:
    """One PLC's program; `leads` says that it triggers the station."""

    def __init__(self, memory: Memory, tally: Tally, *, leads: bool, first_job: int) -> None:
        """Begin without a belt: it comes when the line starts."""
        self._memory = memory
        self._tally = tally
        self._watch = Watch(tally)
        self._leader = Leader() if leads else None
        self._untriggered = 0
        self._job = first_job
        self._belt: Belt | None = None
        self._drive: Drive | None = None
        self._holds: Holds | None = None
        self._next = 0  # part that comes next in front of the cameras
        self._first = 0  # sequence of the belt's first part
        self._outcomes = 0
        self._beats_ns = 0
        self._stop_asked = False
        self._log_file: TextIO | None = None

    async def serve(self) -> None:
        """Begin to answer; raise ConfigurationError where the address cannot be had."""
        await self._memory.serve()

    async def close(self) -> None:
        """Answer no more."""
        await self._memory.close()

    def run_belt(self, belt: Belt, restart_after_s: float, holds: Holds | None, first: int = 0) -> None:
        """Let the line start; parts are numbered from sequence `first` on."""
        self._belt, self._drive, self._holds = belt, Drive(belt, restart_after_s), holds
        self._first = first
        self._next = belt.schedule.latest(time.monotonic_ns()) + 1

    def log_parts(self, file: TextIO) -> None:
        """Write a line for each part at the gate: sequence, what the result said, what the gate did."""
        self._log_file = file

    async def acked_part(self) -> int | None:
        """Return the number of the part that was triggered last, once the station is ready for the next; else None."""
        flags = await self._number(registers.STATION_SIGNALS)
        return await self._number(registers.ACKED_PART) if flags & 1 << _READY.number else None

    def rest_ns(self, now_ns: int) -> int:
        """Return how long the PLC may rest until its next cycle."""
        if self._leader is not None:
            return _LEADING_CYCLE_NS
        next_ns = self._belt.next_gate_ns() if self._belt else None
        return _CYCLE_NS if next_ns is None else max(0, min(_CYCLE_NS, next_ns - now_ns))

    async def switch_on(self, now_ns: int, *, cold: bool) -> None:
        """Begin again after the PLC was off: what reached the gate meanwhile is ejected and was not seen."""
        while self._belt is not None and self._belt.at_gate(now_ns) is not None:
            self._log(self._belt.tally.parts, None, passed=False)
            self._belt.miss()
        if self._belt is not None:
            came = max(self._next, self._belt.schedule.latest(now_ns) + 1)
            self._tally.untriggered += came - self._next if self._leader is not None else 0
            self._next = came
        if cold:
            await self._memory.clear()
            self._outcomes = 0
            if self._belt is not None:
                self._belt.forget()
        self._watch.lost = True

    async def turn(self, faults: frozenset[Fault]) -> None:
        """Do one cycle: the gate first."""
        await self._work_gate(told=Fault.MISS_OUTCOME not in faults)
        now_ns = time.monotonic_ns()
        if self._leader is not None:
            await self._lead(self._leader, now_ns, deaf=Fault.MISS_ACK in faults)
        if now_ns >= self._beats_ns:
            self._beats_ns = now_ns + _CYCLE_NS
            await self._exchange(now_ns, faults)
        await self._look_back(now_ns)

    async def _work_gate(self, *, told: bool) -> None:
        while self._belt and (part := self._belt.at_gate(time.monotonic_ns())) is not None:
            result = await self._result(part)
            outcome = self._belt.move_gate(result, time.monotonic_ns())
            self._log(part, result, passed=outcome is not None and outcome.outcome is GateOutcome.PASSED)
            if outcome is None:
                continue
            self._stop_asked |= result is not None and result.command is GateCommand.STOP
            if not told:
                self._tally.untold += 1
                continue
            words = registers.outcome_words(registers.Outcome(part + self._first, outcome.outcome))
            await self._memory.write(registers.OUTCOMES, words, registers.slot(self._outcomes))
            self._outcomes += 1
            await self._memory.write(registers.OUTCOME_COUNT, registers.words(self._outcomes))

    async def _result(self, part: int) -> Result | None:
        """Return what the ring holds for a part of the belt, if it is of that part."""
        sequence = part + self._first
        found = registers.read_result(await self._memory.read(registers.RESULTS, registers.slot(sequence)))
        return None if found is None or found.sequence != sequence else Result(part, found.command, found.verdict)

    async def _look_back(self, now_ns: int) -> None:
        if self._belt is not None and (part := self._belt.looked_back(now_ns)) is not None:
            self._belt.look_back(part, await self._result(part))

    async def _exchange(self, now_ns: int, faults: frozenset[Fault]) -> None:
        heartbeat, state, line_stop = [
            await self._number(register)
            for register in (registers.STATION_HEARTBEAT, registers.STATION_STATE, registers.LINE_STOP)
        ]
        self._watch.see(heartbeat, state, line_stop, now_ns)
        await self._drive_belt(now_ns, stop=bool(line_stop))
        if self._belt is not None:
            self._job = self._belt.job(now_ns)
        told = {
            registers.REQUESTED_JOB: UNKNOWN_JOB if Fault.UNKNOWN_JOB in faults else self._job,
            registers.HEARTBEAT_LOST: int(self._watch.lost),
            registers.HEARTBEAT_LOSSES: self._tally.heartbeat_losses,
            registers.LINE_STOPPED: int(bool(line_stop) or (self._drive is not None and self._drive.stopped)),
            registers.LINE_STOPS: self._tally.stop_requests,
        }
        if Fault.HEARTBEAT not in faults:
            told[registers.PLC_HEARTBEAT] = now_ns // _HEARTBEAT_NS
        for register, number in told.items():
            await self._memory.write(register, [number % registers.WORD])

    async def _drive_belt(self, now_ns: int, *, stop: bool) -> None:
        stop, self._stop_asked = stop or self._stop_asked, False
        if self._belt is None or self._drive is None or not self._drive.turn(now_ns, stop=stop):
            return
        if self._holds is not None:
            self._holds.write(self._belt.schedule.holds)  # a file in memory

    async def _lead(self, leader: Leader, now_ns: int, *, deaf: bool) -> None:
        due = None
        if self._belt is not None and self._belt.schedule.latest(now_ns) >= self._next:
            due = self._first + self._next + 1
            self._next += 1
        flags = await self._number(registers.STATION_SIGNALS)
        station = StationSide(
            StationSignals(**{bit.name: bool(flags >> bit.number & 1) for bit in _STATION_BITS}),
            await self._number(registers.ACKED_PART),
            await self._number(registers.ERROR_PART),
            registers.read_result(await self._memory.read(registers.RESULT)),
        )
        before = leader.part_number, leader.signals
        leader.turn(station, due, now_ns, deaf=deaf)
        self._tally.untriggered += leader.untriggered - self._untriggered
        self._untriggered = leader.untriggered
        if (leader.part_number, leader.signals) != before or now_ns >= self._beats_ns:
            await self._memory.write(registers.PART_NUMBER, registers.words(leader.part_number))
            shown = sum(getattr(leader.signals, bit.name) << bit.number for bit in _PLC_BITS)
            await self._memory.write(registers.PLC_SIGNALS, [shown])

    async def _number(self, register: Register) -> int:
        words = await self._memory.read(register)
        return words[0] if len(words) == 1 else registers.value(words)

    def _log(self, part: int, result: Result | None, *, passed: bool) -> None:
        if self._log_file is not None:
            said = result.command if result is not None else ""
            self._log_file.write(f"{part + self._first},{said},{'PASSED' if passed else 'EJECTED'}\n")


_STATION_BITS = tuple(bit for bit in registers.BITS if bit.register is registers.STATION_SIGNALS)
_READY = next(bit for bit in registers.BITS if bit.name == "ready")
_PLC_BITS = tuple(bit for bit in registers.BITS if bit.register is registers.PLC_SIGNALS)
