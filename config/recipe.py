"""Recipes: how a product is judged. One TOML file each, validated whole; its `job` is what the PLC calls it."""

from __future__ import annotations

import base64
import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from config import files
from config.errors import ConfigurationError
from config.messages import GateCommand, Judgement

Finite = Field(allow_inf_nan=False)
# 2**32 over the golden ratio: its multiples fall evenly, in step with no period (Knuth, TAOCP 6.4)
_GOLDEN = 0x9E3779B9


class Fidelity(StrEnum):
    """How a view's pixels are kept; only EXACT gives the detector's score again."""

    NONE = "none"  # no crops either
    REDUCED = "reduced"  # JPEG, the longer side as the station's `image_side_px`
    FULL = "full"  # JPEG at full size
    EXACT = "exact"  # PNG, every pixel as the detector saw it


class Keep(BaseModel):
    """What is kept of each view of a part: its pixels, its anomaly map; of one in `every_parts` parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    pixels: Fidelity
    map: bool = True
    every_parts: int = Field(default=1, ge=1)

    def samples(self, sequence: int) -> bool:
        """Tell whether part `sequence` is among those that are kept: always the same ones, evenly spread."""
        return (sequence * _GOLDEN & 0xFFFFFFFF) * self.every_parts < 1 << 32


_NOTHING = Keep(pixels=Fidelity.NONE, map=False)
_KEEP = {
    Judgement.PASS: _NOTHING,
    Judgement.REVIEW: Keep(pixels=Fidelity.REDUCED),
    Judgement.REJECT: Keep(pixels=Fidelity.REDUCED),
    Judgement.FAULT: Keep(pixels=Fidelity.REDUCED),
}


class ViewRecipe(BaseModel):
    """How one camera's view is judged.

    PASS up to `review_above`, REVIEW up to `reject_above`, REJECT beyond. Only regions of at least
    `minimum_defect_area_px` (pixels of the frame) inside `roi` (a grey picture, white is inspected) count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bundle: Path
    bundle_digest: str | None = None
    review_above: float = Finite
    reject_above: float = Finite
    minimum_defect_area_px: int = Field(default=0, ge=0)
    roi: Path | None = None

    @model_validator(mode="after")
    def _gray_zone_is_no_hole(self) -> Self:
        if self.review_above > self.reject_above:
            raise ValueError(f"review_above {self.review_above} must not exceed reject_above {self.reject_above}")
        return self


class Recipe(BaseModel):
    """How a product is judged at this station."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    product: str = Field(min_length=1, max_length=64)
    job: int = Field(ge=1, le=65535)
    version: int = Field(default=1, ge=1, lt=2**31)
    deadline_ms: int = Field(default=500, ge=5, le=60_000)
    review_gate: GateCommand = GateCommand.REJECT
    fail_safe: Literal["reject", "stop"] = "reject"
    views: dict[str, ViewRecipe] = Field(min_length=1)
    keep: dict[Judgement, Keep] = _KEEP

    @field_validator("keep")
    @classmethod
    def _every_verdict_has_one(cls, keep: dict[Judgement, Keep]) -> dict[Judgement, Keep]:
        return {**_KEEP, **keep}


def kept(recipe: Recipe | None, verdict: Judgement, sequence: int) -> Keep:
    """Return what is kept of part `sequence`; without a recipe, what is kept by default."""
    keep = (recipe.keep if recipe else _KEEP)[verdict]
    return keep if keep.samples(sequence) else _NOTHING


def content(recipe: Recipe) -> str:
    """Return all that a recipe says as canonical JSON, ROI pictures included (base64), without paths of this machine.

    Which bundle judged is told by each view's `bundle_digest`. Raise ConfigurationError if a ROI cannot be read.
    """
    said = recipe.model_dump(mode="json")
    for camera, view in recipe.views.items():
        del said["views"][camera]["bundle"]
        if view.roi:
            try:
                said["views"][camera]["roi"] = base64.b64encode(view.roi.read_bytes()).decode("ascii")
            except OSError as error:
                raise ConfigurationError(f"{view.roi}: the ROI cannot be read: {error.strerror}") from error
    return json.dumps(said, sort_keys=True, separators=(",", ":"))


def digest(content: str) -> str:
    """Name what `content` returned."""
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def read(path: Path) -> Recipe:
    """Read a recipe file; its bundle and ROI paths become absolute; raise ConfigurationError for any fault."""
    recipe = files.read(path, Recipe)
    views = {}
    for camera, view in recipe.views.items():
        bundle = path.parent / view.bundle
        roi = path.parent / view.roi if view.roi else None
        for field, file in (("bundle", bundle), ("roi", roi)):
            if file is not None and not file.is_file():
                raise ConfigurationError(f"{path}: views.{camera}.{field}: no such file: {file}")
        views[camera] = view.model_copy(
            update={"bundle": bundle.resolve(), "roi": roi.resolve() if roi else None},
        )
    return recipe.model_copy(update={"views": views})
