"""PaDiM: how far each place's features lie from those that good images have at that very place.

Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", ICPR 2021.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.training.backbones.layers import rounded
from inference.training.detector import Summary, finite
from inference.training.features import FeatureOptions, NetworkDetector
from inference.training.gaussian import Standardise, gaussian, scale
from inference.training.progress import Progress

NOISE = 0.1  # variance, of standardised channels, that is in all and tells nothing: measured from 1e-4 to 0.3
PLACES = 64  # whose covariances are worked on at once, in float64

SUMMARY = Summary(
    title="PaDiM",
    paradigm="memory",
    paper="Defard et al., PaDiM: a Patch Distribution Modeling Framework, ICPR 2021",
    what_for="parts that lie in the same place in every image; learns in seconds, says where, and takes a fixed time",
    localises=True,
    fitting="seconds",
    images=50,
)


class Options(FeatureOptions):
    """What can be chosen; the defaults are measured."""

    stride_px: int = Field(default=16, ge=2, le=64, description="side of a cell of the grid: each has its own Gaussian")
    channels: int = Field(default=100, ge=1, le=1000, description="channels kept; a bundle grows with their square")
    reduction: Literal["random", "semi-orthogonal"] = Field(
        default="random", description="how they are chosen: some of the features' own, or random orthogonal mixtures"
    )


class Detector(NetworkDetector[Options]):
    """Patch features of a pretrained network, and a Gaussian of them at each place."""

    minimum_images: ClassVar[int] = 2

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Fit a Gaussian to each place of patch features (N, h, w, C); raise InputError where one is not finite."""
        wanted = min(self.options.channels, features.shape[-1])
        generator = torch.Generator().manual_seed(seed)
        kind = Choice if self.options.reduction == "random" else Mixture
        return Gaussians(finite(features), kind(features.shape[-1], wanted, generator), progress)


class Choice(nn.Module):
    """Some of the channels as they are (section III-A)."""

    def __init__(self, channels: int, wanted: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("chosen", torch.randperm(channels, generator=generator)[:wanted].sort().values)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (..., d) of features (..., C)."""
        return features.index_select(-1, self.get_buffer("chosen"))


class Mixture(nn.Module):
    """Orthonormal random mixtures of the channels, in which each has its share.

    Kim et al., "Semi-orthogonal Embedding for Efficient Unsupervised Anomaly Segmentation", 2021.
    """

    def __init__(self, channels: int, wanted: int, generator: torch.Generator) -> None:
        super().__init__()
        basis = torch.linalg.qr(torch.randn((channels, wanted), generator=generator)).Q
        self.register_buffer("basis", basis.contiguous())

    def forward(self, features: Tensor) -> Tensor:
        """Return features (..., d) of features (..., C)."""
        return features @ self.get_buffer("basis")


class Gaussians(nn.Module):
    """The Mahalanobis distance of reduced features to the Gaussian of their place (section III-B and C).

    Channels are standardised over all places, so that what is added to the diagonals (0.01 in the paper) means the same
    for every network; besides, covariances are shrunk as `gaussian` says, for there may be fewer images than channels.
    A place has d² weights, half of them zeros, rounded to float16's precision; the distance is one product each.
    """

    def __init__(self, features: Tensor, reduction: nn.Module, progress: Progress) -> None:
        super().__init__()
        self.reduction = reduction
        standard = scale(features.flatten(0, 2))
        vectors = reduction(standard.apply(features)).flatten(1, 2).transpose(0, 1)  # places first
        means, whitenings = [], []
        for done, some in enumerate(torch.split(vectors, PLACES)):
            fitted = gaussian(some, NOISE)
            means.append(rounded(fitted.mean))
            whitenings.append(rounded(fitted.whitening.mT))
            progress("gaussians", min((done + 1) * PLACES, len(vectors)), len(vectors))
        self.standardise = Standardise(standard)
        self.register_buffer("means", torch.cat(means)[:, None, :])
        self.register_buffer("whitenings", torch.cat(whitenings))

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, C)."""
        height, width = features.shape[1:3]
        standard = self.standardise(features)
        apart = self.reduction(standard).flatten(1, 2).transpose(0, 1) - self.get_buffer("means")
        distances = torch.linalg.vector_norm(apart @ self.get_buffer("whitenings"), dim=2)
        anomaly_map: Tensor = distances.transpose(0, 1).reshape(-1, height, width)
        return anomaly_map
