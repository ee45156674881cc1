"""Gates that the station drives itself: where they are, what they eject, which sensors watch them.

    cameras          part sensor     gate             ejected-part sensor
       |                  |          |                   |
    ───●──────────────────●──────[───●───]───▶ belt      ● in the chute
       0 mm          distance_mm   distance_mm        after_ms
                                 [ window_mm ]

An output that is off leaves its gate at rest, so that a broken wire, a dead coupler and a dead station are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from config.messages import Judgement

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"
_BIT = Field(ge=0, le=4095)
_FARTHEST_MM = 1_000_000
_FINEST_MM = 1e-6
_ALL_BUT_PASS = frozenset({Judgement.REJECT, Judgement.REVIEW, Judgement.FAULT})
_READINGS_IN_A_PULSE = 2  # one of them may come late by as much as their distance
_NEAREST_WINDOWS = 1.5  # nearer, a window could begin before the part behind it has been seen by a camera


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IoSection(_Table):
    """The digital inputs and outputs: `type` names the file in `decision/io`, `options` are that file's."""

    type: str
    options: dict[str, object] = {}
    poll_ms: float = Field(default=5.0, ge=1, le=50)  # how often inputs and counters are read
    watchdog_ms: float = Field(
        default=100.0, ge=100, le=10_000
    )  # unwritten for so long, the coupler puts its outputs off
    line_stop_output: int | None = Field(default=None, ge=0, le=4095)  # on: the line must stop


class EncoderSection(_Table):
    """The encoder on the belt, by a counter of the inputs and outputs."""

    counter: int = Field(default=0, ge=0, le=63)  # which of the counters that the options of `io` name
    mm_per_count: float = Field(ge=-1000, le=1000)  # negative where it counts down when the belt runs forward
    top_speed_mm_s: float = Field(gt=0, le=20_000)  # whatever is faster is a jump of the counter, not of the belt

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if abs(self.mm_per_count) < _FINEST_MM:
            raise ValueError(
                f"mm_per_count must be the belt's way for one count, such as 0.05, not {self.mm_per_count:g}"
            )
        return self


class BeltSection(_Table):
    """A belt without an encoder: it runs at one speed and never stops while parts are on it."""

    speed_mm_s: float = Field(gt=0, le=20_000)


class _Sensor(_Table):
    """An input that goes on, or a counter that counts, for every part that passes it."""

    input: int | None = Field(default=None, ge=0, le=4095)
    counter: int | None = Field(default=None, ge=0, le=63)  # the coupler counts: nothing is missed between two readings
    pulse_ms: float = Field(default=10.0, gt=0, le=10_000)  # it is on for so long at least, and off between parts

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.input is None) == (self.counter is None):
            raise ValueError("name either an input or a counter")
        return self

    @property
    def pulse_ns(self) -> int | None:
        """How long readings may be apart for each part to be seen; None: as long as they like."""
        return None if self.input is None else round(self.pulse_ms * 1e6)


class PartSensor(_Sensor):
    """Sees the parts before the gate: what it has not seen is not let pass."""

    distance_mm: float = Field(gt=0)  # behind the cameras
    tolerance_mm: float = Field(gt=0)


class EjectedSensor(_Sensor):
    """Sees every ejected part, some time after it was at the gate."""

    after_ms: float = Field(ge=0, le=10_000)
    tolerance_ms: float = Field(gt=0, le=10_000)


