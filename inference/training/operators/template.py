"""What differs from a template, once the image lies where the template does."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.training.backbones.layers import rounded
from inference.training.operators.operator import Taught
from inference.training.operators.spectrum import Spectrum, spectrum

NOISE_GRAY = 1.0  # standard deviation of noise whose share of the spectrum tells of no shift
NEAR_PX = 1.0  # around the peak, within which it is placed between pixels
LEAST_PEAK = 1e-4


class Template(Taught):
    """Difference from the mean of good images, after registration by phase correlation.

    Kuglin and Hines, "The phase correlation image alignment method", 1975. The peak is looked for within `shift_px` of
    no shift at all, and placed between pixels by its neighbours. Rotation and scale are not followed.
    """

    peak: ClassVar[bool] = True
    operator: Literal["template"] = Field(default="template", description="what is missing, added or misplaced")
    shift_px: int = Field(default=8, ge=0, le=64, description="farthest shift that is made good, after resampling")

    def taught(self, gray: Tensor) -> nn.Module:
        """Return what compares with the mean of good images (M, 1, H, W), moved to where the most usual lies."""
        usual = (gray - gray.mean(dim=0)).square().mean(dim=(1, 2, 3)).argmin()
        first = Difference(gray[usual], self.shift_px)
        template = torch.stack([first.registered(one[None])[0] for one in gray]).mean(dim=0)
        return Difference(rounded(template), self.shift_px)


class Difference(nn.Module):
    """How far images are from a template (1, H, W), in shares of the grey scale."""

    def __init__(self, template: Tensor, shift_px: int) -> None:
        super().__init__()
        self.shift_px = shift_px
        self.register_buffer("template", template)

    def forward(self, gray: Tensor) -> Tensor:
        """Return (N, 1, H, W) of grey levels (N, 1, H, W)."""
        apart: Tensor = (self.registered(gray) - self.get_buffer("template")).abs() / 255.0
        return apart

    def registered(self, gray: Tensor) -> Tensor:
        """Return grey levels (N, 1, H, W) where the template lies; what comes in at an edge repeats the edge."""
        if not self.shift_px:
            return gray
        shift = self.shift(gray)
        down, right = (_moved(side, shift[:, axis]) for axis, side in enumerate(gray.shape[2:]))
        return (down @ gray[:, 0] @ right.mT)[:, None]

    def shift(self, gray: Tensor) -> Tensor:
        """Return how far images lie below and to the right of the template (N, 2), px."""
        height_px, width_px = gray.shape[2:]
        centred = (
            values - values.mean(dim=(1, 2), keepdim=True) for values in (gray[:, 0], self.get_buffer("template"))
        )
        one, other = map(spectrum, centred)
        cross = Spectrum(
            one.real * other.real + one.imaginary * other.imaginary,
            one.imaginary * other.real - one.real * other.imaginary,
        )
        phase = cross.scaled(1.0 / (cross.magnitude + NOISE_GRAY**2 * height_px * width_px))
        reach = torch.arange(-self.shift_px - 1, self.shift_px + 2)
        surface = phase.values(reach, reach, width_px).flatten(1)
        places = torch.cartesian_prod(reach, reach).to(torch.float32)
        # in deviations of chance: where there is a peak it alone counts, where there is none no shift comes of it
        peak = (surface * math.sqrt(height_px * width_px)).softmax(dim=1) @ places
        near = torch.exp((places - peak[:, None]).square().sum(dim=2) * (-0.5 / NEAR_PX**2)) * surface.clamp(min=0.0)
        return (near @ places) / (near.sum(dim=1, keepdim=True) + LEAST_PEAK)


def _moved(side_px: int, shift_px: Tensor) -> Tensor:
    """Return matrices (N, side_px, side_px) that bring what lies `shift_px` (N,) further to its place, linearly."""
    places = torch.arange(side_px, dtype=torch.float32)
    wanted = (places + shift_px[:, None]).clamp(0.0, side_px - 1.0)
    return (1.0 - (wanted[:, :, None] - places).abs()).clamp(min=0.0)
