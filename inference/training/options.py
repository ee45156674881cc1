"""What `train` is asked to do. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from config.messages import PixelFormat
from inference.images import Channels


class Augmentation(BaseModel):
    """How good images are multiplied: `copies` of each, changed by chance within these limits.

    Only what good parts really do belongs here: a part that may lie a little otherwise, a lamp that fades. A defect
    that looks like a permitted change is learnt as good.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    copies: int = Field(default=8, ge=1, le=64, description="copies of each image")
    shift_px: int = Field(default=0, ge=0, le=1000, description="shift to any side, at most")
    rotate_deg: float = Field(default=0.0, ge=0, le=180, description="turn either way, at most")
    brightness_percent: float = Field(default=0.0, ge=0, le=90, description="brighter or darker, at most")
    flip: Literal["none", "horizontal", "vertical", "both"] = Field(
        default="none", description="mirror it, as often as not"
    )

    @property
    def moves(self) -> bool:
        """Tell whether a pixel may come to lie elsewhere."""
        return bool(self.shift_px or self.rotate_deg or self.flip != "none")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.moves or self.brightness_percent):
            raise ValueError("changes nothing: give shift_px, rotate_deg, brightness_percent or flip")
        return self


class TrainingOptions(BaseModel):
    """What to learn from, and how.

    `images` is an MVTec AD folder or a plain folder of good images, without those named in `left_out`; `output` is the
    bundle to be (not needed to look at the images alone); `options` are the detector's own; `channels` is what the
    camera will give (as stored in the files if None), `pixel_format` says so more closely; `alpha` is the false-reject
    rate asked for; scores for calibration come from `folds` cross-fitted detectors, or with 1 from a fifth of the
    images that is held out for good (None: as suits the detector; the former where images are few). `report` is a
    folder for pictures of the images that are suspected. `data_licence` is kept in the bundle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    images: Path
    left_out: tuple[str, ...] = ()
    output: Path | None = None
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    detector: str = "patchcore"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    channels: Channels | None = None
    pixel_format: PixelFormat | None = None
    augment: Augmentation | None = None
    alpha: float = Field(default=0.01, gt=0, lt=1)
    folds: int | None = Field(default=None, ge=1, le=50)
    seed: int = 0
    threads: int = Field(default=1, ge=1)
    report: Path | None = None
    data_licence: str | None = None

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        if self.pixel_format and self.channels not in {None, self.pixel_format.channels}:
            raise ValueError(f"{self.pixel_format} has {self.pixel_format.channels} bytes a pixel, not {self.channels}")
        mosaic = self.pixel_format not in {None, PixelFormat.MONO8, PixelFormat.BGR8}
        if mosaic and self.augment and self.augment.moves:
            raise ValueError("augment: a mosaic that is moved, turned or mirrored has other colours: brightness alone")
        return self
