"""Round trips of PLC drivers: `PYTHONPATH=.:tests python tests/bench/plc.py [WRITES]`, a table.

One result is written by the driver, then the same words by the bare library, in turns: the machine's noise falls on
both. The PLC is a server of another make, in a process of its own, on the loopback: no network and no PLC's cycle is in
these figures, only what the driver adds.
"""

from __future__ import annotations

import multiprocessing
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection

from plc_peers import CmEthernetip, Libmodbus, Peer, Snap7
from pycomm3 import LogixDriver
from pymodbus.client import ModbusTcpClient
from snap7.client import Client

from config import plugins
from config.messages import GateCommand, Judgement
from decision import registers
from decision.gate import Driver
from decision.registers import Result

Write = Callable[[int, list[int]], object]


@contextmanager
def modbus(port: int) -> Iterator[Write]:
    with ModbusTcpClient("127.0.0.1", port=port) as client:
        yield client.write_registers


@contextmanager
def s7(port: int) -> Iterator[Write]:
    with Client() as client:
        client.connect("127.0.0.1", 0, 1, port)
        yield lambda address, words: client.db_write(7, 2 * address, bytearray(struct.pack(f">{len(words)}H", *words)))


@contextmanager
def ethernetip(port: int) -> Iterator[Write]:
    with LogixDriver(f"127.0.0.1:{port}/0") as client:
        yield lambda address, words: client.write((f"Andon[{address}]{{{len(words)}}}", words))


PAIRS: dict[str, tuple[type[Peer], Callable[[int], AbstractContextManager[Write]]]] = {
    "modbus": (Libmodbus, modbus),
    "s7": (Snap7, s7),
    "ethernetip": (CmEthernetip, ethernetip),
}


@contextmanager
def served(kind: type[Peer]) -> Iterator[dict[str, object]]:
    """Have a PLC in a process of its own; give the driver's options."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(kind, theirs))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


def serve(kind: type[Peer], pipe: Connection) -> None:
    peer = kind()
    peer.start()
    pipe.send(peer.options)
    pipe.recv()
    peer.stop()


def taken_ms(write: Callable[[], object]) -> float:
    began = time.perf_counter()
    write()
    return (time.perf_counter() - began) * 1000


def measure(name: str, writes: int) -> list[list[float]]:
    """Return round trips in ms: of the driver, and of the bare library."""
    kind, bare = PAIRS[name]
    # libmodbus serves one connection: the library has a server of the same kind for itself
    with served(kind) as options, served(kind) as others, bare(int(str(others["port"]))) as write:
        module = plugins.load("decision.plc", name)
        driver: Driver = module.Driver(plugins.options(module, options, "plc.options"))
        driver.open()
        times_ms: list[list[float]] = [[], []]
        for number in range(writes):
            result = Result(number, GateCommand.PASS, Judgement.PASS)
            address = registers.RESULTS.address + registers.slot(number) * registers.RESULTS.words
            words = registers.result_words(result)
            times_ms[0].append(taken_ms(lambda result=result: driver.write_results([result])))
            times_ms[1].append(taken_ms(lambda address=address, words=words: write(address, words)))
        driver.close()
    return times_ms


def main(writes: int) -> None:
    sys.stdout.write(f"{'one result, ms p50 / p99':<26}{'driver':>18}{'library alone':>18}\n")
    for name in PAIRS:
        cuts = [statistics.quantiles(times_ms[writes // 20 :], n=100) for times_ms in measure(name, writes)]
        cells = (f"{cut[49]:.3f} / {cut[98]:.3f}" for cut in cuts)
        sys.stdout.write(f"{name:<26}" + "".join(f"{cell:>18}" for cell in cells) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
