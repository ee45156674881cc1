"""A station that drives its own gates, in simulation: its coupler, and the belt that is behind it."""

from __future__ import annotations

import time
from typing import TextIO

from config import plugins
from config.errors import ConfigurationError
from config.holds import Holds
from config.home import Home
from decision.io import modbus
from deploy.plc.belt import Drive, Tally
from deploy.plc.faults import Fault
from deploy.plc.line import Line, truth_of
from deploy.plc.remote_io import RemoteIo
from deploy.plc.track import Track

_CYCLE_NS = 1_000_000


class Coupler:
    """The coupler's cycles: the belt moves on, and stands where the station's line-stop output is on."""

    def __init__(self, io: RemoteIo, track: Track, line_stop_output: int | None) -> None:
        """Begin with a belt that stands."""
        self._io = io
        self._track = track
        self._line_stop_output = line_stop_output
        self._drive: Drive | None = None
        self._holds: Holds | None = None

    async def serve(self) -> None:
        """Begin to answer."""
        await self._io.serve()

    async def close(self) -> None:
        """Answer no more."""
        await self._io.close()

    def run_belt(self, drive: Drive, holds: Holds) -> None:
        """Let the belt be stopped; `holds` tell the cameras of it."""
        self._drive, self._holds = drive, holds

    def log_parts(self, file: TextIO) -> None:
        """Write a line for each part at the gate: sequence, nothing, what the gate did."""
        self._track.log = file

    def rest_ns(self, _now_ns: int) -> int:
        """Return how long the coupler may rest until its next cycle."""
        return _CYCLE_NS

    async def switch_on(self, now_ns: int, *, cold: bool) -> None:
        """Begin again after the coupler was off: every gate was at rest meanwhile."""
        self._io.switch_off()
        self._io.turn(now_ns)
        if cold:
            self._track.reset()

    async def turn(self, _faults: frozenset[Fault]) -> None:
        """Do one cycle."""
        now_ns = time.monotonic_ns()
        self._io.turn(now_ns)
        if self._drive is None or self._holds is None or self._line_stop_output is None:
            return
        if self._drive.turn(now_ns, stop=self._io.output(self._line_stop_output)):
            self._holds.write(self._track.schedule.holds)


class CoupledLine(Line):
    """The simulated line of a station whose gates are its own."""

    def __init__(self, home: Home) -> None:
        """Read the station; raise ConfigurationError where its line is real, or its coupler cannot be played."""
        station = home.read_station()
        if station.simulation is None:
            raise ConfigurationError("simulation: the station file has no such table: its line and its gates are real")
        if station.io is None or station.io.type != "modbus":
            kind = station.io.type if station.io else None
            raise ConfigurationError(f"io.type {kind!r}: the simulator plays couplers of type modbus only")
        super().__init__(home, station.simulation, home.read_run().run_id, station.io.type)
        self._home = home
        self._io = station.io
        options = plugins.options(plugins.load("decision.io", "modbus"), station.io.options, "io: options")
        assert isinstance(options, modbus.Options)  # noqa: S101 - they were validated by that file
        self._options = options
        self._track = Track(station, station.simulation, tuple(counter.bits for counter in options.counters))
        self._truth = truth_of(home, station)

    def address(self) -> tuple[str, int]:
        """Return where the station looks for its coupler."""
        return self._options.host, self._options.port

    def machine(self, host: str, port: int, _tally: Tally) -> Coupler:
        """Return the coupler, to be served there."""
        io = RemoteIo(self._track, self._options, self._io.watchdog_ms, host, port)
        self._coupler = Coupler(io, self._track, self._io.line_stop_output)
        return self._coupler

    async def start(self, tally: Tally) -> int | None:
        """Start when the station has started its line."""
        schedule = self._home.schedule()
        if schedule is None:
            return None
        self._track.begin(schedule, tally, self._truth, time.monotonic_ns())
        self._coupler.run_belt(Drive(self._track, self.simulation.restart_after_s), self._home.holds())
        return schedule.start_ns


def is_coupled(home: Home) -> bool:
    """Tell whether it is a coupler that the station in a state folder needs, and no PLC."""
    station = home.read_station()
    return station.plc is None and bool(station.gates)
