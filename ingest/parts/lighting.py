"""How the camera sees a part: lamps that drift and are uneven, the surface's grain, shot noise and read noise."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from ingest.parts.product import Material
from ingest.parts.sheet import Pixels

Field = npt.NDArray[np.float32]

_DRIFT = ((0.05, 67.0), (0.035, 211.0))  # share of the exposure, period in parts
_GRADIENT = 0.05  # rise of brightness from one edge to the other, as a share
_TINT = 0.006
_TONE = 0.02
_MOTTLE = 0.012
_MOTTLE_CELLS = 7
_SHOT_NOISE = 0.022  # variance per grey level: a full well of about 12,000 electrons
_READ_NOISE = 1.0  # grey levels
_NOISE_POOL = 1 << 21
_GRAINS = 8  # parts' share of the tile's side that is left to choose from


def exposed(surface: Pixels, material: Material, seed: int, sequence: int, rng: np.random.Generator) -> Pixels:
    """Return the frame `(H, W, C)` that a camera takes of a surface `(H, W, C + 1)`, whose last channel is grain."""
    height, width, channels = surface.shape[0], surface.shape[1], surface.shape[2] - 1
    light = _light(width, height, seed, sequence, rng)
    grain = _grain(material.grain, width, height)
    left = rng.integers(grain.shape[1] - width + 1)
    top = rng.integers(grain.shape[0] - height + 1)
    tile = grain[top : top + height, left : left + width]
    tone = rng.normal(0, _TONE)
    relative = cv2.multiply(
        tile * np.float32(material.grain_strength) + np.float32(tone), surface[..., -1], scale=1 / 255, dtype=cv2.CV_32F
    )
    exposure = cv2.multiply(light, relative + np.float32(1))
    tint = 1 + np.clip(rng.normal(0, _TINT, 3), -2 * _TINT, 2 * _TINT)
    gains = cv2.merge([exposure * np.float32(share) for share in tint]) if channels > 1 else exposure
    signal = cv2.multiply(gains, np.ascontiguousarray(surface[..., :channels]), dtype=cv2.CV_32F)
    deviation = cv2.sqrt(signal * np.float32(_SHOT_NOISE) + np.float32(_READ_NOISE**2))
    noise = cv2.multiply(deviation, _noise(signal.size, rng).reshape(signal.shape))
    return np.asarray(cv2.add(signal, noise, dtype=cv2.CV_8U), np.uint8).reshape(height, width, channels)


def _light(width: int, height: int, seed: int, sequence: int, rng: np.random.Generator) -> Field:
    phases = np.random.default_rng([seed]).uniform(0, 2 * math.pi, len(_DRIFT))
    drift = sum(
        share * math.sin(2 * math.pi * sequence / period + phase)
        for (share, period), phase in zip(_DRIFT, phases, strict=True)
    )
    across, down = rng.normal(0, _GRADIENT / 2, 2) + _GRADIENT * np.sin(phases[:2] + sequence / 90)
    cells = np.linspace(-0.5, 0.5, _MOTTLE_CELLS)
    plane = 1 + drift + rng.normal(0, 0.008) + across * cells[None, :] + down * cells[:, None]
    mottled = plane + rng.normal(0, _MOTTLE, plane.shape)
    return np.asarray(
        cv2.resize(mottled.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )


@lru_cache(maxsize=8)
def _grain(kind: str, width: int, height: int) -> Field:
    rows, columns = height + height // _GRAINS + 1, width + width // _GRAINS + 1
    unit = min(width, height)
    rng = np.random.default_rng([len(kind), width, height])
    field: npt.NDArray[np.floating | np.integer] = rng.standard_normal((rows, columns), np.float32)
    if kind == "brushed":
        field = cv2.GaussianBlur(field, (0, 0), sigmaX=0.09 * unit, sigmaY=max(0.4, 0.0012 * unit))
    elif kind == "woven":
        field = cv2.GaussianBlur(field, (0, 0), max(0.5, 0.004 * unit))
        weave = (
            np.sin(np.arange(columns) * (2 * math.pi / (0.016 * unit)))[None]
            * np.sin(np.arange(rows) * (2 * math.pi / (0.016 * unit)))[:, None]
        )
        field = field / field.std() + 0.4 * weave.astype(np.float32)
    else:
        field = cv2.GaussianBlur(field, (0, 0), max(0.6, 0.003 * unit))
    return np.asarray(field / field.std(), np.float32)


@lru_cache(maxsize=1)
def _pool() -> Field:
    return np.random.default_rng(0).standard_normal(_NOISE_POOL, np.float32)


def _noise(count: int, rng: np.random.Generator) -> Field:
    # drawing a normal number for each pixel would take longer than all the rest: cut pieces from a pool instead
    pool, piece = _pool(), _NOISE_POOL // 2
    noise = np.empty(count, np.float32)
    for start in range(0, count, piece):
        size = min(piece, count - start)
        offset = rng.integers(_NOISE_POOL - size)
        noise[start : start + size] = pool[offset : offset + size]
    return noise
