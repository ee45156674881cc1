"""Ensemble: several detectors on the same features, whose maps are added.

What one takes for odd by chance the others seldom do, and what is odd they mostly agree on (Dietterich, "Ensemble
Methods in Machine Learning", 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from torch import Tensor, nn

from inference.detectors import drawn
from inference.training import detector as detectors
from inference.training.calibration import folds
from inference.training.detector import CROSS_FIT, HOLD_OUT, FrameFormat, Summary, finite
from inference.training.discriminator import seen
from inference.training.features import EvenLight, FeatureOptions, Grid, NetworkDetector
from inference.training.progress import Progress
from inference.training.resampling import Resample

OF_ALL = set(FeatureOptions.model_fields) - {"even_light"}
LEAST_SCORE = 1e-6

SUMMARY = Summary(
    title="Ensemble",
    paradigm="memory",
    paper="Dietterich, Ensemble Methods in Machine Learning, 2000",
    what_for="surfaces of which no single detector is sure, where time and size allow several",
    localises=True,
    fitting="minutes",
    images=50,
)


class Member(BaseModel):
    """One detector with options of its own; which network it looks through is said once, for all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    detector: Literal["patchcore", "padim", "dfm", "fre", "drawn"] = Field(description="what learns from the features")
    options: dict[str, JsonValue] = Field(default={}, description="its options, even_light among them")

    @model_validator(mode="after")
    def _of_its_own(self) -> Self:
        if shared := OF_ALL & set(self.options):
            raise ValueError(f"{', '.join(sorted(shared))}: to be said of the ensemble, not of its members")
        return self

    def built(self) -> tuple[detectors.Detector, bool]:
        """Return the detector and whether it wants even light; raise ConfigurationError for options it has not."""
        built, options = detectors.load(self.detector, dict(self.options))
        return built, isinstance(options, FeatureOptions) and options.even_light


class Options(FeatureOptions):
    """What can be chosen."""

    stride_px: int = Field(default=16, ge=2, le=64, description="side of a cell of the grid of features")
    members: tuple[Member, ...] = Field(
        default=(
            Member(detector="patchcore"),
            Member(detector="patchcore", options={"even_light": True}),
            Member(detector="dfm", options={"even_light": True}),
        ),
        min_length=2,
        max_length=6,
        description="the detectors whose maps are added",
    )


class Detector(NetworkDetector[Options]):
    """Detectors that are fitted to the same features, each map by how high good images score in it.

    Where one of them draws on images, all learn from images, and the features are made behind them.
    """

    minimum_images: ClassVar[int] = 4

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.members = [member.built() for member in options.members]
        self.draws = any(isinstance(member, drawn.Detector) for member, _ in self.members)

    @property
    def folds(self) -> int:  # type: ignore[override] # depends on the members, which a class variable cannot
        """Return how held-out scores come about: drawing takes minutes, and is done for one fifth alone."""
        return HOLD_OUT if self.draws else CROSS_FIT

    def encoder(self, frames: FrameFormat) -> nn.Module:
        """Return what the options say of features, or what makes the images that are drawn on."""
        size_px = self.options.size_px
        return Resample(size_px, size_px) if self.draws else super().encoder(frames)

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Fit each to features (N, h, w, C), or to the features of images (N, C, size_px, size_px) where one draws."""
        if not self.draws:
            every = [self._head(one, features, seed, progress, even_light=even) for one, even in self.members]
            return Added(every)
        side = self.options.size_px // self.options.stride_px
        grid = Grid(self.options.network(), self.options.size_px, side, self.options.around)
        good = seen(grid, features, "see", progress)
        heads = [
            member.learn(features, grid, good, seed, progress)  # its map has a scale of its own, and needs no other
            if isinstance(member, drawn.Detector)
            else self._head(member, good, seed, progress, even_light=even_light)
            for member, even_light in self.members
        ]
        return nn.Sequential(grid, Added(heads))

    def _head(
        self, member: detectors.Detector, features: Tensor, seed: int, progress: Progress, *, even_light: bool
    ) -> nn.Module:
        """Fit one to features (N, h, w, C), before that without a fifth of them, whose scores tell its scale."""
        (held_out,) = folds(len(finite(features)), HOLD_OUT, seed, [])
        unseen = torch.zeros(len(features), dtype=torch.bool)
        unseen[torch.from_numpy(held_out)] = True
        shown = EvenLight()(features) if even_light else features
        trial = member.fit(shown[~unseen], seed, progress).eval()
        with torch.no_grad():
            usual = torch.cat([trial(one[None]) for one in shown[unseen]]).amax(dim=(1, 2)).mean()
        head = member.fit(shown, seed, progress)
        even = [EvenLight()] if even_light else []
        return Scaled(nn.Sequential(*even, head), float(usual))


class Scaled(nn.Module):
    """A head whose map is told in shares of what good images usually score."""

    def __init__(self, head: nn.Module, usual: float) -> None:
        super().__init__()
        self.head, self.factor = head, 1.0 / max(usual, LEAST_SCORE)

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, C)."""
        anomaly_map: Tensor = self.head(features) * self.factor
        return anomaly_map


class Added(nn.Module):
    """The mean of the maps of several heads."""

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, C)."""
        return torch.stack([head(features) for head in self.heads]).mean(dim=0)
