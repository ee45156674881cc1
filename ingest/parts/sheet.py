"""The sheet that a product is drawn on: colour and relief, lit from the upper left, at any size.

Small frames are drawn larger and averaged down, so that a feature looks alike at 64 px and at 5 megapixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ingest.parts.shapes import Shape

Pixels = npt.NDArray[np.uint8]
Bgr = tuple[int, int, int]

_LEAST_SIDE_PX = 800
_SHIFT = 4  # fractional bits of cv2's drawing coordinates
_LIGHT = np.array([-0.42, -0.52, 0.74])  # towards the lamp
_AMBIENT = 0.35
_BELT_BGR = (58, 55, 53)
_SHADOW = 0.6
_SHADOW_OFFSET = 0.014
_SHININESS = 24.0


@dataclass(frozen=True)
class Region:
    """Where a shape lies on the sheet: upper left corner in pixels and a mask, 255 inside."""

    left_px: int
    top_px: int
    mask: Pixels

    @property
    def window(self) -> tuple[slice, slice]:
        """The region's rows and columns."""
        height, width = self.mask.shape
        return slice(self.top_px, self.top_px + height), slice(self.left_px, self.left_px + width)


class Sheet:
    """Draw a part: make it of shapes, raise and cut them, paint them, then have it lit."""

    def __init__(self, width_px: int, height_px: int) -> None:
        """Begin with an empty belt under a camera of this size."""
        self._size_px = (width_px, height_px)
        factor = max(1, -(-_LEAST_SIDE_PX // min(width_px, height_px)))
        height, width = height_px * factor, width_px * factor
        self._scale = float(min(height, width))
        self._middle = np.array([width / 2, height / 2])
        self._albedo = np.zeros((height, width, 3), np.uint8)
        self._relief = np.zeros((height, width), np.float32)
        self._solid = np.zeros((height, width), np.uint8)

    def fill(self, shape: Shape) -> Region:
        """Return the inside of a shape."""
        contours = [contour * self._scale + self._middle for contour in shape]
        low, high = self._clipped(contours)
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        if mask.size:
            fixed = [np.round((contour - low) * (1 << _SHIFT)).astype(np.int32) for contour in contours]
            cv2.fillPoly(mask, fixed, 255, cv2.LINE_AA, _SHIFT)
        return Region(int(low[0]), int(low[1]), mask)

    def letters(self, text: str, x: float, y: float, height: float, weight: float = 0.14) -> Region:
        """Return text around a middle; `height` of a capital and stroke `weight` as a share of it."""
        font, unit_px = cv2.FONT_HERSHEY_SIMPLEX, 21.0  # a capital's height at scale 1
        scale = height * self._scale / unit_px
        stroke = max(1, round(weight * height * self._scale))
        (width, above), below = cv2.getTextSize(text, font, scale, stroke)
        left, top = (
            np.round(np.array([x, y]) * self._scale + self._middle - (width / 2, above / 2)).astype(int) - stroke
        )
        mask = np.zeros((above + below + 2 * stroke, width + 2 * stroke), np.uint8)
        cv2.putText(mask, text, (stroke, stroke + above), font, scale, 255, stroke, cv2.LINE_AA)
        rows, columns = self._solid.shape
        mask = mask[max(0, -top) : max(0, rows - top), max(0, -left) : max(0, columns - left)]
        return Region(max(0, int(left)), max(0, int(top)), mask)

    def make(self, shape: Shape, colour_bgr: Bgr) -> None:
        """Put material there."""
        region = self.fill(shape)
        window = self._solid[region.window]
        np.maximum(window, region.mask, out=window)
        self.paint(region, colour_bgr)

    def cut(self, shape: Shape) -> None:
        """Take material away down to the belt."""
        region = self.fill(shape)
        window = self._solid[region.window]
        np.minimum(window, 255 - region.mask, out=window)

    def paint(self, where: Region | Shape, colour_bgr: Bgr, opacity: float = 1.0) -> None:
        """Colour the surface."""
        region = where if isinstance(where, Region) else self.fill(where)
        window = self._albedo[region.window]
        blend = (region.mask * (opacity / 255)).astype(np.float32)[..., None]
        window += np.round((np.array(colour_bgr, np.float32) - window) * blend).astype(np.int16).astype(np.uint8)

    def lift(self, where: Region | Shape, height: float, slope: float) -> None:
        """Raise (or sink, below 0) the surface by `height`, with flanks `slope` wide, both in part units."""
        region = where if isinstance(where, Region) else self.fill(where)
        self._relief[region.window] += self._flanks(region.mask, slope) * np.float32(height * self._scale)

    def lit(self, gloss: float, edge: float) -> tuple[Pixels, Pixels]:
        """Return the lit picture `(H, W, 3)` BGR and the material `(H, W)`, 255 where there is some.

        `gloss` is the strength of highlights, `edge` the width of the rounding along every outline.
        """
        relief = self._relief + self._flanks(self._solid, edge) * np.float32(0.7 * edge * self._scale)
        relief = cv2.GaussianBlur(relief, (0, 0), max(0.6, 0.0016 * self._scale))
        slope_x, slope_y = (cv2.Sobel(relief, cv2.CV_32F, *axes, ksize=3, scale=1 / 8) for axes in ((1, 0), (0, 1)))
        norm = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
        lamp = _LIGHT / np.linalg.norm(_LIGHT)
        between = np.add(lamp, (0, 0, 1))
        # plain floats, for numpy's would make every array here twice as large
        light, half = lamp.tolist(), (between / np.linalg.norm(between)).tolist()
        facing, mirroring = (
            np.clip((vector[2] - slope_x * vector[0] - slope_y * vector[1]) * norm, 0, 1) for vector in (light, half)
        )
        shade = _AMBIENT + (1 - _AMBIENT) / light[2] * facing
        shine = 255 * gloss * (mirroring**_SHININESS - half[2] ** _SHININESS)
        part = self._albedo * shade[..., None] + np.maximum(shine, 0)[..., None]
        solid = self._solid * np.float32(1 / 255)
        belt = np.array(_BELT_BGR, np.float32) * (1 - _SHADOW * self._shadow(solid))[..., None]
        picture = belt + (part - belt) * solid[..., None]
        return self._reduced(np.clip(picture, 0, 255)), self._reduced(self._solid)

    def _shadow(self, solid: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        offset = _SHADOW_OFFSET * self._scale
        move = np.array([[1, 0, offset], [0, 1, offset]], np.float32)
        moved = cv2.warpAffine(solid, move, solid.shape[::-1])
        return np.asarray(cv2.GaussianBlur(moved, (0, 0), offset), np.float32)

    def _flanks(self, mask: Pixels, slope: float) -> npt.NDArray[np.float32]:
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        inside = cv2.distanceTransform((padded > 127).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]  # noqa: PLR2004 - half
        share = np.clip(inside / max(slope * self._scale, 1.0), 0, 1)
        return np.asarray(share * share * (3 - 2 * share), np.float32)

    def _reduced(self, picture: npt.NDArray[np.uint8 | np.float32]) -> Pixels:
        reduced = cv2.resize(picture, self._size_px, interpolation=cv2.INTER_AREA)
        return np.asarray(np.round(reduced), np.uint8)

    def _clipped(self, contours: Shape) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        rows, columns = self._solid.shape
        points = np.concatenate(contours)
        low = np.clip(np.floor(points.min(0)).astype(int) - 2, 0, (columns, rows))
        high = np.clip(np.ceil(points.max(0)).astype(int) + 3, low, (columns, rows))
        return low, high
