"""The engines that run a bundle's graph, one file each: a device names its engine and the place there.

A file has `load`, which returns a Runtime, and `allocate`, which returns memory that its place reads fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from config import plugins
from config.errors import ConfigurationError
from inference.images import Frame

Precision = Literal["f32", "f16", "bf16"]
Scores = NDArray[np.float32]
Maps = NDArray[np.float32]

DEVICES = "cpu, cuda:N, tensorrt:N (N as in cuda:0) or openvino:cpu"


@dataclass(frozen=True)
class Place:
    """Where and how a graph shall run.

    `largest_batch` (N, H, W, C) and `cache`, a folder of the graph's own, serve engines that plan ahead.
    """

    device: str = "cpu"
    threads: int = 1
    precision: Precision = "f32"
    largest_batch: tuple[int, int, int, int] | None = None
    cache: Path | None = None

    @property
    def kind(self) -> str:
        """Return what stands before the colon."""
        return self.device.partition(":")[0]

    @property
    def number(self) -> str:
        """Return what stands after the colon."""
        return self.device.partition(":")[2]


class Runtime(Protocol):
    """A graph that is loaded."""

    def run(self, frames: Frame) -> tuple[Scores, Maps]:
        """Run uint8 (N, H, W, C), C-contiguous, possibly read-only, without copying it.

        Return scores (N,) and maps (N, h, w), good until the next run. Raise DeviceError where the device fails.
        """
        ...


class Engine(Protocol):
    """What each file here defines."""

    def load(self, model: bytes, place: Place) -> Runtime:
        """Load a graph; raise BundleError, DeviceError, ConfigurationError or MissingExtraError."""
        ...

    def allocate(self, size: int, place: Place) -> Frame:
        """Return uint8 (size,) that the place reads fastest."""
        ...


def of(device: str) -> tuple[Engine, Place]:
    """Return a device's engine, and the place; raise ConfigurationError for an unknown device."""
    place = Place(device)
    if device == "cpu" or (place.kind in {"cuda", "tensorrt"} and place.number.isdecimal()):
        name = "onnxruntime"
    elif device == "openvino:cpu":
        name = "openvino"
    else:
        raise ConfigurationError(f"device {device!r} is unknown: {DEVICES}")
    engine: Any = plugins.load(__name__, name)
    return engine, place


def check_precision(place: Place, computes: tuple[Precision, ...]) -> None:
    """Raise ConfigurationError where a place does not compute in the precision that is asked for."""
    if place.precision not in computes:
        raise ConfigurationError(f"device {place.device!r} computes in {' or '.join(computes)}, not {place.precision}")


def first_line(error: Exception) -> str:
    """Return the first line of a vendor's message that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception from ")]
    return said[0][:300] if said else type(error).__name__
