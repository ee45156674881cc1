"""A PLC that leads, as its programmer would write it from the manual: addresses and bits are written out here again.

Its memory is a Modbus TCP server of pymodbus in a thread of this process; its program runs one cycle every 2 ms.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

CYCLE_S = 0.002
READ, WRITE = 3, 16  # Modbus function codes
READY, ACK, EXPOSURE_COMPLETE, BUSY, COMPLETED, VALID, OVERRUN, ERROR = (1 << bit for bit in range(8))
ENABLE, TRIGGER, RESULTS_ACK, ERROR_RESET = (1 << bit for bit in range(4))
RESULTS = 100


@dataclass(frozen=True)
class Result:
    part: int
    command: int
    verdict: int


MISSED = Result(0, 0, 0)  # the ring's slot of a part that was judged when it should have been at the gate already


@dataclass
class Program:
    """What the PLC's program remembers; a cold start forgets all of it."""

    number: int = 0
    trigger: bool = False
    since_s: float = 0.0
    results_ack: bool = False
    heartbeat: int = 0
    acked: dict[int, float] = field(default_factory=dict)  # number -> seconds from trigger to ack, as it saw them
    exposed_s: dict[int, float] = field(default_factory=dict)  # from trigger to exposure_complete
    refused: dict[int, int] = field(default_factory=dict)  # number -> error code; 0: nothing came in time
    results: list[Result] = field(default_factory=list)
    torn: list[Result] = field(default_factory=list)  # results that differ from the ring's


class LeadingPlc:
    """The PLC: memory, program, and what the program has seen."""

    def __init__(self, port: int, job: int, *, patience_s: float = 1.0) -> None:
        self.wants = 0  # parts still to be triggered
        self.job = job
        self.frozen = False  # its memory answers, its program stands still
        self.program = Program()
        self.former: list[Program] = []
        self.words = [0] * 17  # the station's, as the last cycle saw them
        self.patience_s = patience_s
        self._port = port
        self._cold = False
        self._stop = threading.Event()
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(5)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def start_cold(self) -> None:
        """Switch off and on: registers and program are as new."""
        self._cold = True
        self.wait(lambda: not self._cold)

    def wait(self, until: Callable[[], bool], within_s: float = 10.0) -> float:
        """Wait for something; return how many seconds it took."""
        began = time.monotonic()
        while not until():
            assert self._thread.is_alive(), self._failure
            assert time.monotonic() - began < within_s, (self.words, self.program)
            time.sleep(0.005)
        return time.monotonic() - began

    def on(self, bit: int) -> bool:
        return bool(self.words[14] & bit)

    @property
    def acked_part(self) -> int:
        return self.words[5] << 16 | self.words[6]

    def all_handed_over(self) -> bool:
        program = self.program
        done = {result.part for result in program.results}
        return not self.wants and not program.trigger and set(program.acked) <= done

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 - a thread's outermost edge: stop() raises it again
            self._failure = error

    async def _live(self) -> None:
        cells = SimData(0, count=3100, values=0, datatype=DataType.REGISTERS)
        server = ModbusTcpServer(SimDevice(0, simdata=[cells]), address=("127.0.0.1", self._port))
        await server.serve_forever(background=True)
        self._up.set()
        while not self._stop.is_set():
            if self.frozen:
                await asyncio.sleep(CYCLE_S)
                continue
            if self._cold:
                await server.async_setValues(0, WRITE, 0, [0] * 3100)
                self.former.append(self.program)
                self.program, self.words, self._cold = Program(), [0] * 17, False
            self.words = list(await server.async_getValues(0, READ, 0, 17))
            before = len(self.program.results)
            inputs = self._cycle()
            for result in self.program.results[before:]:
                slot = RESULTS + (result.part - 1) % 256 * 4
                high, low, command, verdict = await server.async_getValues(0, READ, slot, 4)
                if Result(high << 16 | low, command, verdict) not in {result, MISSED}:
                    self.program.torn.append(result)
            await server.async_setValues(0, WRITE, 17, inputs)
            await asyncio.sleep(CYCLE_S)
        await server.shutdown()

    def _cycle(self) -> list[int]:
        words, program, now_s = self.words, self.program, time.monotonic()
        flags, run = words[14], words[15] << 16 | words[16]
        program.heartbeat = int(now_s / 0.05) % 65536
        error_part = words[8] << 16 | words[9]
        reset = False
        if run:
            if program.trigger:
                if flags & ACK and self.acked_part == program.number:
                    program.acked[program.number] = now_s - program.since_s
                    program.trigger = False
                elif flags & OVERRUN and error_part == program.number:
                    program.refused[program.number] = words[7]
                    program.trigger = False
                elif now_s - program.since_s > self.patience_s:
                    program.refused[program.number] = 0
                    program.trigger = False
            elif self.wants and flags & READY and not flags & ACK:
                program.number = max(program.number, self.acked_part) + 1
                program.trigger, program.since_s = True, now_s
                self.wants -= 1
            if flags & EXPOSURE_COMPLETE and self.acked_part in program.acked:
                program.exposed_s.setdefault(self.acked_part, now_s - program.since_s)
            reset = bool(flags & (ERROR | OVERRUN)) and not program.trigger
            if flags & VALID and not program.results_ack:
                program.results.append(Result(words[10] << 16 | words[11], words[12], words[13]))
            program.results_ack = bool(flags & VALID)
        out = ENABLE | TRIGGER * program.trigger | RESULTS_ACK * program.results_ack | ERROR_RESET * reset
        number = program.number
        return [program.heartbeat, self.job, 0, 0, number >> 16, number & 0xFFFF, out]
