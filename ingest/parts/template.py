"""A product at one frame size, drawn once: its bare body and a sprite for each feature, to be put together per part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from config.errors import ConfigurationError
from ingest.parts import board, bracket, cap
from ingest.parts.product import Feature, Material, Product, Side
from ingest.parts.sheet import Pixels, Sheet

PRODUCTS: dict[str, Callable[[Side], Product]] = {
    "board": board.seen_from,
    "bracket": bracket.seen_from,
    "cap": cap.seen_from,
}
_KEPT = 16  # templates in memory: products x sides x sizes that one process uses
_HALF = 127  # of 255: half covered
_DIFFERS = 5  # grey levels by which a feature shows
_BELT_GRAIN = 60  # of 255, where the part's is 255
_MARGIN = 0.35  # of a feature's reach, so that it can turn


@dataclass(frozen=True)
class Sprite:
    """A feature as it looks in its place: surface `(h, w, 4)` (BGR and grain) and opacity `(h, w)` float32 0..1."""

    feature: Feature
    left_px: int
    top_px: int
    surface: Pixels
    opacity: npt.NDArray[np.float32]

    @property
    def area_px(self) -> float:
        """How much of the frame it covers."""
        return float(self.opacity.sum())

    def paste(self, canvas: Pixels, move_px: tuple[float, float], turn_deg: float) -> None:
        """Put the feature on `canvas` `(H, W, 4)`, moved and turned."""
        window, surface, opacity = self._placed(canvas.shape[:2], move_px, turn_deg)
        below = canvas[window]
        blended = below + (surface - below.astype(np.float32)) * opacity[..., None]
        canvas[window] = np.round(blended)

    def footprint(self, shape: tuple[int, int], move_px: tuple[float, float], turn_deg: float) -> npt.NDArray[np.bool_]:
        """Return where the feature shows, as a mask `(H, W)`."""
        window, _, opacity = self._placed(shape, move_px, turn_deg)
        mask = np.zeros(shape, np.bool_)
        mask[window] = opacity > 0.5  # noqa: PLR2004 - half covered
        return mask

    def _placed(
        self, shape: tuple[int, ...], move_px: tuple[float, float], turn_deg: float
    ) -> tuple[tuple[slice, slice], Pixels, npt.NDArray[np.float32]]:
        height, width = self.opacity.shape
        whole_x, whole_y = round(move_px[0]), round(move_px[1])
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -turn_deg, 1.0)
        matrix[0, 2] += move_px[0] - whole_x
        matrix[1, 2] += move_px[1] - whole_y
        surface = cv2.warpAffine(self.surface, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        opacity = cv2.warpAffine(self.opacity, matrix, (width, height))
        left, top = self.left_px + whole_x, self.top_px + whole_y
        rows, columns = slice(max(0, top), max(0, top + height)), slice(max(0, left), max(0, left + width))
        inside = (
            slice(rows.start - top, max(0, min(shape[0], rows.stop) - top)),
            slice(columns.start - left, max(0, min(shape[1], columns.stop) - left)),
        )
        return (rows, columns), np.asarray(surface[inside], np.uint8), np.asarray(opacity[inside], np.float32)


@dataclass(frozen=True)
class Template:
    """A product from one side at one frame size."""

    bare: Pixels  # (H, W, 4): BGR and grain of the body without features
    sprites: tuple[Sprite, ...]
    body: npt.NDArray[np.bool_]  # (H, W) where the body has material
    solid: npt.NDArray[np.bool_]  # (H, W) where the whole part has: less its holes
    outline_px: npt.NDArray[np.float32]  # (N, 2) points along its outer edge
    inside_px: npt.NDArray[np.int64]  # (N,) flat places well inside the material
    material: Material

    @property
    def scale_px(self) -> int:
        """Pixels of one part unit."""
        height, width = self.solid.shape
        return int(min(height, width))


@lru_cache(maxsize=_KEPT)
def template(product: str, side: Side, width_px: int, height_px: int) -> Template:
    """Draw a product; raise ConfigurationError if there is none of that name."""
    if product not in PRODUCTS:
        raise ConfigurationError(f"no product {product!r} can be rendered: there are {', '.join(PRODUCTS)}")
    drawn = PRODUCTS[product](side)
    bare, body = _surface(drawn, (), (width_px, height_px))
    whole, solid = _surface(drawn, drawn.features, (width_px, height_px))
    inside = solid > _HALF
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len).reshape(-1, 2).astype(np.float32)
    reach = max(3, round(0.03 * min(width_px, height_px)))
    core = cv2.erode(inside.astype(np.uint8), np.ones((reach, reach), np.uint8))
    sprites = tuple(_sprite(feature, bare, whole) for feature in drawn.features)
    return Template(bare, sprites, body > _HALF, inside, outline, np.flatnonzero(core), drawn.material)


def _surface(product: Product, features: tuple[Feature, ...], size_px: tuple[int, int]) -> tuple[Pixels, Pixels]:
    sheet = Sheet(*size_px)
    product.body(sheet)
    for feature in features:
        feature.draw(sheet)
    picture, solid = sheet.lit(product.material.gloss, product.material.edge)
    grain = np.maximum(solid, _BELT_GRAIN)
    return np.dstack([picture, grain]), solid


def _sprite(feature: Feature, bare: Pixels, whole: Pixels) -> Sprite:
    height, width = bare.shape[:2]
    scale = min(height, width)
    outline = [np.round(contour * scale + (width / 2, height / 2)).astype(np.int32) for contour in feature.outline]
    points = np.concatenate(outline)
    margin = int(_MARGIN * feature.reach * scale) + 2
    left, top = (int(edge) for edge in np.maximum(points.min(axis=0) - margin, 0))
    right, bottom = (int(edge) for edge in np.minimum(points.max(axis=0) + margin, (width, height)))
    window = (slice(top, bottom), slice(left, right))
    differs = cv2.absdiff(bare[window], whole[window]).max(axis=2) > _DIFFERS
    own = cv2.fillPoly(np.zeros(differs.shape, np.uint8), [contour - (left, top) for contour in outline], 1)
    opacity = cv2.dilate(differs * own.astype(np.float32), np.ones((3, 3)))
    opacity = cv2.GaussianBlur(opacity, (3, 3), 0)
    return Sprite(feature, left, top, np.ascontiguousarray(whole[window]), np.asarray(opacity, np.float32))
