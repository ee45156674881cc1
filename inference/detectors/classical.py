"""Classical: named operators, and how far their responses deviate from those of good images, place by place and whole.

Operators are data (a list of names with parameters) and become part of the graph: one engine runs every bundle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import rounded
from inference.training.detector import CROSS_FIT, FrameFormat, Summary, finite
from inference.training.gaussian import Scale, Standardise, gaussian
from inference.training.operators import AnyOperator
from inference.training.operators.edges import Laplacian, Sobel
from inference.training.operators.morphology import BlackHat, TopHat
from inference.training.operators.operator import Named, Operator, Taught
from inference.training.progress import Progress
from inference.training.resampling import Resample

STEP_PX = 16  # sides are multiples: resampling works in as many bands, and cells fill the frame
_LEAST_DEVIATION = 1e-3
GRAY_OF_BGR = (29 / 256, 150 / 256, 77 / 256)  # whole shares of a power of two: whole grey levels sum exactly

SUMMARY = Summary(
    title="Classical",
    paradigm="classical",
    paper="Sobel 1968, Haralick 1973, Otsu 1979, Serra 1982, Canny 1986, Ojala et al. 2002: see each operator",
    what_for="fixed parts or textures in even light at a few milliseconds, where each rejection must be explained",
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
        """Return resampling, grey, and each operator's responses by cells (N, h, w, K).

        Where operators have to be taught, what they are taught goes along: the pixels of each cell, last.
        """
        sides = (_side_px(side_px, self.options.side_px) for side_px in (frames.height_px, frames.width_px))
        return Cells(Resample(*sides), self.options.operators, self.options.cell_px)

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:  # noqa: ARG002 - nothing is random
        """Teach operators, and learn the mean and deviation of features (N, h, w, K); InputError: one is not finite.

        A cell's variance is the largest of it and its eight neighbours, for an edge that moves does so across cells,
        and as much as a response varies over the whole frame on average: few images tell little of a single cell.
        The means over the whole frame are learnt besides: what differs a little everywhere is unusual nowhere.
        """
        progress("statistics", 0, 1)
        named = [operator for operator in self.options.operators if isinstance(operator, Taught)]
        if not named:
            return self._deviations(finite(features), progress)
        gray = pixels(finite(features), self.options.cell_px)
        taught = TaughtCells(named, [operator.taught(gray) for operator in named], self.options.cell_px)
        together = torch.cat([taught(one[None]) for one in features])
        return nn.Sequential(taught, self._deviations(together, progress))

    def _deviations(self, features: Tensor, progress: Progress) -> Deviations:
        centre = features.mean(dim=0)
        variance = (features - centre).square().mean(dim=0)
        around = functional.max_pool2d(variance.permute(2, 0, 1)[None], 3, stride=1, padding=1)[0].permute(1, 2, 0)
        floor = (self.options.floor_gray / 255.0) ** 2
        deviation = (around + variance.mean(dim=(0, 1)) + floor).sqrt()
        cells = features.shape[1] * features.shape[2]
        whole = Whole(features.mean(dim=(1, 2)), floor / cells)
        progress("statistics", 1, 1)
        return Deviations(rounded(centre), rounded(1.0 / deviation), whole)


class Cells(nn.Module):
    """What each operator responds over square cells."""

    def __init__(self, resample: Resample, operators: tuple[AnyOperator, ...], cell_px: int) -> None:
        super().__init__()
        self.resample, self.cell_px = resample, cell_px
        self.operators = [operator for operator in operators if isinstance(operator, Operator)]
        self.teaches = len(self.operators) < len(operators)
        self.register_buffer("gray", torch.tensor(GRAY_OF_BGR).reshape(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Return features (N, h, w, K) of uint8 frames (N, H, W, C)."""
        gray = self.resample(frames)
        if frames.shape[3] > 1:
            gray = (gray * self.get_buffer("gray")).sum(dim=1, keepdim=True)
        cells = [_cells(operator, operator.respond(gray), self.cell_px) for operator in self.operators]
        if self.teaches:
            cells.append(functional.pixel_unshuffle(gray, self.cell_px))
        return torch.cat(cells, dim=1).permute(0, 2, 3, 1)


