"""The Fourier transform as products with cosines and sines, which every engine has, and what is done in it."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from inference.training.operators.operator import Operator

PASSES = 3  # a peak lifts the mean that it is compared with: each pass takes what is left of that


class Spectrum(NamedTuple):
    """Real and imaginary part (N, H, W / 2 + 1) of real values' transform, as `numpy.fft.rfft2` gives it."""

    real: Tensor
    imaginary: Tensor

    @property
    def magnitude(self) -> Tensor:
        """Return (N, H, W / 2 + 1)."""
        return (self.real.square() + self.imaginary.square()).sqrt()

    def scaled(self, gain: Tensor) -> Spectrum:
        """Return both parts times a gain (N, H, W / 2 + 1)."""
        return Spectrum(self.real * gain, self.imaginary * gain)

    def values(self, rows: Tensor, columns: Tensor, width_px: int) -> Tensor:
        """Return the values (N, len(rows), len(columns)) that it stands for at whole-numbered places, W even.

        Places below 0 or beyond the end are those on the other side.
        """
        height_px, bins = self.real.shape[1:]
        cos, sin = waves(rows, torch.arange(height_px), height_px)
        real = cos @ self.real - sin @ self.imaginary
        imaginary = cos @ self.imaginary + sin @ self.real
        cos, sin = waves(torch.arange(bins), columns, width_px)
        place = torch.arange(bins)[:, None]
        twice = 2.0 - ((place == 0) | (place == bins - 1)).to(torch.float32)  # the others have a mirror image
        return (real @ (cos * twice) - imaginary @ (sin * twice)) / (height_px * width_px)


def spectrum(values: Tensor) -> Spectrum:
    """Return the transform of values (N, H, W), W even."""
    height_px, width_px = values.shape[1:]
    cos, sin = waves(torch.arange(width_px), torch.arange(width_px // 2 + 1), width_px)
    real, imaginary = values @ cos, -(values @ sin)
    cos, sin = waves(torch.arange(height_px), torch.arange(height_px), height_px)
    return Spectrum(cos @ real + sin @ imaginary, cos @ imaginary - sin @ real)


def waves(one: Tensor, other: Tensor, period: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine (A, B) of 2 pi a b / period, of whole numbers (A,) and (B,): exact for any product."""
    turn = (one[:, None] * other).remainder(period).to(torch.float32) * (2.0 * math.pi / period)
    return turn.cos(), turn.sin()


class FourierNotch(Operator):
    """What is left of an image when the peaks of its spectrum are cut: all that repeats over the whole image is gone.

    A peak is a magnitude above `times` the mean of those around it, and is cut down to that; nothing has to be
    known of the pattern's period or direction, and where it lies does not matter. Tsai and Hsieh, "Automated surface
    inspection for directional textures", Image and Vision Computing 1999, cut lines in the spectrum likewise.
    """

    peak: ClassVar[bool] = True
    operator: Literal["fourier_notch"] = Field(
        default="fourier_notch", description="flaws in what repeats: weave, grid, grinding marks"
    )
    times: float = Field(default=4.0, ge=1.5, le=100.0, description="magnitude of a peak, in means of those around it")
    radius: int = Field(default=3, ge=1, le=7, description="how far around, in bins of the spectrum")

    def respond(self, gray: Tensor) -> Tensor:
        """Return (N, 1, H, W)."""
        height_px, width_px = gray.shape[2:]
        found = spectrum(gray[:, 0])
        for _ in range(PASSES):
            magnitude = found.magnitude
            limit = self.times * _around(magnitude, self.radius)
            found = found.scaled((limit / magnitude.clamp(min=1e-6)).clamp(max=1.0))
        left = found.values(torch.arange(height_px), torch.arange(width_px), width_px)
        return left.abs()[:, None] / 255.0


def _around(magnitude: Tensor, radius: int) -> Tensor:
    """Return the mean over (2 * radius + 1) squared bins of (N, H, F), beyond whose ends the mirror image lies."""
    rows, bins = magnitude.shape[1:]
    reach = min(radius, bins - 1)
    turned = magnitude.index_select(1, (-torch.arange(rows)).remainder(rows))
    before = turned.index_select(2, torch.arange(reach, 0, -1))
    behind = turned.index_select(2, torch.arange(bins - 2, bins - 2 - reach, -1))
    wide = torch.cat([before, magnitude, behind], dim=2)
    wide = wide.index_select(1, torch.arange(-radius, rows + radius).remainder(rows))
    return functional.avg_pool2d(wide[:, None], (2 * radius + 1, 2 * reach + 1), stride=1)[:, 0]
