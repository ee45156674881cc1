"""A camera that renders parts: whatever product the schedule puts on the belt, good ones and defective ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, model_validator

from config.errors import ConfigurationError
from config.messages import Reason, Truth
from config.schedule import Schedule
from ingest.camera import Exposure, TriggerLine
from ingest.parts import rendering
from ingest.parts.defects import KINDS, Defect, DefectKind
from ingest.parts.product import Side
from ingest.parts.template import PRODUCTS, template

_PLAIN = 1.0  # severity of a challenge part's defect


class Options(BaseModel):
    """`[camera.options]` of the station file.

    All cameras of a station must agree on `seed`, `defect_rate`, `defects` and the severities: then they see the same
    parts, each from its `side`, and a defective part shows its defect from both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    width_px: int = Field(default=320, ge=32, le=16384)
    height_px: int = Field(default=320, ge=32, le=16384)
    colour: bool = True  # BGR; else mono
    side: Side = "top"
    seed: int | None = None  # the simulation's
    defect_rate: float = Field(default=0.15, ge=0, le=1)
    defects: tuple[DefectKind, ...] = Field(default=KINDS, min_length=1)
    least_severity: float = Field(default=0.4, ge=0, le=1)
    greatest_severity: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _severities_rise(self) -> Self:
        if self.least_severity > self.greatest_severity:
            raise ValueError(
                f"least_severity {self.least_severity} must not exceed greatest_severity {self.greatest_severity}"
            )
        return self


class Camera:
    """Look at the simulated line from one side."""

    def __init__(self, options: Options, name: str, line: TriggerLine) -> None:
        self._options = options
        self._name = name
        self._line = line

    def open(self) -> int:
        """Draw the products, so that the first part need not wait; raise ConfigurationError for unknown ones."""
        size_px = self._options.width_px, self._options.height_px
        for product in self._line.simulation().products:
            if product not in PRODUCTS:
                raise ConfigurationError(
                    f"camera {self._name}: simulation.products: no product {product!r} can be rendered: "
                    f"there are {', '.join(PRODUCTS)}"
                )
            template(product, self._options.side, *size_px)
        return size_px[0] * size_px[1] * (3 if self._options.colour else 1)

    def exposures(self, first: int) -> Iterator[Exposure]:
        """Yield every part from number `first` on."""
        return self._line.play(first, self._picture, self.truth)

    def close(self) -> None:
        """End the exposures."""
        self._line.close()

    def _picture(self, sequence: int, schedule: Schedule) -> npt.NDArray[np.uint8] | Reason:
        options = self._options
        return rendering.render(
            schedule.product(sequence),
            _seed(options, schedule),
            sequence,
            side=options.side,
            width_px=options.width_px,
            height_px=options.height_px,
            colour=options.colour,
            defect=_defect(options, sequence, schedule),
        ).pixels

    def truth(self, sequence: int, schedule: Schedule) -> Truth | None:
        """Return what a part is in truth."""
        options = self._options
        known = rendering.truth(
            schedule.product(sequence), _seed(options, schedule), sequence, _defect(options, sequence, schedule)
        )
        return replace(known, challenge=schedule.challenges(sequence))


def _defect(options: Options, sequence: int, schedule: Schedule) -> Defect | None:
    severity, rate = (options.least_severity, options.greatest_severity), options.defect_rate
    if schedule.challenges(sequence):
        severity, rate = (_PLAIN, _PLAIN), 1.0  # nobody may be in doubt about it
    return rendering.plan(_seed(options, schedule), sequence, rate, options.defects, severity)


def _seed(options: Options, schedule: Schedule) -> int:
    return schedule.simulation.seed if options.seed is None else options.seed
