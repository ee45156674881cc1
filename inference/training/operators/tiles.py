"""Texture by square tiles: which grey levels lie side by side, and how alike a tile is to itself a little further."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from inference.training.operators.intensity import memberships
from inference.training.operators.operator import Operator

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))  # (y, x): 0, 45, 90 and 135 degrees
NOISE_GRAY = 1.0  # standard deviation below which a tile counts as plain: camera noise has no texture
LEAST_SHARE = 1e-6
LEAST_VARIANCE = 1e-3  # in squared levels


class Tiled(Operator):
    """What is computed once for each tile: all its pixels have the same responses. Pairs lie inside one tile."""

    tile_px: Literal[8, 16] = Field(default=16, description="side of the tiles, after resampling")


class Cooccurrence(Tiled):
    """Properties of the grey level co-occurrence matrix (Haralick, Shanmugam and Dinstein, IEEE Trans. SMC 1973).

    One symmetric matrix a tile, of the four directions together. A pixel between two levels belongs to both, in part.
    """

    operator: Literal["glcm"] = Field(default="glcm", description="texture: coarse or fine, ordered or not")
    lag_px: int = Field(default=1, ge=1, le=7, description="distance of the pixels of a pair, after resampling")
    levels: int = Field(default=8, ge=2, le=16, description="grey levels told apart")

    def respond(self, gray: Tensor) -> Tensor:
        """Return contrast, dissimilarity, homogeneity, energy, correlation and entropy (N, 6, H, W).

        Contrast, dissimilarity and entropy are shares of their largest values.
        """
        shares = tiles(memberships(gray, self.levels), self.tile_px)
        pairs = [
            one.flatten(3, 4).mT @ other.flatten(3, 4)
            for one, other in (_pair(shares, self.lag_px * y, self.lag_px * x) for y, x in DIRECTIONS)
        ]
        counts = torch.stack(pairs).sum(dim=0)
        counts = counts + counts.mT
        matrix = counts / counts.sum(dim=(3, 4), keepdim=True)  # (N, h, w, levels, levels)
        level = torch.arange(self.levels, dtype=torch.float32)
        apart = (level[:, None] - level).abs()
        mean = (matrix.sum(dim=4) * level).sum(dim=3, keepdim=True)
        variance = (matrix.sum(dim=4) * (level - mean).square()).sum(dim=3)
        contrast = (matrix * apart.square()).sum(dim=(3, 4))
        properties = (
            contrast / (self.levels - 1) ** 2,
            (matrix * apart).sum(dim=(3, 4)) / (self.levels - 1),
            (matrix / (1.0 + apart.square())).sum(dim=(3, 4)),
            matrix.square().sum(dim=(3, 4)).sqrt(),
            1.0 - 0.5 * contrast / (variance + LEAST_VARIANCE),  # covariance over variance, without cancellation
            -(matrix * matrix.clamp(min=LEAST_SHARE).log()).sum(dim=(3, 4)) / (2.0 * math.log(self.levels)),
        )
        return spread(torch.stack(properties, dim=1), self.tile_px)


class Autocorrelation(Tiled):
    """How alike a tile is to itself moved by a few pixels: what repeats, how finely, and in which direction."""

    operator: Literal["autocorrelation"] = Field(
        default="autocorrelation", description="broken rhythm of a weave, thread or grid"
    )
    lags_px: tuple[int, ...] = Field(
        default=(1, 2, 4), min_length=1, max_length=4, description="distances it is moved by, after resampling"
    )

    @model_validator(mode="after")
    def _within_the_tile(self) -> Self:
        if not all(1 <= lag_px < self.tile_px for lag_px in self.lags_px):
            raise ValueError(f"lags_px must be from 1 to {self.tile_px - 1}, less than tile_px, not {self.lags_px}")
        return self

    def respond(self, gray: Tensor) -> Tensor:
        """Return the correlation of each lag in four directions (N, 4 * lags, H, W), about -1 to 1; 0 where plain."""
        values = tiles(gray, self.tile_px)
        centred = values - values.mean(dim=(3, 4), keepdim=True)
        power = centred.square().mean(dim=(3, 4, 5)) + NOISE_GRAY**2
        pairs = (_pair(centred, lag_px * y, lag_px * x) for lag_px in self.lags_px for y, x in DIRECTIONS)
        return spread(torch.stack([(a * b).mean(dim=(3, 4, 5)) / power for a, b in pairs], dim=1), self.tile_px)


def tiles(values: Tensor, tile_px: int) -> Tensor:
    """Return values (N, K, H, W), sides multiples of `tile_px`, as tiles (N, h, w, tile_px, tile_px, K)."""
    channels, height_px, width_px = values.shape[1:]
    parted = values.reshape(-1, channels, height_px // tile_px, tile_px, width_px // tile_px, tile_px)
    return parted.permute(0, 2, 4, 3, 5, 1)


def spread(responses: Tensor, tile_px: int) -> Tensor:
    """Return responses (N, K, h, w) of tiles for each of their pixels (N, K, H, W)."""
    channels, rows, columns = responses.shape[1:]
    wide = responses[:, :, :, None, :, None].expand(-1, -1, -1, tile_px, -1, tile_px)
    return wide.reshape(-1, channels, rows * tile_px, columns * tile_px)


def _pair(parts: Tensor, y: int, x: int) -> tuple[Tensor, Tensor]:
    """Return the pixels of tiles (N, h, w, t, t, K) that have one (y, x) further, y >= 0, and these further ones."""
    rows, columns = parts.shape[3] - y, parts.shape[4] - abs(x)
    left, right = max(-x, 0), max(x, 0)
    return parts[:, :, :, :rows, left : left + columns], parts[:, :, :, y:, right : right + columns]
