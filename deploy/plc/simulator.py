"""The process: memory, belt and program of the PLC; what it saw stands in home/plc.json."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import cast

from config import files, log, plugins
from config.errors import AndonError, ConfigurationError
from config.home import Home
from config.log import Condition
from config.service import notify
from config.station import SimulationSection, Station
from decision import registers
from decision.plc import modbus
from deploy.plc.belt import Belt, Tally, Watch
from deploy.plc.memories.modbus import Memory

_TICK_NS = 20_000_000
_HEARTBEAT_NS = 50_000_000
_KEEP_S = 0.1
_PRIORITY = 20


class Simulator:
    """The program that the PLC runs."""

    def __init__(self, where: Home) -> None:
        """Read the station; raise ConfigurationError where it has no simulated line or another kind of PLC."""
        self._home = where
        station = where.read_station()
        if station.plc is None or station.plc.type != "modbus":
            named = station.plc.type if station.plc else None
            raise ConfigurationError(f"plc.type {named!r}: the PLC simulator speaks 'modbus' only")
        self._options = cast("modbus.Options", plugins.options(modbus, station.plc.options, "plc.options"))
        self._simulation = _simulation(station)
        self._jobs = {name: recipe.job for name, recipe in station.read_recipes().items()}
        self._file = where.path / "plc.json"
        self._tally = _read_tally(self._file, where.read_run().run_id)
        self._kept = b""
        self._watch = Watch(self._tally)
        self._belt: Belt | None = None
        self._outcomes = 0
        self._stopping = asyncio.Event()
        self._unkept = Condition("tally_unwritten", Counter())

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        _be_punctual()
        memory = Memory(self._options.host, self._options.port)
        await memory.serve()
        await memory.write(registers.REQUESTED_JOB, [self._jobs[self._simulation.products[0]]])
        notify("READY=1")
        log.logger().info("ready", host=self._options.host, port=self._options.port)
        keeping = asyncio.create_task(self._keep())
        while not (self._stopping.is_set() or keeping.done()):
            await self._work_gate(memory)
            await self._exchange(memory)
            await asyncio.sleep(self._rest_ns() / 1e9)
        await keeping
        await memory.close()

    def _rest_ns(self) -> int:
        next_ns = self._belt.next_gate_ns() if self._belt else None
        return _TICK_NS if next_ns is None else max(0, min(_TICK_NS, next_ns - time.monotonic_ns()))

    async def _work_gate(self, memory: Memory) -> None:
        while self._belt and (sequence := self._belt.at_gate(time.monotonic_ns())) is not None:
            result = registers.read_result(await memory.read(registers.RESULTS, registers.slot(sequence)))
            outcome = self._belt.move_gate(result, time.monotonic_ns())
            if outcome is None:
                continue
            await memory.write(registers.OUTCOMES, registers.outcome_words(outcome), registers.slot(self._outcomes))
            self._outcomes += 1
            await memory.write(registers.OUTCOME_COUNT, registers.words(self._outcomes))

    async def _exchange(self, memory: Memory) -> None:
        now_ns = time.monotonic_ns()
        station = (registers.STATION_HEARTBEAT, registers.STATION_STATE, registers.LINE_STOP)
        heartbeat, state, line_stop = [(await memory.read(register))[0] for register in station]
        self._watch.see(heartbeat, state, line_stop, now_ns)
        told = {
            registers.PLC_HEARTBEAT: now_ns // _HEARTBEAT_NS,
            registers.HEARTBEAT_LOST: int(self._watch.lost),
            registers.HEARTBEAT_LOSSES: self._tally.heartbeat_losses,
            registers.LINE_STOPPED: int(self._tally.stop_requests > 0),
            registers.LINE_STOPS: self._tally.stop_requests,
        }
        if self._belt:
            told[registers.REQUESTED_JOB] = self._belt.job(now_ns)
        for register, number in told.items():
            await memory.write(register, [number % registers.WORD])

    async def _keep(self) -> None:
        """Do what may wait: look for the start of the line, write the tally (its fsync in another thread)."""
        while not self._stopping.is_set():
            if self._belt is None and (schedule := self._home.schedule()):
                self._belt = Belt(schedule, self._jobs, self._tally)
            await self._write_tally()
            notify("WATCHDOG=1")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _KEEP_S)
        await self._write_tally()

    async def _write_tally(self) -> None:
        content = self._tally.model_dump_json(indent=2).encode()
        if content == self._kept:
            return
        try:
            await asyncio.to_thread(files.write, self._file, content)
        except OSError as error:  # a PLC goes on without a disk
            self._unkept.occur(error=str(error))
        else:
            self._unkept.end()
            self._kept = content


def _be_punctual() -> None:
    """Run before other work, as a PLC's own hardware would; where that is not allowed, gate moments may come late."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    except (AttributeError, OSError) as error:
        log.logger().info("no real-time scheduling for the PLC simulator", reason=str(error))


def _simulation(station: Station) -> SimulationSection:
    simulation = station.simulation
    if simulation is None:
        raise ConfigurationError("simulation: the station file has no such table: its line and its PLC are real ones")
    under_way = math.ceil(simulation.rate_per_s * simulation.gate_travel_s)
    if under_way >= registers.SLOTS:
        raise ConfigurationError(
            f"simulation: {under_way} parts (rate_per_s x gate_travel_s) between cameras and gate: the PLC can tell "
            f"{registers.SLOTS - 1} apart; lower gate_travel_s"
        )
    return simulation


def _read_tally(path: Path, run_id: str) -> Tally:
    """Return the tally that an earlier process of this run left, or a new one."""
    if path.exists() and (tally := files.read(path, Tally)).run_id == run_id:
        return tally
    return Tally(run_id=run_id)


def run(where: Home) -> int:
    """Run the PLC of the station in `where` until SIGTERM or SIGINT; return the process's exit code."""
    try:
        asyncio.run(Simulator(where).run())
    except AndonError as error:
        log.logger().error(str(error), error=type(error).__name__)
        return error.exit_code
    return 0
