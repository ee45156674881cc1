"""Grey levels: how often which occurs."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from inference.training.operators.operator import Operator

LEVELS = 64  # of the histogram in which Otsu's threshold is looked for
COARSE_PX = 4
PLATEAU = 0.99


class Histogram(Operator):
    """Share of each of a few grey levels; a pixel between two belongs to both, in part."""

    operator: Literal["histogram"] = Field(default="histogram", description="wrong brightness, stains")
    levels: int = Field(default=8, ge=2, le=32, description="grey levels told apart, black and white among them")

    def respond(self, gray: Tensor) -> Tensor:
        """Return each level's membership (N, levels, H, W), which sum to 1 at every pixel."""
        return memberships(gray, self.levels)


class Otsu(Operator):
    """Whether a pixel is above the image's own threshold (Otsu, IEEE Trans. SMC 1979).

    The threshold is the middle of those that part the grey levels as well as the best one, within a hundredth: across a
    gap in the histogram all are equally good, and which is best would be chance. Above it the response rises to 1
    within an eighth of the scale, so that a threshold that moves a little moves it a little.
    """

    operator: Literal["otsu"] = Field(default="otsu", description="shape of what is bright, whatever the light")

    def respond(self, gray: Tensor) -> Tensor:
        """Return (N, 1, H, W)."""
        return ((gray - threshold(gray)) / 32.0 + 0.5).clamp(0.0, 1.0)


def memberships(gray: Tensor, levels: int) -> Tensor:
    """Return how far each pixel of gray (N, 1, H, W) belongs to each of equally spaced levels, (N, levels, H, W)."""
    places = torch.arange(levels, dtype=torch.float32).reshape(1, levels, 1, 1)
    return (1.0 - (gray * ((levels - 1) / 255.0) - places).abs()).clamp(min=0.0)


def threshold(gray: Tensor) -> Tensor:
    """Return Otsu's threshold (N, 1, 1, 1) of gray (N, 1, H, W), from every fourth pixel either way."""
    shares = memberships(gray[:, :, ::COARSE_PX, ::COARSE_PX], LEVELS).mean(dim=(2, 3))
    places = torch.arange(LEVELS, dtype=torch.float32)
    upto = (places[:, None] <= places[None, :]).to(torch.float32)
    below, moment = shares @ upto, (shares * places) @ upto
    mean = (shares * places).sum(dim=1, keepdim=True)
    between = (mean * below - moment).square() / (below * (1.0 - below)).clamp(min=1e-4)
    near = (between - PLATEAU * between.amax(dim=1, keepdim=True)).clamp(min=0.0)
    best = (near * (places + 0.5)).sum(dim=1) / near.sum(dim=1).clamp(min=1e-9)
    return (best * (255.0 / (LEVELS - 1)))[:, None, None, None]
