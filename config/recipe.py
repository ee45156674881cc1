"""Recipes: how a product is judged. One TOML file each, validated whole; its `job` is what the PLC calls it.

What the fields of zones, counting and alarms mean exactly stands in the manual; `decision/rules.py` does it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from config import files
from config.errors import ConfigurationError
from config.messages import Fidelity, GateCommand, Judgement

Finite = Field(allow_inf_nan=False)
Title = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]  # PostgreSQL keeps no NUL
Count = Annotated[int, Field(ge=1, lt=2**31)]
Area = Annotated[int, Field(ge=0, lt=2**31)]
Point = tuple[Annotated[int, Field(ge=0, lt=2**15)], Annotated[int, Field(ge=0, lt=2**15)]]  # x_px, y_px
# 2**32 over the golden ratio: its multiples fall evenly, in step with no period (Knuth, TAOCP 6.4)
_GOLDEN = 0x9E3779B9


def samples(sequence: int, every_parts: int) -> bool:
    """Tell whether part `sequence` is the one in `every_parts`: always the same ones, evenly spread.

    Those of a number are among those of any smaller one.
    """
    return (sequence * _GOLDEN & 0xFFFFFFFF) * every_parts < 1 << 32


class Keep(BaseModel):
    """What is kept of each view of a part: its pixels, its anomaly map; of one in `every_parts` parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    pixels: Fidelity
    map: bool = True
    every_parts: Count = 1

    def samples(self, sequence: int) -> bool:
        """Tell whether part `sequence` is among those that are kept."""
        return samples(sequence, self.every_parts)


_NOTHING = Keep(pixels=Fidelity.NONE, map=False)
_KEEP = {
    Judgement.PASS: _NOTHING,
    Judgement.REVIEW: Keep(pixels=Fidelity.REDUCED),
    Judgement.REJECT: Keep(pixels=Fidelity.REDUCED),
    Judgement.FAULT: Keep(pixels=Fidelity.REDUCED),
}


@dataclass(frozen=True)
class Limits:
    """What a place of a view is judged by: the view's own, or those of the zone `name`."""

    name: str | None
    review_above: float
    reject_above: float
    minimum_area_px: int
    reject_from_defects: int | None


class Zone(BaseModel):
    """A place in a view with limits of its own, or (`exclude`) one where nothing counts.

    It is a polygon in pixels of the frame (its corners belong to it), or a grey picture, white where the zone is. A
    limit that it does not name is the view's; `reject_from_defects` counts the defects of this zone alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Title
    polygon_px: tuple[Point, ...] | None = Field(default=None, min_length=3, max_length=1000)
    mask: Path | None = None
    exclude: bool = False
    review_above: float | None = Field(default=None, allow_inf_nan=False)
    reject_above: float | None = Field(default=None, allow_inf_nan=False)
    minimum_defect_area_px: Area | None = None
    minimum_defect_area_mm2: float | None = Field(default=None, gt=0, le=1e9)
    reject_from_defects: Count | None = None

    @model_validator(mode="after")
    def _is_somewhere_and_says_one_thing(self) -> Self:
        if (self.polygon_px is None) == (self.mask is None):
            raise ValueError(f"zone {self.name!r}: needs polygon_px or mask, one of them")
        limits = ("review_above", "reject_above", "minimum_defect_area_px", "minimum_defect_area_mm2")
        named = [name for name in (*limits, "reject_from_defects") if getattr(self, name) is not None]
        if self.exclude and named:
            raise ValueError(f"zone {self.name!r}: nothing counts where exclude is true, so {named[0]} has no meaning")
        return self


class ViewRecipe(BaseModel):
    """How one camera's view is judged.

    PASS up to `review_above`, REVIEW up to `reject_above`, REJECT beyond. Only regions of at least
    `minimum_defect_area_px` (pixels of the frame) inside `roi` (a grey picture, white is inspected) count;
    `minimum_defect_area_mm2` says the same in mm² where `mm_per_px`, the side of a pixel on the part, is known.
    `reject_from_defects`: so many regions that count make a REJECT, though none of them is above `reject_above`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bundle: Path
    bundle_digest: str | None = None
    review_above: float = Finite
    reject_above: float = Finite
    minimum_defect_area_px: Area = 0
    minimum_defect_area_mm2: float | None = Field(default=None, gt=0, le=1e9)
    mm_per_px: float | None = Field(default=None, ge=1e-6, le=1000)
    reject_from_defects: Count | None = None
    roi: Path | None = None
    zones: tuple[Zone, ...] = Field(default=(), max_length=100)

    @model_validator(mode="after")
    def _limits_make_sense(self) -> Self:
        if self.review_above > self.reject_above:
            raise ValueError(f"review_above {self.review_above} must not exceed reject_above {self.reject_above}")
        names = [zone.name for zone in self.zones]
        if len(set(names)) != len(names):
            raise ValueError(f"zones: names must differ, not {', '.join(names)}")
        for limits in self.limits()[1:]:
            if limits.review_above > limits.reject_above:
                raise ValueError(
                    f"zone {limits.name!r}: review_above {limits.review_above} must not exceed reject_above "
                    f"{limits.reject_above}; what a zone does not say is the view's"
                )
        return self

    def limits(self) -> tuple[Limits, ...]:
        """Return the view's own limits, then those of each zone that is not excluded, in their order."""
        own_px = self._minimum_px("", self.minimum_defect_area_px, self.minimum_defect_area_mm2)
        found = [Limits(None, self.review_above, self.reject_above, own_px, self.reject_from_defects)]
        for zone in self.judged_zones:
            px, mm2 = zone.minimum_defect_area_px, zone.minimum_defect_area_mm2
            found.append(
                Limits(
                    zone.name,
                    self.review_above if zone.review_above is None else zone.review_above,
                    self.reject_above if zone.reject_above is None else zone.reject_above,
                    own_px if px is None and mm2 is None else self._minimum_px(f"zone {zone.name!r}: ", px or 0, mm2),
                    zone.reject_from_defects,
                )
            )
        return tuple(found)

    @property
    def judged_zones(self) -> tuple[Zone, ...]:
        """The zones that have limits."""
        return tuple(zone for zone in self.zones if not zone.exclude)

    def _minimum_px(self, where: str, area_px: int, area_mm2: float | None) -> int:
        if area_mm2 is None:
            return area_px
        if area_px:
            raise ValueError(
                f"{where}minimum_defect_area_px and minimum_defect_area_mm2 say the same: give one of them"
            )
        if self.mm_per_px is None:
            raise ValueError(f"{where}minimum_defect_area_mm2 needs the view's mm_per_px, the side of a pixel in mm")
        # a defect of exactly the minimum counts, whatever the division makes of it
        return math.ceil(area_mm2 / self.mm_per_px**2 * (1 - 1e-9))


