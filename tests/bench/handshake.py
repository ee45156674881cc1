"""How long a PLC that leads waits: trigger to ack, and verdict to results_valid, as its memory sees them.

`python tests/bench/handshake.py [PARTS]`: a Modbus TCP server here stamps what arrives; the link is another process's.
"""

from __future__ import annotations

import asyncio
import select
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from config.messages import GateCommand, Judgement
from decision.gate import StationState
from decision.ledger import Ledger
from decision.link import Link
from decision.news import PartTriggered
from decision.plc import modbus

WRITE = 16  # Modbus function code
SIGNALS, ACK, VALID = 14, 2, 32


def station(port: int, folder: str, judged: object) -> None:
    """Judge each part at once; tell when."""
    link = Link(modbus.Driver(modbus.Options(port=port)), "run", Counter(), ledger=Ledger(Path(folder), "run"))
    link.start()
    link.job_active(1)
    while True:
        select.select([link], [], [], 0.05)
        link.able(StationState.READY)
        for event in link.events():
            if isinstance(event, PartTriggered):
                link.exposed(event.part.sequence)
                judged.put((event.part.sequence, time.monotonic_ns()))  # type: ignore[attr-defined]  # a queue
                expires_ns = time.monotonic_ns() + 1_000_000_000
                link.order(event.part.sequence, "p", GateCommand.PASS, Judgement.PASS, expires_ns)


async def lead(port: int, parts: int) -> tuple[list[float], dict[int, int]]:
    """Trigger part after part; return waits for ack in ms, and when each result became valid."""
    signals, changed, risen = [0], asyncio.Event(), {"ack": 0, "valid": 0}
    results: dict[int, int] = {}

    async def stamp(_code: int, _start: int, address: int, count: int, _cells: object, values: object) -> None:
        if not values or not address <= SIGNALS < address + count:
            return
        words, now_ns = list(values), time.monotonic_ns()  # type: ignore[call-overload]  # of ints
        flags = words[SIGNALS - address]
        if flags & ~signals[0] & ACK:
            risen["ack"] = now_ns
        if flags & ~signals[0] & VALID:
            results[(words[10] << 16 | words[11]) - 1] = now_ns
        signals[0] = flags
        changed.set()

    cells = SimData(0, count=3100, values=0, datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(0, simdata=[cells], action=stamp), address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    beat, waits_ms = 0, []

    async def show(number: int, flags: int) -> None:
        nonlocal beat
        beat += 1
        await server.async_setValues(0, WRITE, 17, [beat % 65536, 1, 0, 0, 0, number, flags])

    async def until(bit: int, *, on: bool, number: int, flags: int) -> None:
        while bool(signals[0] & bit) is not on:
            changed.clear()
            try:
                await asyncio.wait_for(changed.wait(), 0.05)
            except TimeoutError:
                await show(number, flags)

    for number in range(1, parts + 1):
        await until(1, on=True, number=number - 1, flags=1)
        await asyncio.sleep(0.0001 * (number * 37 % 100))  # anywhere between two polls
        began_ns = time.monotonic_ns()
        await show(number, 0b011)
        await until(ACK, on=True, number=number, flags=0b011)
        waits_ms.append((risen["ack"] - began_ns) / 1e6)
        await show(number, 0b001)
        await until(VALID, on=True, number=number, flags=0b001)
        await show(number, 0b101)
        await until(VALID, on=False, number=number, flags=0b101)
        await show(number, 0b001)
    await server.shutdown()
    return waits_ms, results


def main() -> None:
    parts = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    context = get_context("spawn")
    judged = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=station, args=(port, folder, judged))
        process.start()
        try:
            acks_ms, results = asyncio.run(lead(port, parts))
        finally:
            process.kill()
            process.join()
    shows_ms = []
    while len(shows_ms) < parts:
        sequence, judged_ns = judged.get(timeout=1)
        shows_ms.append((results[sequence] - judged_ns) / 1e6)
    for name, waits_ms in (("trigger to ack", acks_ms), ("verdict to results_valid", shows_ms)):
        cuts = statistics.quantiles(waits_ms, n=1000)
        found = f"p50 {cuts[499]:.2f} ms, p99 {cuts[989]:.2f} ms, max {max(waits_ms):.2f} ms"
        sys.stdout.write(f"{name}: {found}, {parts} parts\n")


if __name__ == "__main__":
    main()
