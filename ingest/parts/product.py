"""What a product is to the renderer: a body, features that can be missing or misplaced, and a material."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ingest.parts.shapes import Shape
from ingest.parts.sheet import Bgr, Sheet

Side = Literal["top", "bottom"]


@dataclass(frozen=True)
class Feature:
    """Something that every good part has in its place.

    `draw(sheet)` draws it within `outline`; outlines do not overlap. Good parts have it within `tolerance` (standard
    deviation, part units) and `tolerance_deg` of its place.
    """

    name: str
    outline: Shape
    draw: Callable[[Sheet], None]
    tolerance: float = 0.001
    tolerance_deg: float = 0.0

    @property
    def reach(self) -> float:
        """Half of its longer side."""
        points = np.concatenate(self.outline)
        return float((points.max(axis=0) - points.min(axis=0)).max()) / 2


@dataclass(frozen=True)
class Material:
    """How the part's surface takes light, wear and dirt."""

    grain: Literal["brushed", "moulded", "woven"]
    grain_strength: float
    gloss: float
    edge: float  # width of the rounding along outlines, in part units
    scratch_bgr: Bgr
    fracture_bgr: Bgr
    stain_bgr: Bgr


@dataclass(frozen=True)
class Product:
    """A product as one camera sees it."""

    body: Callable[[Sheet], None]
    features: tuple[Feature, ...]
    material: Material
