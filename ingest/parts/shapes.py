"""Outlines of things, as contours in part units: 1 is the shorter side of the frame, (0, 0) its middle, y points down.

A shape is a list of contours, each `(N, 2)` float64; where contours lie inside one another, every second one is a hole.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Contour = npt.NDArray[np.float64]
Shape = list[Contour]

_FILLET_POINTS = 7


def disc(x: float, y: float, radius: float) -> Shape:
    """Return a disc."""
    return [_arc(x, y, radius, 0, 360)]


def ring(x: float, y: float, outer: float, inner: float) -> Shape:
    """Return a disc with a round hole."""
    return [_arc(x, y, outer, 0, 360), _arc(x, y, inner, 0, 360)]


def sector(x: float, y: float, inner: float, outer: float, start_deg: float, end_deg: float) -> Shape:
    """Return the piece of a ring between two angles, clockwise from three o'clock."""
    return [np.concatenate([_arc(x, y, outer, start_deg, end_deg), _arc(x, y, inner, end_deg, start_deg)])]


def box(x: float, y: float, width: float, height: float, corner: float = 0.0, angle_deg: float = 0.0) -> Shape:
    """Return a rectangle around its middle, with rounded corners, turned clockwise."""
    half = np.array([width, height]) / 2
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    contour = _rounded(corners, corner) if corner else corners
    return [contour @ _turn(angle_deg).T + (x, y)]


def polygon(points: Sequence[tuple[float, float]], corner: float = 0.0) -> Shape:
    """Return a polygon with rounded corners."""
    contour = np.array(points, float)
    return [_rounded(contour, corner) if corner else contour]


def path(points: Sequence[tuple[float, float]], width: float) -> list[Shape]:
    """Return the pieces of a line of this width through the points, with round joints."""
    pieces = [disc(x, y, width / 2) for x, y in points]
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        length, angle_deg = math.hypot(bx - ax, by - ay), math.degrees(math.atan2(by - ay, bx - ax))
        pieces.append(box((ax + bx) / 2, (ay + by) / 2, length, width, angle_deg=angle_deg))
    return pieces


def _arc(x: float, y: float, radius: float, start_deg: float, end_deg: float) -> Contour:
    steps = max(8, round(abs(end_deg - start_deg) / 4))
    angles = np.radians(np.linspace(start_deg, end_deg, steps + 1))
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


def _rounded(corners: Contour, radius: float) -> Contour:
    before, after = np.roll(corners, 1, axis=0) - corners, np.roll(corners, -1, axis=0) - corners
    start = corners + before * (radius / np.linalg.norm(before, axis=1, keepdims=True))
    end = corners + after * (radius / np.linalg.norm(after, axis=1, keepdims=True))
    along = np.linspace(0, 1, _FILLET_POINTS)[:, None]
    # a quadratic Bezier curve around each corner
    curves = [
        (1 - along) ** 2 * a + 2 * along * (1 - along) * c + along**2 * b
        for a, c, b in zip(start, corners, end, strict=True)
    ]
    return np.concatenate(curves)


def _turn(angle_deg: float) -> Contour:
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[cos, -sin], [sin, cos]])