class GateSection(_Table):
    """One gate; `at_rest` is what it does with its output off."""

    name: str = Field(pattern=_NAME)
    output: int = _BIT
    distance_mm: float = Field(gt=0, le=_FARTHEST_MM)  # from the cameras to its middle
    window_mm: float = Field(gt=0, le=_FARTHEST_MM)  # of belt, in which it acts on a part that is in its middle
    at_rest: Literal["eject", "pass"] = "eject"
    ejects: frozenset[Judgement] = _ALL_BUT_PASS  # verdicts; a part whose command is PASS is ejected by no gate
    part: PartSensor | None = None
    ejected: EjectedSensor | None = None
    bin_full_input: int | None = Field(default=None, ge=0, le=4095)
    bin_full_stops_line: bool = False

    @property
    def earns(self) -> bool:
        """Whether nothing but a PASS can pass here, also where nobody says anything."""
        return self.at_rest == "eject" and self.ejects == _ALL_BUT_PASS

    @property
    def start_mm(self) -> float:
        """Way of a part from the cameras until its window begins."""
        return self.distance_mm - self.window_mm / 2

    @property
    def end_mm(self) -> float:
        """Way of a part from the cameras until its window ends."""
        return self.distance_mm + self.window_mm / 2

    @property
    def sensors(self) -> dict[str, PartSensor | EjectedSensor]:
        """Return the sensors that see parts, by their names in the table."""
        named = {"part": self.part, "ejected": self.ejected}
        return {name: sensor for name, sensor in named.items() if sensor is not None}

    @property
    def inputs(self) -> list[int]:
        """Return the inputs that it needs."""
        numbers = [*(sensor.input for sensor in self.sensors.values()), self.bin_full_input]
        return [number for number in numbers if number is not None]

    @property
    def counters(self) -> list[int]:
        """Return the counters that it needs."""
        return [sensor.counter for sensor in self.sensors.values() if sensor.counter is not None]

    @model_validator(mode="after")
    def _can_work(self) -> Self:
        where = f"gate {self.name}"
        if not self.ejects or Judgement.PASS in self.ejects:
            raise ValueError(f"{where}: ejects must name some of REJECT, REVIEW and FAULT, and never PASS")
        if self.distance_mm < _NEAREST_WINDOWS * self.window_mm:
            raise ValueError(
                f"{where}: distance_mm {self.distance_mm:g} must be at least 1.5 x window_mm, so "
                f"{1.5 * self.window_mm:g}: else its window begins before the next part has been seen"
            )
        if self.part and self.part.distance_mm + self.part.tolerance_mm > self.start_mm:
            raise ValueError(
                f"{where}: part.distance_mm + part.tolerance_mm must be at most {self.start_mm:g}, where the window "
                "begins: a part must be seen before the gate moves for it"
            )
        if self.bin_full_stops_line and self.bin_full_input is None:
            raise ValueError(f"{where}: bin_full_stops_line needs bin_full_input")
        return self


def check(
    gates: Sequence[GateSection], io: IoSection | None, encoder: EncoderSection | None, belt: BeltSection | None
) -> None:
    """Raise ValueError where the tables of station-led gates do not make one whole."""
    if not gates:
        for name, table in (("io", io), ("encoder", encoder), ("belt", belt)):
            if table is not None:
                raise ValueError(f"{name}: belongs to gates that the station drives, and there are no [[gates]]")
        return
    if io is None:
        raise ValueError("gates: need an [io] table, the digital inputs and outputs that drive them")
    if (encoder is None) == (belt is None):
        raise ValueError(
            "gates: need either an [encoder] table, or a [belt] table with its speed where it runs at one speed only"
        )
    _pulses_are_seen(gates, io.poll_ms)
    if not any(gate.earns for gate in gates):
        raise ValueError(
            'gates: at least one must have at_rest = "eject" and eject REJECT, REVIEW and FAULT: nothing may pass that '
            "has not earned it"
        )
    _differ("gates: names", (gate.name for gate in gates))
    stop = () if io.line_stop_output is None else (io.line_stop_output,)
    _differ("gates: outputs (io.line_stop_output among them)", (*(gate.output for gate in gates), *stop))
    _differ("gates: inputs", (number for gate in gates for number in gate.inputs))
    counters = (number for gate in gates for number in gate.counters)
    _differ("gates: counters (the encoder's among them)", (*counters, *((encoder.counter,) if encoder else ())))
    if [gate.distance_mm for gate in gates] != sorted({gate.distance_mm for gate in gates}):
        raise ValueError("gates: must be listed as the parts meet them, by rising distance_mm")


def _pulses_are_seen(gates: Sequence[GateSection], poll_ms: float) -> None:
    for gate in gates:
        for name, sensor in gate.sensors.items():
            if sensor.input is not None and sensor.pulse_ms < _READINGS_IN_A_PULSE * poll_ms:
                raise ValueError(
                    f"gate {gate.name}: {name}.pulse_ms {sensor.pulse_ms:g}: an input that is read every "
                    f"{poll_ms:g} ms (io.poll_ms) may miss pulses below {_READINGS_IN_A_PULSE * poll_ms:g} ms; "
                    "say how long they are at least, read faster, or let the coupler count them (counter)"
                )


def _differ(what: str, used: Iterable[object]) -> None:
    twice = [str(value) for value, times in Counter(used).items() if times > 1]
    if twice:
        raise ValueError(f"{what} must differ: {', '.join(twice)} is named twice")