class RejectRate(BaseModel):
    """An alarm on the share of the last `over_parts` parts that the gate rejects: on above one, off below another."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    over_parts: int = Field(ge=2, le=100_000)
    above: float = Field(ge=0, lt=1)
    clear_below: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _clears_lower(self) -> Self:
        if self.clear_below > self.above:
            raise ValueError(f"clear_below {self.clear_below} must not exceed above {self.above}")
        return self


class Alarms(BaseModel):
    """When the line is told that too many parts are rejected, and whether it is asked to stop then."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    consecutive_rejects: int | None = Field(default=None, ge=2, le=100_000)
    reject_rate: RejectRate | None = None
    stop_line: bool = False

    @model_validator(mode="after")
    def _something_stops_the_line(self) -> Self:
        if self.stop_line and self.consecutive_rejects is None and self.reject_rate is None:
            raise ValueError("stop_line needs consecutive_rejects or reject_rate: nothing else would stop the line")
        return self


class Recipe(BaseModel):
    """How a product is judged at this station."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    product: Title
    job: int = Field(ge=1, le=65535)
    version: int = Field(default=1, ge=1, lt=2**31)
    deadline_ms: int = Field(default=500, ge=5, le=60_000)
    review_gate: GateCommand = GateCommand.REJECT
    fail_safe: Literal["reject", "stop"] = "reject"
    reject_views: int = Field(default=1, ge=1)  # fewer rejecting views than this make a REVIEW
    alarms: Alarms = Alarms()
    views: dict[str, ViewRecipe] = Field(min_length=1)
    keep: dict[Judgement, Keep] = _KEEP

    @field_validator("keep")
    @classmethod
    def _every_verdict_has_one(cls, keep: dict[Judgement, Keep]) -> dict[Judgement, Keep]:
        return {**_KEEP, **keep}

    @model_validator(mode="after")
    def _enough_views_can_reject(self) -> Self:
        if self.reject_views > len(self.views):
            raise ValueError(f"reject_views {self.reject_views} must not exceed the number of views, {len(self.views)}")
        return self


def kept(recipe: Recipe | None, verdict: Judgement, sequence: int) -> Keep:
    """Return what is kept of part `sequence`; without a recipe, what is kept by default."""
    keep = (recipe.keep if recipe else _KEEP)[verdict]
    return keep if keep.samples(sequence) else _NOTHING


# Fields that came later are said only where they are set: a recipe that needs none of them keeps its digest.
_LATER = ("reject_views", "alarms")
_LATER_OF_VIEW = ("minimum_defect_area_mm2", "mm_per_px", "reject_from_defects", "zones")


def content(recipe: Recipe) -> str:
    """Return all that a recipe says as canonical JSON, pictures included (base64), without paths of this machine.

    Which bundle judged is told by each view's `bundle_digest`. Raise ConfigurationError if a picture cannot be read.
    """
    said = _said(recipe, _LATER)
    for camera, view in recipe.views.items():
        said["views"][camera] = _said(view, _LATER_OF_VIEW)
        del said["views"][camera]["bundle"]
        for holder, field, picture in _pictures(view, said["views"][camera]):
            holder[field] = base64.b64encode(_bytes(picture)).decode("ascii")
    return json.dumps(said, sort_keys=True, separators=(",", ":"))


def from_content(content: str, bundle: Callable[[str | None], Path], picture: Callable[[bytes], Path]) -> Recipe:
    """Return the recipe whose content this is; `bundle` and `picture` tell where its files are to be found.

    `bundle` is asked by digest (None: the view pins none). Raise pydantic's ValidationError if it is no recipe.
    """
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return Recipe.model_validate(content)  # says that it is no recipe
    for view in _tables(said, "views"):
        view["bundle"] = bundle(view.get("bundle_digest"))
        zones = view.get("zones") or ()
        masks = ((zone, "mask") for zone in zones if isinstance(zone, dict)) if isinstance(zones, (list, tuple)) else ()
        for holder, field in ((view, "roi"), *masks):
            if isinstance(holder.get(field), str) and holder[field]:
                try:
                    holder[field] = picture(base64.b64decode(holder[field], validate=True))
                except ValueError:
                    holder[field] = {"base64": False}  # no path: pydantic names the field
    return Recipe.model_validate(said)


def digest(content: str) -> str:
    """Name what `content` returned."""
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def moved(recipe: Recipe, bundle: Callable[[Path], Path], picture: Callable[[Path], Path]) -> Recipe:
    """Return the recipe with its files elsewhere: every path that it names goes through `bundle` or `picture`."""
    views = {}
    for camera, view in recipe.views.items():
        zones = (
            zone.model_copy(update={"mask": picture(zone.mask)}) if zone.mask is not None else zone
            for zone in view.zones
        )
        roi = picture(view.roi) if view.roi is not None else None
        views[camera] = view.model_copy(update={"bundle": bundle(view.bundle), "roi": roi, "zones": tuple(zones)})
    return recipe.model_copy(update={"views": views})


def pictures(recipe: Recipe) -> tuple[Path, ...]:
    """Return the pictures that a recipe names."""
    return tuple(path for view in recipe.views.values() for _, _, path in _pictures(view, _said(view, ())))


def read(path: Path) -> Recipe:
    """Read a recipe file; the paths that it names become absolute; raise ConfigurationError for any fault."""
    recipe = files.read(path, Recipe)
    for camera, view in recipe.views.items():
        named = [("bundle", view.bundle), ("roi", view.roi)]
        named += [(f"zones.{number}.mask", zone.mask) for number, zone in enumerate(view.zones)]
        for field, file in named:
            if file is not None:
                files.must_exist(path.parent / file, f"{path}: views.{camera}.{field}")

    def absolute(file: Path) -> Path:
        return (path.parent / file).resolve()

    return moved(recipe, absolute, absolute)


def _tables(said: object, field: str) -> list[dict[str, Any]]:
    """Return the tables of the table `field`, as far as there are any."""
    found = said.get(field) if isinstance(said, dict) else None
    return [table for table in found.values() if isinstance(table, dict)] if isinstance(found, dict) else []


def _said(model: BaseModel, later: tuple[str, ...]) -> dict[str, Any]:
    fields = type(model).model_fields
    unset = {name for name in later if getattr(model, name) == fields[name].default}
    return model.model_dump(mode="json", exclude=unset)


def _pictures(view: ViewRecipe, said: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, Path]]:
    """Yield where `said` of a view names a picture, and the picture."""
    if view.roi is not None:
        yield said, "roi", view.roi
    for number, zone in enumerate(view.zones):
        if zone.mask is not None:
            yield said["zones"][number], "mask", zone.mask


def _bytes(picture: Path) -> bytes:
    try:
        return picture.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{picture}: the picture cannot be read: {error.strerror}") from error
