"""The process: a PLC or a coupler behind a cable, its cycles, its faults; what it saw stands in home/plc.json."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from config import files, log
from config.errors import ConfigurationError
from config.log import Condition
from config.service import notify
from deploy.plc.belt import Tally
from deploy.plc.faults import Fault, Faults, Planned
from deploy.plc.line import Line, Machine
from deploy.plc.relay import Relay

_KEEP_S = 0.1
_PRIORITY = 20
_LATE_S = 0.15
_OFF = (Fault.RESTART, Fault.COLD_RESTART)


class Simulator:
    """One PLC or coupler, at one line."""

    def __init__(self, line: Line, planned: Sequence[Planned] = ()) -> None:
        """Stand at a line; `planned` faults come by themselves."""
        self._line = line
        self._planned = planned
        self._faults = Faults()
        self._tally = line.read_tally()
        self._kept = b""
        self._running = False
        self._stopping = asyncio.Event()
        self._unkept = Condition("tally_unwritten", Counter())

    async def run(self) -> Tally:
        """Serve until SIGTERM or SIGINT, or until an own line's last part; return what was seen."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        _be_punctual()
        line = self._line
        host, port = line.address()
        machine = line.machine("127.0.0.1", inner := _free_port(), self._tally)
        relay = Relay(host, port, ("127.0.0.1", inner))
        await relay.open()
        await machine.serve()
        control = await self._listen()
        with line.parts_log() as parts_log:
            if parts_log is not None:
                machine.log_parts(parts_log)
            notify("READY=1")
            log.logger().info("ready", protocol=line.protocol, host=host, port=port)
            keeping = asyncio.create_task(self._keep(parts_log))
            await self._work(machine, relay, keeping)
            await keeping
        relay.shut()
        control.close()
        line.control.unlink(missing_ok=True)
        await machine.close()
        return self._tally

    async def _work(self, machine: Machine, relay: Relay, keeping: asyncio.Task[None]) -> None:
        """Run the program's cycles, and let the faults do what they do."""
        before: frozenset[Fault] = frozenset()
        while not (self._stopping.is_set() or keeping.done()):
            now_ns = time.monotonic_ns()
            on = self._faults.on(now_ns)
            if on != before:
                await self._change(machine, relay, before, on)
                before = on
            if not on.intersection(_OFF):
                await machine.turn(on)
            await asyncio.sleep(machine.rest_ns(time.monotonic_ns()) / 1e9)

    async def _change(self, machine: Machine, relay: Relay, before: frozenset[Fault], on: frozenset[Fault]) -> None:
        for fault in sorted(on - before):
            log.logger().warning("fault began", fault=fault)
        for fault in sorted(before - on):
            log.logger().info("fault ended", fault=fault)
        if before.intersection(_OFF) and not on.intersection(_OFF):
            await machine.switch_on(time.monotonic_ns(), cold=Fault.COLD_RESTART in before)
        relay.late_s = _LATE_S if Fault.LATE in on else 0.0
        deaf = Fault.FREEZE in on
        if relay.deaf and not deaf:
            relay.cut()  # what was swallowed will not come any more
        relay.deaf = deaf
        if on.intersection((Fault.DROP, *_OFF)):
            relay.shut()
        else:
            await relay.open()

    async def _keep(self, parts_log: TextIO | None) -> None:
        """Do what may wait: look for the start of the line, write the tally (its fsync in another thread)."""
        while not self._stopping.is_set():
            if not self._running and (start_ns := await self._line.start(self._tally)) is not None:
                self._running = True
                self._faults.plan(self._planned, start_ns)
            await self._write_tally()
            if parts_log is not None:
                parts_log.flush()
            notify("WATCHDOG=1")
            if self._line.over(self._tally):
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _KEEP_S)
        await self._write_tally()

    async def _write_tally(self) -> None:
        content = self._tally.model_dump_json(indent=2).encode()
        if content == self._kept:
            return
        try:
            await asyncio.to_thread(files.write, self._line.tally_file, content)
        except OSError as error:  # a PLC goes on without a disk
            self._unkept.occur(error=str(error))
        else:
            self._unkept.end()
            self._kept = content

    async def _listen(self) -> asyncio.Server:
        """Take commands; raise ConfigurationError where another simulator does."""
        path = self._line.control
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            raise ConfigurationError(f"{path}: a PLC simulator runs here already; name another --home")
        path.unlink(missing_ok=True)
        return await asyncio.start_unix_server(self._obey, str(path))

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            order = json.loads(await reader.readline())
            fault, for_s = Fault(order["fault"]), float(order["for_s"])
        except (ValueError, KeyError, TypeError) as error:
            answer = {"refused": f"expected fault and for_s: {error}"}
        else:
            self._faults.begin(fault, for_s, time.monotonic_ns())
            answer = {"began": fault}
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()


def command(control: Path, fault: Fault, for_s: float) -> None:
    """Let a fault begin at the simulator behind `control`; raise ConfigurationError where there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.settimeout(5)
            end.connect(str(control))
            end.sendall(json.dumps({"fault": fault, "for_s": for_s}).encode() + b"\n")
            answer = json.loads(end.makefile().readline() or "{}")
    except OSError as error:
        raise ConfigurationError(f"{control}: no PLC simulator runs here: {error.strerror}; name its --home") from error
    if "began" not in answer:
        raise ConfigurationError(f"{control}: {answer.get('refused', 'the simulator gave no answer')}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _be_punctual() -> None:
    """Run before other work, as a PLC's own hardware would; where that is not allowed, gate moments may come late."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    except (AttributeError, OSError) as error:
        log.logger().info("no real-time scheduling for the PLC simulator", reason=str(error))


def run(line: Line, planned: Sequence[Planned] = ()) -> Tally:
    """Run a PLC at a line until it is told to end; return what it saw."""
    return asyncio.run(_run(line, planned))


async def _run(line: Line, planned: Sequence[Planned]) -> Tally:
    return await Simulator(line, planned).run()
