"""What a plug-in for digital inputs and outputs is: one file in `decision/io` with `Options` and `Driver`.

Its methods block, are called from one thread only (that of the gates), and raise DeviceError and nothing else. Each is
one round trip where the protocol allows it. An output that is off leaves its gate at rest: whatever holds the outputs
must put them all off by itself when it hears nothing for a while (its watchdog).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Inputs:
    """What one reading has found, times are monotonic: the bits first, then the counters, all of them together."""

    bits: tuple[bool, ...]
    bits_ns: tuple[int, int]  # they stood so at some moment between these
    counts: tuple[int, ...]  # raw, each of 0 to 2**bits - 1
    read_ns: int  # when the counters stood so, as well as that can be known; not before the bits
    doubt_ns: int  # it may have been so much earlier or later


class Driver(Protocol):
    """A connection to one coupler. Every method but `close` raises DeviceError where it does not answer as it must."""

    outputs: int  # how many there are
    inputs: int
    counter_bits: tuple[int, ...]  # the width of each counter: 16 or 32

    def open(self) -> None:
        """Connect, and arm the watchdog where there is one to arm."""

    def close(self) -> None:
        """Disconnect; never raises, also where nothing is open."""

    def write(self, bits: Sequence[bool]) -> None:
        """Set all outputs at once."""

    def read(self) -> Inputs:
        """Read all inputs, then all counters."""
