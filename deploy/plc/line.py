"""The line that the simulated PLC stands at: that of a simulated station, or one of its own for a real station."""

from __future__ import annotations

import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

from pydantic import BaseModel

from config import files, plugins
from config.errors import ConfigurationError
from config.home import Home
from config.messages import Truth
from config.schedule import Schedule
from config.station import PlcSection, SimulationSection, Station
from decision import registers
from deploy.plc.belt import Belt, Tally
from deploy.plc.faults import Fault
from deploy.plc.memory import Protocols
from deploy.plc.program import Program
from ingest.camera import TriggerLine

_START_IN_NS = 200_000_000


class Machine(Protocol):
    """What is simulated: a PLC with its program, or a coupler with its belt."""

    async def serve(self) -> None:
        """Begin to answer; raise ConfigurationError where the address cannot be had."""

    async def close(self) -> None:
        """Answer no more."""

    def log_parts(self, file: TextIO) -> None:
        """Write a line for each part at the gate."""

    def rest_ns(self, now_ns: int) -> int:
        """Return how long it may rest until its next cycle."""

    async def switch_on(self, now_ns: int, *, cold: bool) -> None:
        """Begin again after it was off."""

    async def turn(self, faults: frozenset[Fault]) -> None:
        """Do one cycle."""


class Line(ABC):
    """What is spoken to and how, and which parts come."""

    def __init__(self, home: Home, simulation: SimulationSection, run_id: str, protocol: str) -> None:
        """Name the files of a run in a state folder."""
        self.protocol = protocol
        self.tally_file = home.path / "plc.json"
        self.control = home.runtime / "plc.sock"
        self.run_id = run_id
        self.simulation = simulation

    @abstractmethod
    def address(self) -> tuple[str, int]:
        """Return where the station looks for what is simulated."""

    @abstractmethod
    def machine(self, host: str, port: int, tally: Tally) -> Machine:
        """Return what is simulated, to be served at an address of its own."""

    @abstractmethod
    async def start(self, tally: Tally) -> int | None:
        """Let the belt run if the line has started; return when it did, None if it has not."""

    def read_tally(self) -> Tally:
        """Return the tally that an earlier process of this run left, or a new one."""
        path = self.tally_file
        if path.exists() and (tally := files.read(path, Tally)).run_id == self.run_id:
            return tally
        return Tally(run_id=self.run_id)

    @contextlib.contextmanager
    def parts_log(self) -> Iterator[TextIO | None]:
        """Open the log of each part at the gate, home/plc_parts.csv, if one is wanted."""
        if not self.simulation.parts_log:
            yield None
            return
        path = self.tally_file.with_name("plc_parts.csv")
        with path.open("a", encoding="ascii") as file:
            yield file

    def over(self, _tally: Tally) -> bool:
        """Whether the PLC may end by itself."""
        return False


class PlcLine(Line):
    """A line that a PLC stands at."""

    first_job: int

    def __init__(self, home: Home, plc: PlcSection, simulation: SimulationSection, run_id: str) -> None:
        """Raise ConfigurationError where there is no such PLC, or it could not tell the parts apart."""
        super().__init__(home, simulation, run_id, plc.type)
        Protocols.check(plc.type)
        self._options: BaseModel = plugins.options(plugins.load("decision.plc", plc.type), plc.options, "plc.options")
        self._leads = plc.trigger == "plc"
        check_travel(simulation)

    def address(self) -> tuple[str, int]:
        """Return where the station looks for its PLC."""
        return Protocols.address(self.protocol, self._options)

    def machine(self, host: str, port: int, tally: Tally) -> Program:
        """Return the PLC's program, over a memory to be served there."""
        memory = Protocols.memory(self.protocol, self._options, host, port)
        self._program = Program(memory, tally, leads=self._leads, first_job=self.first_job)
        return self._program


class StationLine(PlcLine):
    """The simulated line of the station in a state folder."""

    def __init__(self, home: Home) -> None:
        """Read the station; raise ConfigurationError where it has no simulated line or no PLC."""
        self._home = home
        station = home.read_station()
        if station.simulation is None:
            raise ConfigurationError("simulation: the station file has no such table: its line and its PLC are real")
        if station.plc is None:
            raise ConfigurationError("plc: the station file has no such table: there is no PLC to be simulated")
        super().__init__(home, station.plc, station.simulation, home.read_run().run_id)
        self._jobs = {name: recipe.job for name, recipe in home.read_recipes().items()}
        self._truth = truth_of(home, station)
        self.first_job = self._jobs[station.simulation.products[0]]

    async def start(self, tally: Tally) -> int | None:
        """Start when the station has started its line."""
        schedule = self._home.schedule()
        if schedule is None:
            return None
        belt = Belt(schedule, self._jobs, tally, truth=self._truth)
        self._program.run_belt(belt, schedule.simulation.restart_after_s, self._home.holds())
        return schedule.start_ns


class OwnLine(PlcLine):
    """A line of the simulator's own: parts come once the station is ready, and the PLC triggers each."""

    def __init__(self, home: Home, plc: PlcSection, simulation: SimulationSection, parts: int | None, job: int) -> None:
        """Name station and belt; `job` is asked for."""
        super().__init__(home, plc, simulation, f"own-{time.time_ns()}")
        self.first_job = job
        self._parts = parts

    async def start(self, tally: Tally) -> int | None:
        """Start when the station is ready for a trigger."""
        acked = await self._program.acked_part()
        if acked is None:
            return None
        start_ns = time.monotonic_ns() + _START_IN_NS
        jobs = dict.fromkeys(self.simulation.products, self.first_job)
        belt = Belt(Schedule(self.simulation, start_ns, self._parts), jobs, tally)
        self._program.run_belt(belt, self.simulation.restart_after_s, None, first=acked)
        return start_ns

    def over(self, tally: Tally) -> bool:
        """End after the last part."""
        return self._parts is not None and tally.parts >= self._parts


def check_travel(simulation: SimulationSection) -> None:
    """Raise ConfigurationError where more parts are under way than a PLC can tell apart."""
    under_way = math.ceil(simulation.rate_per_s * simulation.gate_travel_s)
    if under_way >= registers.SLOTS:
        raise ConfigurationError(
            f"simulation: {under_way} parts (rate_per_s x gate_travel_s) between cameras and gate: the PLC can tell "
            f"{registers.SLOTS - 1} apart; lower gate_travel_s"
        )


def truth_of(home: Home, station: Station) -> Callable[[int, Schedule], Truth | None] | None:
    """Return what tells how a part is in truth, where the first camera plays known ones."""
    section = station.cameras[0]
    plug_in = plugins.load("ingest.cameras", section.type)
    options = plugins.options(plug_in, section.options, f"camera {section.name}: options")
    camera = plug_in.Camera(options, section.name, TriggerLine(home))
    truth: Callable[[int, Schedule], Truth | None] | None = getattr(camera, "truth", None)
    if truth is not None:
        camera.open()
    return truth
