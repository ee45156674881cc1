"""What `train` is asked to do. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from inference.images import Channels


class TrainingOptions(BaseModel):
    """What to learn from, and how.

    `images` is an MVTec AD folder or a plain folder of good images; `options` are the detector's own; `channels` is
    what the camera will give (as stored in the files if None); `alpha` is the false-reject rate asked for; scores for
    calibration come from `folds` cross-fitted detectors, or with 1 from a fifth of the images that is held out for
    good (None: as suits the detector). `data_licence` is kept in the bundle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    images: Path
    output: Path
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    detector: str = "patchcore"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    channels: Channels | None = None
    alpha: float = Field(default=0.01, gt=0, lt=1)
    folds: int | None = Field(default=None, ge=1, le=50)
    seed: int = 0
    threads: int = Field(default=1, ge=1)
    data_licence: str | None = None
