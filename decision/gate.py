"""What a PLC driver plug-in is: one file in `decision/plc` with `Options` and `Driver`.

Its methods block, are called from one thread only (the link's), and raise DeviceError and nothing else. Each is one
round trip where the protocol allows it, so that a result never waits for more than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from decision.registers import ErrorCode, Outcome, Result


class StationState(IntEnum):
    """What the station tells the PLC about itself."""

    STOPPED = 0
    READY = 1
    DEGRADED = 2  # it runs and cannot judge


@dataclass(frozen=True)
class StationSignals:
    """The station's side of the handshake; what each means stands in `registers.BITS`."""

    ready: bool = False
    ack: bool = False
    exposure_complete: bool = False
    busy: bool = False
    inspection_completed: bool = False
    results_valid: bool = False
    overrun: bool = False
    error: bool = False


@dataclass(frozen=True)
class PlcSignals:
    """The PLC's side of the handshake; what each means stands in `registers.BITS`."""

    trigger_enable: bool = False
    trigger: bool = False
    results_ack: bool = False
    error_reset: bool = False


@dataclass(frozen=True)
class StationOutputs:
    """What the station tells the PLC beside the ring of results; written whole.

    Where a protocol cannot write it at once, `signals` is written after what they speak of.
    """

    heartbeat: int  # 0 … 65535; changes while the station can judge
    state: StationState
    active_job: int
    line_stop: bool
    run: int  # unsigned 32 bits
    refused_job: int = 0
    acked_part: int = 0  # part numbers are sequence + 1; 0: none
    error_code: ErrorCode = ErrorCode.NONE
    error_part: int = 0
    result: Result | None = None  # that the PLC is to acknowledge
    signals: StationSignals = StationSignals()


@dataclass(frozen=True)
class PlcInputs:
    """What the PLC tells the station beside outcomes, and the run that it still holds; read whole.

    Where a protocol cannot read it at once, `signals` are read first, and `part_number` after them.
    """

    run: int
    heartbeat: int
    requested_job: int
    outcome_count: int
    part_number: int = 0
    signals: PlcSignals = PlcSignals()


class Driver(Protocol):
    """A connection to one PLC. Every method raises DeviceError when the PLC does not answer as it must."""

    def open(self) -> None:
        """Connect."""

    def close(self) -> None:
        """Disconnect; never raises, also where nothing is open."""

    def write_outputs(self, outputs: StationOutputs) -> None:
        """Write what the station tells about itself."""

    def write_results(self, results: Sequence[Result]) -> None:
        """Write results (rising sequences) to their slots, none of them in halves."""

    def clear_results(self) -> None:
        """Empty all result slots: the gate is at rest for every part."""

    def read_heartbeat(self) -> int:
        """Read the station's heartbeat that the PLC holds: whose station writes it is seen by what moves."""

    def read_inputs(self) -> PlcInputs:
        """Read what the PLC tells."""

    def read_outcomes(self, first: int, count: int) -> list[Outcome | None]:
        """Read outcomes number `first` (from 1) on: one to `count` of them; None where one means nothing."""
