"""CFA: patch features, taught to lie close to centres that remember good ones, and how far they lie from the nearest.

Lee, Lee and Song, "CFA: Coupled-Hypersphere-Based Feature Adaptation for Target-Oriented Anomaly Localization", IEEE
Access 2022 (arXiv 2206.04325).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import rounded
from inference.training.descent import DescentOptions, descend
from inference.training.detector import HOLD_OUT, Summary, finite
from inference.training.features import FeatureOptions, NetworkDetector
from inference.training.gaussian import Standardise, scale
from inference.training.progress import Progress

NEAREST = 3  # centres that a feature is drawn to, and as many beyond them that it is kept from (K and J)
MARGIN = 0.1  # alpha: how much nearer than the radius those beyond may lie, in squared deviations
FIRST_RADIUS = 1e-5
ROUNDS = 10  # of k-means, which settles in fewer

SUMMARY = Summary(
    title="CFA",
    paradigm="adaptation",
    paper="Lee et al., CFA: Coupled-Hypersphere-Based Feature Adaptation, IEEE Access 2022",
    what_for="parts in steady pose, from however many images: its memory is one centre a place at most",
    localises=True,
    fitting="minutes",
    images=30,
)


class Options(FeatureOptions, DescentOptions):
    """What can be chosen."""

    centres: int = Field(
        default=1000,
        ge=2 * NEAREST,
        le=10_000,
        description="centres remembered; where places of the grid are more, k-means brings them down to so many",
    )
    epochs: int = Field(default=30, ge=1, le=10_000, description="how often each image is learnt from, at most")
    steps: int = Field(default=200, ge=1, le=1_000_000, description="steps of learning, at most")
    batch: int = Field(default=4, ge=2, le=256, description="images in a step")
    rate: float = Field(default=0.001, gt=0.0, le=1.0, description="highest learning rate")


class Detector(NetworkDetector[Options]):
    """A linear layer that adapts frozen patch features, and centres that it draws good ones to."""

    minimum_images: ClassVar[int] = 2
    folds: ClassVar[int] = HOLD_OUT

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Adapt features (N, h, w, C); raise InputError where one is not finite."""
        standardise = Standardise(scale(finite(features).flatten(0, 2)))
        standard = standardise(features)
        head = Hyperspheres(k_means(standard.mean(dim=0).flatten(0, 1), self.options.centres, seed))
        descend(head, lambda places: head.loss(standard[places]), len(features), self.options, seed, progress)
        return nn.Sequential(standardise, head)


class Hyperspheres(nn.Module):
    """Features adapted by a layer that knows where they lie (CoordConv), and centres among good ones.

    The paper's layer begins at random, and its centres are the means of what that makes of good images' features, place
    by place (section III-C). Here it begins as no change at all, so that what little learning there is starts from the
    plain distance to the centres.
    """

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        channels = centres.shape[1]
        self.descriptor = nn.Linear(channels + 2, channels)
        with torch.no_grad():
            self.descriptor.weight.copy_(torch.eye(channels, channels + 2))
            self.descriptor.bias.zero_()
        self.radius = nn.Parameter(torch.tensor(FIRST_RADIUS))  # of the hyperspheres: of learning alone
        self.register_buffer("centres", rounded(centres))

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of standardised features (N, h, w, C).

        The distance to the nearest centre, times its share in the softmin of the nearest ones (section III-D).
        """
        patches = self.describe(features)
        places = self.nearest(patches, NEAREST)
        distances = torch.linalg.vector_norm(patches[:, None] - self.get_buffer("centres")[places], dim=2)
        score: Tensor = distances[:, 0] * functional.softmin(distances, dim=1)[:, 0]
        return score.reshape(-1, *features.shape[1:3])

    def describe(self, features: Tensor) -> Tensor:
        """Return adapted features (M, C), M = N * h * w, of standardised ones (N, h, w, C)."""
        height, width = features.shape[1:3]
        down = torch.linspace(-1.0, 1.0, height)[:, None, None].expand(-1, width, -1)
        right = torch.linspace(-1.0, 1.0, width)[None, :, None].expand(height, -1, -1)
        place = torch.cat([down, right], dim=2).expand(features.shape[0], -1, -1, -1)
        described: Tensor = self.descriptor(torch.cat([features, place], dim=3).flatten(0, 2))
        return described

    def nearest(self, patches: Tensor, count: int) -> Tensor:
        """Return the places (M, count) of the centres nearest to patches (M, C), the nearest first."""
        centres = self.get_buffer("centres")
        nearness = patches @ centres.T - 0.5 * (centres * centres).sum(dim=1)
        return torch.topk(nearness, min(count, len(centres))).indices

    def loss(self, features: Tensor) -> Tensor:
        """Return how far good features (N, h, w, C) lie outside their nearest hyperspheres, and inside the next ones.

        Distances are mean squares over the channels: the paper's are sums of unscaled features. It divides the loss by
        nu = 0.001, of which Adam takes no notice.
        """
        patches = self.describe(features)
        with torch.no_grad():
            places = self.nearest(patches, 2 * NEAREST)
        squares = (patches[:, None] - self.get_buffer("centres")[places]).square().mean(dim=2)
        edge = self.radius.square()
        attraction = (squares[:, :NEAREST] - edge).clamp(min=0.0).mean()
        repulsion = (edge - squares[:, NEAREST:] - MARGIN).clamp(min=0.0).sum() / len(squares)
        return attraction + repulsion


def k_means(vectors: Tensor, count: int, seed: int) -> Tensor:
    """Return at most `count` centres (K, D) of `vectors` (M, D): Lloyd's algorithm from random ones of them.

    A centre that is nearest to none stays where it is.
    """
    if len(vectors) <= count:
        return vectors.clone()
    generator = torch.Generator().manual_seed(seed)
    centres = vectors[torch.randperm(len(vectors), generator=generator)[:count]]
    for _ in range(ROUNDS):
        nearest = torch.cdist(vectors, centres).argmin(dim=1)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return centres
