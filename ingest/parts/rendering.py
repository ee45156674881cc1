"""Render a part: the same arguments give the same pixels, in any order and in any process."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from config.messages import Truth
from ingest.parts import defects, lighting
from ingest.parts.defects import Defect, DefectKind
from ingest.parts.product import Side
from ingest.parts.sheet import Pixels
from ingest.parts.template import Template, template

_MOVE = 0.008  # standard deviation of the part's place, in part units
_TURN_DEG = 0.8
_GROWTH = 0.002  # dimension tolerance, as a share
_LIMIT = 2.5  # standard deviations: what lies beyond is cut off
_SEEDS = 1 << 64
_FLAW, _NATURE, _PLACE = range(3)  # independent streams of randomness of one part


@dataclass(frozen=True)
class Rendering:
    """A part as one camera sees it."""

    pixels: Pixels  # (H, W, C), C is 1 (mono) or 3 (BGR)
    mask: npt.NDArray[np.bool_]  # (H, W), True where the defect shows
    truth: Truth


def plan(
    seed: int, sequence: int, rate: float, kinds: tuple[DefectKind, ...], severity: tuple[float, float]
) -> Defect | None:
    """Return what is wrong with part `sequence`: the same for every camera that looks at it."""
    rng = np.random.default_rng([seed % _SEEDS, sequence])
    if rng.random() >= rate or not kinds:
        return None
    return Defect(kinds[int(rng.integers(len(kinds)))], float(rng.uniform(*severity)))


def truth(product: str, seed: int, sequence: int, defect: Defect | None) -> Truth:
    """Return what is known of a part without rendering it."""
    return Truth(good=defect is None, defect=defect.kind if defect else None, source=f"{product}/{seed}/{sequence}")


def render(
    product: str,
    seed: int,
    sequence: int,
    *,
    side: Side = "top",
    width_px: int = 320,
    height_px: int = 320,
    colour: bool = True,
    defect: Defect | None = None,
) -> Rendering:
    """Render part `sequence` of the line that `seed` names; raise ConfigurationError for an unknown product.

    A defective part shows its defect from both sides, each side its own mark of the same kind and severity. With and
    without its defect, a part has the same place, light, grain and noise.
    """
    drawn = template(product, side, width_px, height_px)
    streams = [[seed % _SEEDS, sequence, stream, ("top", "bottom").index(side)] for stream in range(3)]
    flaw, nature, place = (np.random.default_rng(stream) for stream in streams)
    surface, mask = _made(drawn, defect, flaw, nature)
    move = _placement(drawn, place)
    size = (width_px, height_px)
    moved = cv2.warpAffine(surface, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if mask.any():
        mask = cv2.warpAffine(mask.astype(np.uint8) * 255, move, size) > 127  # noqa: PLR2004 - half covered
    if not colour:
        moved = np.dstack([cv2.cvtColor(moved[..., :3], cv2.COLOR_BGR2GRAY), moved[..., 3]])
    pixels = lighting.exposed(np.asarray(moved, np.uint8), drawn.material, seed % _SEEDS, sequence, place)
    return Rendering(pixels, mask, truth(product, seed, sequence, defect))


def _made(
    drawn: Template, defect: Defect | None, flaw: np.random.Generator, nature: np.random.Generator
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    surface = drawn.bare.copy()
    shape = drawn.solid.shape
    displaced = defects.displace(drawn, defect, flaw) if defect and defect.kind in {"missing", "misplaced"} else None
    mask = np.zeros(shape, np.bool_)
    for index, sprite in enumerate(drawn.sprites):
        x, y, turn = np.clip(nature.standard_normal(3), -_LIMIT, _LIMIT)
        tolerance_px = sprite.feature.tolerance * drawn.scale_px
        if displaced is None or index != displaced.sprite:
            sprite.paste(surface, (x * tolerance_px, y * tolerance_px), turn * sprite.feature.tolerance_deg)
            continue
        mask = displaced.mask(sprite, shape)
        if not displaced.away:
            sprite.paste(surface, displaced.move_px, displaced.turn_deg)
    if defect and displaced is None:
        mask = defects.spoil(surface, drawn, defect, flaw)
    defects.speckle(surface, drawn, nature)
    return surface, mask


def _placement(drawn: Template, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    height, width = drawn.solid.shape
    x, y, turn, *growth = np.clip(rng.standard_normal(5), -_LIMIT, _LIMIT)
    angle, middle = math.radians(turn * _TURN_DEG), np.array([width - 1, height - 1]) / 2
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = turned * (1 + _GROWTH * np.array(growth))
    shift = middle - turned @ middle + np.array([x, y]) * _MOVE * drawn.scale_px
    return np.column_stack([turned, shift])
