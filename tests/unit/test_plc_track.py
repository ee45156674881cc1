"""The belt behind a simulated coupler, and the coupler's answers, on a clock of their own."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest
from coupler_peers import free_port

from config.errors import ConfigurationError
from config.schedule import Schedule
from config.station import SimulationSection, Station
from decision.io.modbus import Driver, Options
from deploy.plc.belt import Tally
from deploy.plc.remote_io import RemoteIo
from deploy.plc.track import Track

MS = 1_000_000
GATE = {
    "name": "reject",
    "output": 0,
    "distance_mm": 400,
    "window_mm": 40,
    "part": {"input": 1, "distance_mm": 300, "tolerance_mm": 15},
    "ejected": {"counter": 1, "after_ms": 60, "tolerance_ms": 60},
}


def station(simulation: dict[str, object], **others: object) -> Station:
    tables = {
        "station": "s",
        "recipes": {"r": Path("r.toml")},
        "recipe": "r",
        "cameras": [{"name": "top", "type": "simulated"}],
        "io": {"type": "modbus"},
        "encoder": {"mm_per_count": 0.5, "top_speed_mm_s": 500},
        "gates": [GATE],
        "simulation": {"products": ["r"], "rate_per_s": 5, "gate_travel_s": 1, **simulation},
        **others,
    }
    return Station.model_validate(tables)


def track_of(one: Station) -> Track:
    assert one.simulation is not None
    return Track(one, one.simulation, (16, 32))


def test_parts_pass_sensors_and_gates_where_the_station_has_them() -> None:
    one = station({})
    track = track_of(one)
    track.move(50 * MS)  # stands: the line has not started
    assert track.count(0) == 0
    assert isinstance(one.simulation, SimulationSection)
    track.begin(Schedule(one.simulation, 200 * MS, 3), Tally(run_id="r"), None, 100 * MS)
    seen: list[int] = []
    for now_ms in range(100, 3000):
        track.outputs = (1180 < now_ms < 1220,)  # open for the first part, which is at the gate at 1200
        before = track.input(1, now_ms * MS)
        track.move(now_ms * MS)
        seen += [now_ms] if track.input(1, now_ms * MS) and not before else []
        if now_ms == 1200:
            assert track.count(0) == 2 * 440, "40 mm until the line starts, and 400"
    assert seen == [950, 1150, 1350]
    assert (track.tally.passed, track.tally.ejected, track.count(1)) == (1, 2, 2)
    track.reset()
    assert (track.count(0), track.count(1)) == (0, 0)


def test_tables_that_do_not_agree_on_the_belts_speed_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"would run at 800 mm/s .* allows 0\.80 s or more"):
        track_of(station({"gate_travel_s": 0.5}))
    with pytest.raises(ConfigurationError, match=r"a \[belt\] has one speed"):
        track_of(station({"slowest_speed": 0.5}, encoder=None, belt={"speed_mm_s": 400}))


def test_the_simulated_coupler_answers_its_driver_and_refuses_what_it_does_not_have() -> None:
    counters = [{"address": 4, "bits": 16}, {"address": 8, "low_word_first": True}]
    options = {
        "outputs": 3,
        "output_address": 2,
        "inputs": 4,
        "counters": counters,
        "watchdog": {"address": 1, "value": 9},
    }
    track, port = track_of(station({})), free_port()

    def drive() -> None:
        driver = Driver(Options.model_validate({**options, "port": port}))
        driver.open()
        driver.write([True, False, True])
        read = driver.read()
        assert (read.bits, read.counts) == ((False,) * 4, (0, 0))
        driver.close()
        with socket.create_connection(("127.0.0.1", port)) as end:
            for request, answer in (
                (struct.pack(">BHH", 1, 2, 3), bytes([1, 1, 0b101])),
                (struct.pack(">BHH", 1, 2, 4), bytes([0x81, 2])),
                (struct.pack(">BHHBB", 15, 4, 2, 1, 3), bytes([0x8F, 2])),
                (struct.pack(">BHH", 43, 0, 0), bytes([0xAB, 1])),
            ):
                end.sendall(struct.pack(">HHHB", 7, 0, len(request) + 1, 1) + request)
                assert end.recv(100) == struct.pack(">HHHB", 7, 0, len(answer) + 1, 1) + answer

    async def both() -> None:
        io = RemoteIo(track, Options.model_validate(options), 100, "127.0.0.1", port)
        await io.serve()
        await asyncio.to_thread(drive)
        assert io.output(0)
        io.turn(1 << 62)
        assert not io.output(0), "nobody has written for long"
        await io.close()

    asyncio.run(both())
