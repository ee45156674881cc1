"""Where in a view each limit holds: ROI, zones and exclusions, worked out once for each size of frame and map.

A cell of the anomaly map is left out only where all of its pixels are (outside the ROI, or in one exclusion); it
belongs to the first zone that it touches. So a zone never vanishes between cells, and what is inspected is never less
than asked for. Exclusions come before all other zones, wherever they stand in the recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from config.errors import ConfigurationError
from config.recipe import Point, ViewRecipe

Mask = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Shape = tuple[int, int]

_WHITE = 128


@dataclass(frozen=True)
class Polygon:
    """Corners in pixels of the frame; they belong to it. What crosses itself is filled by the even-odd rule."""

    corners_px: tuple[Point, ...]

    def fits(self, frame: Shape) -> bool:
        """Tell whether it lies in a frame `(H, W)`; one that does not was drawn on frames of another size."""
        return all(x < frame[1] and y < frame[0] for x, y in self.corners_px)

    def mask(self, frame: Shape) -> Mask:
        """Return it as a picture `(H, W)`."""
        drawn = np.zeros(frame, np.uint8)
        cv2.fillPoly(drawn, [np.array(self.corners_px, np.int32)], (255,))
        return drawn


@dataclass(frozen=True)
class Picture:
    """A grey picture `(H, W)` uint8, white where the place is; it covers the frame, whatever its own size."""

    pixels: Mask

    def fits(self, _frame: Shape) -> bool:
        """Tell that it covers every frame."""
        return True

    def mask(self, _frame: Shape) -> Mask:
        """Return it as it is."""
        return self.pixels

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a picture; raise ConfigurationError if it cannot be read or is black all over."""
        try:
            pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        except cv2.error as error:  # of one that is larger than it may be
            raise ConfigurationError(f"{path}: not a readable picture: {error.err}") from error
        if pixels is None:
            raise ConfigurationError(f"{path}: not a readable picture; it must be grey, white where it means")
        if not (pixels >= _WHITE).any():
            raise ConfigurationError(f"{path}: the picture is black all over: it means no place at all")
        return cls(np.asarray(pixels, np.uint8))


Place = Polygon | Picture


@dataclass(frozen=True)
class Cells:
    """What the cells of a map `(h, w)` are judged by."""

    inspected: Bools | None  # None: all of them
    limits: npt.NDArray[np.intp] | None  # index into the view's limits; None: the view's own, everywhere


class Zones:
    """The places of one view."""

    def __init__(self, roi: Picture | None, excluded: Sequence[Place], judged: Sequence[Place]) -> None:
        """Take the ROI (None: everything is inspected), the exclusions and, in their order, the other zones."""
        self._roi = roi
        self._excluded = tuple(excluded)
        self._judged = tuple(judged)
        self._cells: dict[tuple[Shape, Shape], Cells | None] = {}

    @classmethod
    def read(cls, view: ViewRecipe) -> Self:
        """Read what a view's recipe names; raise ConfigurationError for any fault."""
        places: dict[bool, list[Place]] = {True: [], False: []}
        for zone in view.zones:
            if zone.mask is not None:
                places[zone.exclude].append(Picture.read(zone.mask))
            elif zone.polygon_px is not None:
                places[zone.exclude].append(Polygon(zone.polygon_px))
        roi = Picture.read(view.roi) if view.roi is not None else None
        return cls(roi, places[True], places[False])

    @property
    def sizes(self) -> list[tuple[Shape, Shape]]:
        """The sizes of map `(h, w)` and frame `(H, W)` that were asked for."""
        return list(self._cells)

    def cells(self, map_shape: Shape, frame: Shape) -> Cells | None:
        """Return what the cells of a map `(h, w)` of a frame `(H, W)` are; None if a polygon leaves the frame."""
        key = (map_shape, frame)
        if key not in self._cells:
            self._cells[key] = self._work_out(map_shape, frame)
        return self._cells[key]

    def _work_out(self, map_shape: Shape, frame: Shape) -> Cells | None:
        if not all(place.fits(frame) for place in (*self._excluded, *self._judged)):
            return None
        inspected = None
        if self._roi is not None:
            inspected = touched(self._roi.mask(frame) >= _WHITE, map_shape)
        for place in self._excluded:
            counts = touched(place.mask(frame) < _WHITE, map_shape)
            inspected = counts if inspected is None else inspected & counts
        if not self._judged:
            return Cells(inspected, None)
        limits = np.zeros(map_shape, np.intp)
        for number in range(len(self._judged), 0, -1):  # the last one first: those before it lie over it
            limits[touched(self._judged[number - 1].mask(frame) >= _WHITE, map_shape)] = number
        return Cells(inspected, limits)


def touched(mask: Bools, map_shape: Shape) -> Bools:
    """Return which cells of a map `(h, w)` hold or cut at least one true pixel of `mask` `(H, W)`."""
    rows, columns = map_shape
    height, width = mask.shape
    bands = np.empty((rows, width), np.bool_)
    for row in range(rows):
        bands[row] = mask[row * height // rows : -(-(row + 1) * height // rows)].any(axis=0)
    cells = np.empty(map_shape, np.bool_)
    for column in range(columns):
        cells[:, column] = bands[:, column * width // columns : -(-(column + 1) * width // columns)].any(axis=1)
    return cells
