"""What can be wrong with a part, from hardly visible (severity 0) to plain (severity 1), and where it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from ingest.parts.sheet import Bgr, Pixels
from ingest.parts.template import Sprite, Template

DefectKind = Literal["scratch", "chip", "stain", "missing", "misplaced"]
KINDS: tuple[DefectKind, ...] = get_args(DefectKind)
Mask = npt.NDArray[np.bool_]

_SHIFT = 4
_DIRECTIONS = 6  # tried until a feature stays on the part
_SHOWS = 0.12  # opacity from which a pixel counts as defective


@dataclass(frozen=True)
class Defect:
    """One defect of a part."""

    kind: DefectKind
    severity: float  # 0..1


@dataclass(frozen=True)
class Displacement:
    """A feature that is not in its place: away altogether, or moved and turned."""

    sprite: int
    away: bool
    move_px: tuple[float, float] = (0.0, 0.0)
    turn_deg: float = 0.0

    def mask(self, sprite: Sprite, shape: tuple[int, int]) -> Mask:
        """Return where it should be and where it is."""
        expected = sprite.footprint(shape, (0, 0), 0)
        return expected if self.away else expected | sprite.footprint(shape, self.move_px, self.turn_deg)


def displace(drawn: Template, defect: Defect, rng: np.random.Generator) -> Displacement:
    """Choose which feature is missing or misplaced: the more severe, the larger, or the farther from its place."""
    if defect.kind == "missing":
        by_area = sorted(range(len(drawn.sprites)), key=lambda index: drawn.sprites[index].area_px)
        place = defect.severity * rng.uniform(0.5, 1.0) + rng.uniform(0, 0.25)
        return Displacement(by_area[min(len(by_area) - 1, int(place * len(by_area)))], away=True)
    index = int(rng.integers(len(drawn.sprites)))
    sprite = drawn.sprites[index]
    distance = (0.02 + 0.034 * defect.severity) * drawn.scale_px
    # a long feature sweeps a wide arc when it turns
    turn = math.copysign(4 + 14 * defect.severity, rng.uniform(-1, 1)) * min(1.0, 0.06 / sprite.feature.reach)
    directions = rng.uniform(0, 2 * math.pi) + np.arange(_DIRECTIONS) * (2 * math.pi / _DIRECTIONS)
    moves = [(distance * math.cos(direction), distance * math.sin(direction)) for direction in directions]
    beyond = [int((sprite.footprint(drawn.body.shape, move, turn) & ~drawn.body).sum()) for move in moves]
    return Displacement(index, away=False, move_px=moves[int(np.argmin(beyond))], turn_deg=turn)


def spoil(surface: Pixels, drawn: Template, defect: Defect, rng: np.random.Generator) -> Mask:
    """Draw a scratch, chip or stain on `surface` `(H, W, 4)` and return where it shows."""
    draw = {"scratch": _scratch, "chip": _chip, "stain": _stain}[defect.kind]
    return draw(surface, drawn, defect.severity, rng)


def speckle(surface: Pixels, drawn: Template, rng: np.random.Generator) -> None:
    """Draw the specks that good parts have too."""
    for place in rng.choice(drawn.inside_px, rng.poisson(2.0)):
        y, x = divmod(int(place), surface.shape[1])
        opacity = _filled(surface, [_blob(x, y, rng.uniform(0.0012, 0.0028) * drawn.scale_px, 0.3, rng)])
        _blend(surface, opacity * rng.uniform(0.12, 0.24), (30, 34, 38) if rng.random() < 0.7 else (214, 214, 214))  # noqa: PLR2004 - dust is mostly dark


def _scratch(surface: Pixels, drawn: Template, severity: float, rng: np.random.Generator) -> Mask:
    unit = drawn.scale_px
    length, width = (0.12 + 0.28 * severity) * unit, (0.0035 + 0.0055 * severity) * unit
    y, x = divmod(int(rng.choice(drawn.inside_px)), surface.shape[1])
    angle, bend = rng.uniform(0, 2 * math.pi), rng.uniform(-0.7, 0.7)
    steps = np.linspace(-0.5, 0.5, 24)
    heading = angle + bend * steps
    points = np.stack([x + np.cumsum(np.cos(heading)) * length / 24, y + np.cumsum(np.sin(heading)) * length / 24], 1)
    points += (x, y) - points[12]
    points += rng.normal(0, 0.0012 * unit, points.shape)
    normal = np.stack([-np.sin(heading), np.cos(heading)], 1)
    # it begins and ends thin
    half = (width / 2 * np.sqrt(np.clip(1 - (2 * np.abs(steps)) ** 3, 0.1, 1)) * rng.uniform(0.7, 1.2, 24))[:, None]
    groove = np.concatenate([points - normal * half, (points + normal * half)[::-1]])
    burr = np.concatenate([points + normal * half, (points + normal * (half * 2.2))[::-1]])
    strength = 0.5 + 0.4 * severity
    bright = _filled(surface, [groove]) * drawn.solid * np.float32(strength)
    dark = _filled(surface, [burr]) * drawn.solid * np.float32(0.7 * strength)
    _blend(surface, dark, (24, 24, 24))
    _blend(surface, bright, drawn.material.scratch_bgr)
    return np.asarray(np.maximum(bright, dark) > _SHOWS)


def _chip(surface: Pixels, drawn: Template, severity: float, rng: np.random.Generator) -> Mask:
    radius = (0.018 + 0.034 * severity) * drawn.scale_px
    edge = rng.choice(drawn.outline_px)
    height, width = drawn.solid.shape
    outwards = edge - (width / 2, height / 2)
    beyond = edge + outwards * (0.35 * radius / max(1.0, float(np.hypot(*outwards))))
    broken = _filled(surface, [_blob(edge[0], edge[1], radius, 0.35, rng)]) * drawn.solid
    gone = _filled(surface, [_blob(beyond[0], beyond[1], radius, 0.3, rng)]) * drawn.solid
    _blend(surface, broken, drawn.material.fracture_bgr)
    _blend(surface, gone, (40, 38, 37))
    return np.asarray(np.maximum(broken, gone) > 0.5)  # noqa: PLR2004 - half covered


def _stain(surface: Pixels, drawn: Template, severity: float, rng: np.random.Generator) -> Mask:
    radius = (0.03 + 0.045 * severity) * drawn.scale_px
    y, x = divmod(int(rng.choice(drawn.inside_px)), surface.shape[1])
    drops = [_blob(x, y, radius, 0.45, rng)]
    for _ in range(rng.integers(1, 4)):
        off = rng.normal(0, radius * 0.9, 2)
        drops.append(_blob(x + off[0], y + off[1], radius * rng.uniform(0.2, 0.5), 0.4, rng))
    wet = np.zeros(surface.shape[:2], np.float32)
    for drop in drops:
        np.maximum(wet, _filled(surface, [drop]), out=wet)
    soft = cv2.GaussianBlur(wet, (0, 0), max(0.5, radius * 0.1))
    rim = np.clip(soft - cv2.GaussianBlur(wet, (0, 0), max(0.7, radius * 0.3)), 0, 1)  # it dries from its edge
    opacity = np.clip(soft * (0.3 + 0.35 * severity) + rim * 0.5, 0, 0.9) * drawn.solid
    _blend(surface, opacity.astype(np.float32), drawn.material.stain_bgr)
    return np.asarray(opacity > _SHOWS)


def _blob(x: float, y: float, radius: float, roughness: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    waves = sum(
        rng.normal(0, roughness / order) * np.sin(order * angles + rng.uniform(0, 6.3)) for order in (2, 3, 5, 7)
    )
    radii = radius * np.clip(1 + waves * 0.6, 0.35, 1.8)
    return np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)


def _filled(surface: Pixels, contours: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float32]:
    mask = np.zeros(surface.shape[:2], np.uint8)
    fixed = [np.round(contour * (1 << _SHIFT)).astype(np.int32) for contour in contours]
    cv2.fillPoly(mask, fixed, 255, cv2.LINE_AA, _SHIFT)
    return mask.astype(np.float32) / np.float32(255)


def _blend(surface: Pixels, opacity: npt.NDArray[np.float32], colour_bgr: Bgr) -> None:
    rows, columns = np.flatnonzero(opacity.any(axis=1)), np.flatnonzero(opacity.any(axis=0))
    if not rows.size:
        return
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    below = surface[window][..., :3]
    below[...] = np.round(below + (np.array(colour_bgr, np.float32) - below) * opacity[window][..., None])
