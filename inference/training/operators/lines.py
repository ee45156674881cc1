"""Lines: edges as Canny finds them, and what is left of a shape when it is thinned.

Both decide step by step, where a graph has a fixed number of steps; and both ask yes or no, where a rounding that
differs between engines must not matter. So steps are a parameter, and answers are numbers from 0 to 1: plain ones where
the plain answer is clear.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from inference.training.operators.intensity import threshold
from inference.training.operators.operator import Operator, at_least

CREST_GRAY = 0.1  # by which a gradient may be less than the next one's and still be a crest, in part
RING = torch.eye(9)[[1, 2, 5, 8, 7, 6, 3, 0]].reshape(8, 1, 3, 3)  # picks P2 to P9 of the paper: from above, clockwise
SOUTH_EAST = torch.tensor([0, 2, 4, 2, 4, 6])  # P2 P4 P6 and P4 P6 P8: what keeps a pixel in the first half of a round
NORTH_WEST = torch.tensor([0, 2, 6, 0, 4, 6])


class Canny(Operator):
    """Thin edges, weak ones only where they hang on strong ones (Canny, PAMI 1986).

    Gaussian, Sobel, crests of the gradient between interpolated neighbours, two thresholds; the hysteresis follows a
    weak edge for `steps` pixels from a strong one, where the paper follows it to its end.
    """

    peak: ClassVar[bool] = True
    operator: Literal["canny"] = Field(default="canny", description="edges where none belong, or none where one does")
    sigma_px: float = Field(default=1.0, ge=0.3, le=5.0, description="smoothing before, after resampling")
    low_gray: float = Field(default=10.0, ge=1.0, le=255.0, description="rise of a weak edge, grey levels over 2 px")
    high_gray: float = Field(default=25.0, ge=1.0, le=255.0, description="rise of a strong edge")
    steps: int = Field(default=8, ge=0, le=64, description="pixels that a weak edge is followed from a strong one")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low_gray > self.high_gray:
            raise ValueError(f"low_gray must be at most high_gray ({self.high_gray:g}), not {self.low_gray:g}")
        return self

    def respond(self, gray: Tensor) -> Tensor:
        """Return (N, 1, H, W): 1 on an edge."""
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4.0
        kernels = torch.stack([across, across.T])[:, None]
        slopes = functional.conv2d(functional.pad(self._smooth(gray), (1, 1, 1, 1), mode="replicate"), kernels)
        dx, dy = slopes[:, :1], slopes[:, 1:]
        rise = (dx.square() + dy.square()).sqrt()
        weak = at_least(rise, torch.full((), self.low_gray)) * _crests(rise, dx, dy)
        edges = torch.minimum(weak, at_least(rise, torch.full((), self.high_gray)))
        for _ in range(self.steps):
            edges = torch.minimum(weak, functional.max_pool2d(edges, 3, stride=1, padding=1))
        return edges

    def _smooth(self, gray: Tensor) -> Tensor:
        reach_px = math.ceil(4.0 * self.sigma_px)
        kernel = torch.exp(-0.5 * (torch.arange(-reach_px, reach_px + 1) / self.sigma_px).square())
        kernel = (kernel / kernel.sum()).reshape(1, 1, 1, -1)
        wide = functional.pad(gray, (reach_px,) * 4, mode="replicate")
        return functional.conv2d(functional.conv2d(wide, kernel), kernel.mT)


def _crests(rise: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Return where the rise is no less than on either side along the gradient, between two neighbours each."""
    height_px, width_px = rise.shape[2:]
    wide = functional.pad(rise, (1, 1, 1, 1))

    def further(y: int, x: int) -> Tensor:
        return wide[:, :, 1 + y : 1 + y + height_px, 1 + x : 1 + x + width_px]

    flat, falling = dx.abs() >= dy.abs(), dx * dy < 0.0
    share = torch.minimum(dx.abs(), dy.abs()) / torch.maximum(dx.abs(), dy.abs()).clamp(min=1e-6)
    sides = []
    for way in (1, -1):
        straight = torch.where(flat, further(0, way), further(way, 0))
        against = torch.where(flat, further(-way, way), further(way, -way))
        aslant = torch.where(falling, against, further(way, way))
        sides.append(straight + (aslant - straight) * share)
    return ((rise - torch.maximum(*sides)) * (1.0 / CREST_GRAY) + 1.0).clamp(0.0, 1.0)


class Skeleton(Operator):
    """What is left of a shape when it is thinned to lines (Zhang and Suen, Communications of the ACM 1984).

    The shape is what Otsu's threshold parts from the rest. The paper thins until nothing changes: here what is thicker
    than twice `steps` keeps a core. Between yes and no, sums and products take the place of counting.
    """

    peak: ClassVar[bool] = True
    operator: Literal["skeleton"] = Field(default="skeleton", description="wires, cracks and tracks: broken, branched")
    of: Literal["bright", "dark"] = Field(default="bright", description="whether the shape is brighter than the rest")
    steps: int = Field(default=4, ge=1, le=32, description="rounds of thinning; each takes seconds to export")

    def respond(self, gray: Tensor) -> Tensor:
        """Return (N, 1, H, W): 1 on the skeleton."""
        above = gray - threshold(gray)
        shape = ((above if self.of == "bright" else -above) + 0.5).clamp(0.0, 1.0)
        for _ in range(self.steps):
            shape = _thinned(_thinned(shape, SOUTH_EAST), NORTH_WEST)
        return shape


def _thinned(shape: Tensor, places: Tensor) -> Tensor:
    """Return a shape (N, 1, H, W) less its rim: half a round. Neither three of `places` (6,) may all be set."""
    ring, onward = functional.conv2d(shape, RING, padding=1), functional.conv2d(shape, RING.roll(-1, dims=0), padding=1)
    count = ring.sum(dim=1, keepdim=True)
    rises = count - (ring * onward).sum(dim=1, keepdim=True)
    threes = ring.index_select(1, places).reshape(-1, 2, 3, *shape.shape[2:]).prod(dim=2)
    rim = (3.0 - (count - 4.0).abs()).clamp(0.0, 1.0) * (1.0 - (rises - 1.0).abs()).clamp(min=0.0)
    left: Tensor = shape * (1.0 - rim * (1.0 - threes).prod(dim=1, keepdim=True))
    return left