class TaughtCells(nn.Module):
    """The same of operators that were taught, in the place of the pixels that are told with other features."""

    def __init__(self, operators: Sequence[Taught], networks: Sequence[nn.Module], cell_px: int) -> None:
        super().__init__()
        self.operators, self.networks, self.cell_px = operators, nn.ModuleList(networks), cell_px

    def forward(self, features: Tensor) -> Tensor:
        """Return features (N, h, w, K) of features with pixels (N, h, w, K')."""
        gray = pixels(features, self.cell_px)
        pairs = zip(self.operators, self.networks, strict=True)
        cells = [_cells(operator, network(gray), self.cell_px) for operator, network in pairs]
        return torch.cat([features[..., : -(self.cell_px**2)], torch.cat(cells, dim=1).permute(0, 2, 3, 1)], dim=3)


class Whole(nn.Module):
    """How far the means over the frame lie from those of good images, all together and in deviations.

    The Mahalanobis distance d of K means, of which sqrt(2) d - sqrt(2 K - 1) is a deviation of a standard normal (R. A.
    Fisher, "Statistical Methods for Research Workers", 1925), so that it stands beside those of the cells.
    """

    def __init__(self, means: Tensor, floor: float) -> None:
        """Learn from means (M, K); the variance `floor` is never thought unusual."""
        super().__init__()
        deviation = (means.var(dim=0, correction=0) + floor).sqrt()
        self.standardise = Standardise(Scale(means.mean(dim=0), 1.0 / deviation))
        whitening = gaussian(self.standardise(means), (floor / deviation.square()).double()).whitening
        self.register_buffer("whitening", whitening.mT.float().contiguous())
        self.usual = math.sqrt(2.0 * means.shape[1] - 1.0)

    def forward(self, features: Tensor) -> Tensor:
        """Return deviations (N,) of features (N, h, w, K)."""
        standard = self.standardise(features.mean(dim=(1, 2)))
        distance: Tensor = torch.linalg.vector_norm(standard @ self.get_buffer("whitening"), dim=1)
        return distance * math.sqrt(2.0) - self.usual


class Deviations(nn.Module):
    """How far the worst of a cell's responses lies from its mean, in deviations; centre and scale are (h, w, K).

    Where the whole frame is more unusual than any cell, the map is enlarged until its highest cell is as unusual: it
    still says where.
    """

    def __init__(self, centre: Tensor, scale: Tensor, whole: Whole) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)
        self.whole = whole

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, K)."""
        apart: Tensor = ((features - self.get_buffer("centre")) * self.get_buffer("scale")).abs()
        cells = apart.amax(dim=3)
        highest = cells.amax(dim=(1, 2)).clamp(min=_LEAST_DEVIATION)
        return cells * torch.maximum(self.whole(features) / highest, torch.ones_like(highest))[:, None, None]


def pixels(features: Tensor, cell_px: int) -> Tensor:
    """Return the grey levels (N, 1, H, W) that are the last of features (N, h, w, K)."""
    return functional.pixel_shuffle(features[..., -(cell_px**2) :].permute(0, 3, 1, 2), cell_px)


def _cells(operator: Named, responses: Tensor, cell_px: int) -> Tensor:
    """Return the mean over cells (N, K, h, w) of responses (N, K, H, W), and their largest where that says more."""
    mean = functional.avg_pool2d(responses, cell_px)
    return torch.cat([mean, functional.max_pool2d(responses, cell_px)], dim=1) if operator.peak else mean


def _side_px(native_px: int, most_px: int) -> int:
    """Return the multiple of STEP_PX that a side is resampled to."""
    return max(min(native_px, most_px) // STEP_PX, 1) * STEP_PX
