"""Classical: named operators, and how far their responses deviate from those of good images, place by place.

Operators are data (a list of names with parameters) and become part of the graph: one engine runs every bundle.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import rounded
from inference.training.detector import CROSS_FIT, FrameFormat, Summary, finite
from inference.training.operators import AnyOperator
from inference.training.operators.edges import Laplacian, Sobel
from inference.training.operators.morphology import BlackHat, TopHat
from inference.training.operators.operator import Operator
from inference.training.progress import Progress
from inference.training.resampling import Resample

STEP_PX = 16  # sides are multiples: resampling works in as many bands, and cells fill the frame
GRAY_OF_BGR = (29 / 256, 150 / 256, 77 / 256)  # whole shares of a power of two: whole grey levels sum exactly

SUMMARY = Summary(
    title="Classical",
    paradigm="classical",
    paper="Sobel 1968, Serra 1982, Otsu 1979, Ojala et al. 2002: see each operator",
    what_for="fixed parts in even light at a few milliseconds, where each rejection must be explained",
    localises=True,
    fitting="seconds",
    images=20,
)


class Options(BaseModel):
    """What can be chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operators: tuple[AnyOperator, ...] = Field(
        default=(Sobel(), Laplacian(), TopHat(), BlackHat()),
        min_length=1,
        max_length=16,
        description="operators whose responses are judged, each by name with its parameters",
    )
    side_px: int = Field(default=512, ge=64, le=2048, description="longest side after resampling; never enlarged")
    cell_px: Literal[4, 8, 16] = Field(default=8, description="side of the cells over which responses are summed up")
    floor_gray: float = Field(
        default=2.0, ge=0.1, le=64.0, description="deviation in grey levels (of 255) that is never thought unusual"
    )


class Detector:
    """Responses of each cell, and their mean and deviation over good images."""

    minimum_images: ClassVar[int] = 2
    folds: ClassVar[int] = CROSS_FIT

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def licences(self) -> tuple[str, ...]:
        """Return none: no weights go in but what was learnt."""
        return ()

    def encoder(self, frames: FrameFormat) -> nn.Module:
        """Return resampling, grey, and each operator's responses by cells (N, h, w, K)."""
        sides = (_side_px(side_px, self.options.side_px) for side_px in (frames.height_px, frames.width_px))
        return Cells(Resample(*sides), self.options.operators, self.options.cell_px)

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:  # noqa: ARG002 - nothing is random
        """Learn the mean and deviation of features (N, h, w, K); raise InputError where one is not finite.

        A cell's variance is the largest of it and its eight neighbours, for an edge that moves does so across cells,
        and as much as a response varies over the whole frame on average: few images tell little of a single cell.
        """
        progress("statistics", 0, 1)
        centre = finite(features).mean(dim=0)
        variance = (features - centre).square().mean(dim=0)
        around = functional.max_pool2d(variance.permute(2, 0, 1)[None], 3, stride=1, padding=1)[0].permute(1, 2, 0)
        floor = (self.options.floor_gray / 255.0) ** 2
        deviation = (around + variance.mean(dim=(0, 1)) + floor).sqrt()
        progress("statistics", 1, 1)
        return Deviations(rounded(centre), rounded(1.0 / deviation))


class Cells(nn.Module):
    """The mean of each operator's response over square cells, and its largest where that says more."""

    def __init__(self, resample: Resample, operators: tuple[Operator, ...], cell_px: int) -> None:
        super().__init__()
        self.resample, self.operators, self.cell_px = resample, operators, cell_px
        self.register_buffer("gray", torch.tensor(GRAY_OF_BGR).reshape(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Return features (N, h, w, K) of uint8 frames (N, H, W, C)."""
        gray = self.resample(frames)
        if frames.shape[3] > 1:
            gray = (gray * self.get_buffer("gray")).sum(dim=1, keepdim=True)
        cells = []
        for operator in self.operators:
            responses = operator.respond(gray)
            cells.append(functional.avg_pool2d(responses, self.cell_px))
            if operator.peak:
                cells.append(functional.max_pool2d(responses, self.cell_px))
        return torch.cat(cells, dim=1).permute(0, 2, 3, 1)


class Deviations(nn.Module):
    """How far the worst of a cell's responses lies from its mean, in deviations; centre and scale are (h, w, K)."""

    def __init__(self, centre: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, K)."""
        apart: Tensor = ((features - self.get_buffer("centre")) * self.get_buffer("scale")).abs()
        return apart.amax(dim=3)


def _side_px(native_px: int, most_px: int) -> int:
    """Return the multiple of STEP_PX that a side is resampled to."""
    return max(min(native_px, most_px) // STEP_PX, 1) * STEP_PX
