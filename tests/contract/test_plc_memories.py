"""What every memory of the PLC simulator must do for the driver of its protocol, through the cable that can be cut."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Self, TypeVar

import pytest

import deploy.plc.memories
from config import plugins
from config.errors import ConfigurationError, DeviceError
from config.messages import GateCommand, GateOutcome, Judgement
from decision import registers
from decision.gate import Driver, StationOutputs, StationState
from decision.registers import Outcome, Result
from deploy.plc.memory import Memory, Protocols
from deploy.plc.relay import Relay

KINDS = plugins.names(deploy.plc.memories.__name__)
Answer = TypeVar("Answer")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Plc:
    """A memory, the cable to it, and the driver at its other end."""

    def __init__(self, kind: str) -> None:
        plug_in, port, inner = plugins.load("decision.plc", kind), free_port(), free_port()
        given = {"url": f"opc.tcp://127.0.0.1:{port}"} if kind == "opcua" else {"port": port}
        options = plugins.options(plug_in, given, "plc.options")
        assert Protocols.address(kind, options) == ("127.0.0.1", port)
        self.memory: Memory = Protocols.memory(kind, options, "127.0.0.1", inner)
        self.relay = Relay("127.0.0.1", port, ("127.0.0.1", inner))
        self.driver: Driver = plug_in.Driver(options)

    async def __aenter__(self) -> Self:
        await self.relay.open()
        await self.memory.serve()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ask(self.driver.close)
        self.relay.shut()
        await self.memory.close()

    async def ask(self, call: Callable[..., Answer], *given: object) -> Answer:
        """Let the driver do something, in a thread as the link does."""
        return await asyncio.to_thread(call, *given)


@pytest.fixture(params=KINDS)
def plc(request) -> Callable[[], Plc]:
    return lambda: Plc(request.param)


def test_there_is_a_memory_for_every_driver() -> None:
    assert plugins.names("decision.plc") == KINDS
    with pytest.raises(ConfigurationError, match=r"plc.type 'telegraph'.*modbus"):
        Protocols.check("telegraph")


def test_what_the_station_writes_the_program_reads_and_the_other_way_round(plc) -> None:
    outputs = StationOutputs(7, StationState.READY, active_job=3, line_stop=True, run=0x1234_5678)

    async def talk() -> None:
        async with plc() as one:
            await one.ask(one.driver.open)
            await one.ask(one.driver.write_outputs, outputs)
            assert await one.memory.read(registers.STATION_HEARTBEAT) == [7]
            assert await one.memory.read(registers.RUN) == [0x1234, 0x5678]
            results = [Result(part, GateCommand.PASS, Judgement.PASS) for part in range(250, 262)]
            await one.ask(one.driver.write_results, results)
            for result in results:
                slot = registers.slot(result.sequence)
                assert registers.read_result(await one.memory.read(registers.RESULTS, slot)) == result
            outcome = Outcome(250, GateOutcome.PASSED)
            await one.memory.write(registers.OUTCOMES, registers.outcome_words(outcome), slot=2)
            await one.memory.write(registers.OUTCOME_COUNT, registers.words(3))
            await one.memory.write(registers.REQUESTED_JOB, [9])
            inputs = await one.ask(one.driver.read_inputs)
            assert (inputs.run, inputs.requested_job, inputs.outcome_count) == (0x1234_5678, 9, 3)
            assert await one.ask(one.driver.read_outcomes, 1, 3) == [None, None, outcome]

    asyncio.run(talk())


def test_a_cold_start_leaves_nothing(plc) -> None:
    async def talk() -> None:
        async with plc() as one:
            for register in registers.TABLE:
                await one.memory.write(register, [1] * register.words, register.slots - 1)
            await one.memory.clear()
            for register in registers.TABLE:
                assert await one.memory.read(register, register.slots - 1) == [0] * register.words

    asyncio.run(talk())


def test_a_cable_that_is_cut_deaf_or_slow_is_told_and_a_whole_one_serves_again(plc) -> None:
    async def talk() -> None:
        async with plc() as one:
            await one.ask(one.driver.open)
            one.relay.shut()
            with pytest.raises(DeviceError):
                await one.ask(one.driver.read_inputs)
            await one.ask(one.driver.close)
            with pytest.raises(DeviceError):
                await one.ask(one.driver.open)
            await one.relay.open()
            await one.ask(one.driver.open)
            one.relay.late_s = 0.1
            began_s = time.monotonic()
            await one.ask(one.driver.read_inputs)
            assert time.monotonic() - began_s >= 0.1
            one.relay.late_s = 0.0
            one.relay.deaf = True
            with pytest.raises(DeviceError):
                await one.ask(one.driver.read_inputs)
            await one.ask(one.driver.close)
            one.relay.cut()
            one.relay.deaf = False
            await one.ask(one.driver.open)
            assert (await one.ask(one.driver.read_inputs)).run == 0

    asyncio.run(talk())


def test_an_address_that_is_taken_is_a_configuration_error() -> None:
    async def talk(port: int) -> None:
        await Relay("127.0.0.1", port, ("127.0.0.1", 1)).open()

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match=r"plc.options.port"):
        asyncio.run(talk(taken.getsockname()[1]))
