"""Defects drawn on good images, for what learns to tell one from the other. Pure.

After CutPaste (Li et al., CVPR 2021: patches and scars cut from elsewhere), DRAEM (Zavrtanik et al., ICCV 2021:
blotches of noise filled from other pictures) and what breaks in most materials: spots, lines and bitten edges.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Random = np.random.Generator

LEAST_CHANGE_GRAY = 4.0  # of 255: what changes less is no defect that anything could be asked to see
BRIGHTEST = 255.0
DARK_SHARE = 0.7  # of the drawn defects; the others are bright
USUAL_SIDE_PX = 320  # the lengths below are for images of this side, and scaled for others


def spoiled(image: Image, other: Image, number: int, random: Random) -> tuple[Image, npt.NDArray[np.bool_]]:
    """Return a copy of float32 `image` (H, W, C) with one defect, and where (H, W) it is changed enough to be seen.

    `number` says which kind of defect, in turn; `other` is another good image of the same shape.
    """
    changed = np.clip(KINDS[number % len(KINDS)](image, other, random), 0.0, BRIGHTEST).astype(np.float32)
    return changed, np.abs(changed - image).max(axis=2) > LEAST_CHANGE_GRAY


def spot(image: Image, other: Image, random: Random) -> Image:  # noqa: ARG001 - all kinds are called alike
    """Return an image with one or two holes or specks of uneven outline."""
    height, width, side = _sides(image)
    alpha = np.zeros((height, width), np.float32)
    for _ in range(int(random.integers(1, 3))):
        corners = int(random.integers(6, 12))
        radius = random.uniform(3, 12) * side * random.uniform(0.6, 1.3, corners)
        angle = np.sort(random.uniform(0, 2 * np.pi, corners))
        middle = random.uniform(0.03, 0.97, 2) * (width, height)
        flat = random.uniform(0.5, 1.0)
        _fill(alpha, np.stack([np.cos(angle) * radius, flat * np.sin(angle) * radius], axis=1) + middle)
    return _lit(image, _soft(alpha, 0.7 * side), _gain(random))


def line(image: Image, other: Image, random: Random) -> Image:  # noqa: ARG001 - all kinds are called alike
    """Return an image with a thin line that wanders: a crack or a scratch."""
    height, width, side = _sides(image)
    alpha = np.zeros((height, width), np.float32)
    steps = int(random.integers(6, 30))
    angle = random.uniform(0, 2 * np.pi) + np.cumsum(random.normal(0, 0.3, steps))
    stride = random.uniform(4, 10) * side
    path = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1) * stride, axis=0)
    path += random.uniform(0.05, 0.95, 2) * (width, height)
    thickness = max(1, round(int(random.integers(1, 4)) * side))
    cv2.polylines(alpha, [np.round(path).astype(np.int32)], isClosed=False, color=1.0, thickness=thickness)
    return _lit(image, np.minimum(1.3 * _soft(alpha, random.uniform(0.5, 1.0) * side), 1.0), _gain(random))


def patch(image: Image, other: Image, random: Random) -> Image:
    """Return an image with a patch or a scar from elsewhere in it, or from another image, brighter or darker."""
    height, width, side = _sides(image)
    down, right = random.uniform(12, 110, 2) * side
    if random.random() < 0.5:  # noqa: PLR2004 - a scar as often as not
        down, right = random.permutation([random.uniform(3, 14) * side, random.uniform(30, 140) * side])
    rows, columns = min(max(1, round(down)), height), min(max(1, round(right)), width)
    y, from_y = random.integers(0, height - rows, 2, endpoint=True)
    x, from_x = random.integers(0, width - columns, 2, endpoint=True)
    source = other if random.random() < 0.5 else image  # noqa: PLR2004 - the one as often as the other
    cut = source[from_y : from_y + rows, from_x : from_x + columns]
    changed = image.copy()
    changed[y : y + rows, x : x + columns] = cut[:: random.choice([1, -1])] * random.uniform(0.6, 1.4)
    return changed


def blotch(image: Image, other: Image, random: Random) -> Image:
    """Return an image with a large stain, or an area that is finished like another image's."""
    height, width, side = _sides(image)
    noise = random.normal(size=(int(random.integers(2, 7)),) * 2).astype(np.float32)
    clouds = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    covered = clouds > np.quantile(clouds, random.uniform(0.6, 0.95))
    labels, labelled = cv2.connectedComponents(covered.astype(np.uint8))
    alpha = _soft((labelled == random.integers(1, max(labels, 2))).astype(np.float32), random.uniform(0.7, 4) * side)
    gain = random.uniform(0.5, 0.85) if random.random() < 0.5 else random.uniform(1.15, 1.6)  # noqa: PLR2004 - as often
    if random.random() < 0.5:  # noqa: PLR2004 - as often as not
        return _lit(image, alpha, gain)
    alike = other * (image.mean() / max(float(other.mean()), 1.0))
    return np.asarray(image + alpha[:, :, None] * (alike * gain - image), np.float32)


def bite(image: Image, other: Image, random: Random) -> Image:  # noqa: ARG001 - all kinds are called alike
    """Return an image of whose edge something is broken off."""
    turns = int(random.integers(4))
    turned = np.ascontiguousarray(np.rot90(image, turns))
    height, width, side = _sides(turned)
    across = np.linspace(-0.5, 0.5, 8)
    long, deep = random.uniform(10, 80) * side, random.uniform(4, 30) * side
    edge = deep * np.sqrt(1 - (2 * across) ** 2) * random.uniform(0.5, 1.3, len(across))
    outline = np.stack([long * across + random.uniform() * width, edge], axis=1)
    alpha = np.zeros((height, width), np.float32)
    _fill(alpha, np.vstack([outline, outline[::-1] * (1, 0) - (0, 5)]))
    gain = random.uniform(0.1, 0.5) if random.random() < DARK_SHARE else _gain(random)
    return np.ascontiguousarray(np.rot90(_lit(turned, _soft(alpha, 0.8 * side), gain), -turns))


KINDS: tuple[Callable[[Image, Image, Random], Image], ...] = (spot, line, patch, blotch, bite)


def _sides(image: Image) -> tuple[int, int, float]:
    """Return height, width, and by what lengths are to be multiplied."""
    height, width = image.shape[:2]
    return height, width, min(height, width) / USUAL_SIDE_PX


def _gain(random: Random) -> float:
    return random.uniform(0.25, 0.8) if random.random() < DARK_SHARE else random.uniform(1.2, 1.8)


def _fill(alpha: Image, outline: npt.NDArray[np.float64]) -> None:
    cv2.fillPoly(alpha, [np.round(outline).astype(np.int32)], color=1.0)


def _soft(alpha: Image, sigma_px: float) -> Image:
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), max(sigma_px, 0.3)), np.float32)


def _lit(image: Image, alpha: Image, gain: float) -> Image:
    return np.asarray(image * (1 + alpha[:, :, None] * (gain - 1)), np.float32)
