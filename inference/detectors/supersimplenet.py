"""SuperSimpleNet: a discriminator that learns to tell adapted features from the same with noise in places.

Rolih, Fucka and Skocaj, "SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable Surface
Defect Detection", ICPR 2024; after Liu et al., "SimpleNet", CVPR 2023.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import Convolution
from inference.training.descent import DescentOptions, descend, learnable
from inference.training.detector import HOLD_OUT, Summary, finite
from inference.training.discriminator import SLOPE, Bits
from inference.training.features import FeatureOptions, NetworkDetector
from inference.training.gaussian import Standardise, scale
from inference.training.progress import Progress

MARGIN = 0.5  # of the truncated loss: what is told with more log-odds than this teaches no more
FOCUS = 4  # power of the focal loss
COARSEST, FINEST = 2, 7  # knots of the clouds across an image
LEAST_COVERED, MOST_COVERED = 0.05, 0.4  # shares of an image under the clouds

SUMMARY = Summary(
    title="SuperSimpleNet",
    paradigm="discriminative",
    paper="Rolih et al., SuperSimpleNet, ICPR 2024",
    what_for="a small and quick bundle whatever the number of images, with minutes to learn it",
    localises=True,
    fitting="minutes",
    images=30,
)


class Options(FeatureOptions, DescentOptions):
    """What can be chosen."""

    noise: float = Field(default=0.5, gt=0.0, le=10.0, description="deviation of the noise, in a channel's deviations")
    width: int = Field(default=256, ge=8, le=2048, description="channels of the discriminator")
    epochs: int = Field(default=100, ge=1, le=10_000, description="how often each image is learnt from, at most")
    rate: float = Field(default=0.001, gt=0.0, le=1.0, description="highest learning rate")


class Detector(NetworkDetector[Options]):
    """An adaptor and a discriminator on standardised patch features."""

    minimum_images: ClassVar[int] = 2
    folds: ClassVar[int] = HOLD_OUT

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Learn to tell features (N, h, w, C) from noisy ones; raise InputError where one is not finite."""
        standardise = Standardise(scale(finite(features).flatten(0, 2)))
        head = Noticing(features.shape[-1], self.options.width, self.options.noise)
        learnable(head)
        standard = standardise(features)
        descend(head, lambda places: head.loss(standard[places]), len(features), self.options, seed, progress)
        return nn.Sequential(standardise, head, Bits())


class Noticing(nn.Module):
    """A linear layer that adapts features, and two layers of a discriminator, each cell by itself.

    The paper's classification head is left out: here an image's score is its map's maximum.
    """

    def __init__(self, channels: int, width: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.adaptor = nn.Linear(channels, channels)
        with torch.no_grad():
            self.adaptor.weight.copy_(torch.eye(channels))  # at first no change: what little learning there is suffices
            self.adaptor.bias.zero_()
        self.first, self.last = Convolution(channels, width, 1), nn.Conv2d(width, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return log-odds (N, h, w) that a cell of standardised features (N, h, w, C) is bad."""
        return self.judge(self.adaptor(features))

    def judge(self, adapted: Tensor) -> Tensor:
        """Return log-odds (N, h, w) for adapted features (N, h, w, C)."""
        odds: Tensor = self.last(functional.leaky_relu(self.first(adapted.permute(0, 3, 1, 2)), SLOPE))[:, 0]
        return odds

    def loss(self, features: Tensor) -> Tensor:
        """Return truncated L1 and focal loss (section III-C) over good features (N, h, w, C) and noisy copies."""
        adapted = self.adaptor(features)
        bad = clouds(*adapted.shape[:3])
        noisy = adapted + self.noise * bad[..., None] * torch.randn_like(adapted)
        odds, bad = self.judge(torch.cat([adapted, noisy])), torch.cat([torch.zeros_like(bad), bad])
        right = odds * (2.0 * bad - 1.0)  # log-odds of the true answer
        truncated = (MARGIN - right).clamp(min=0.0)
        focal = torch.sigmoid(-right) ** FOCUS * functional.softplus(-right)
        is_bad = bad > 0.0
        means = [(truncated * of).sum() / of.sum().clamp(min=1) for of in (is_bad, ~is_bad)]
        return means[0] + means[1] + focal.mean()


def clouds(images: int, height: int, width: int) -> Tensor:
    """Return masks (N, h, w) of 0 and 1 by smooth noise, by torch's own chance: of every second image on average none.

    The paper thresholds Perlin noise; this is noise on a coarse grid, enlarged smoothly, which looks alike.
    """
    knots = int(torch.randint(COARSEST, FINEST, ()))
    noise = torch.randn(images, 1, knots, knots)
    smooth = functional.interpolate(noise, size=(height, width), mode="bicubic", align_corners=True)[:, 0]
    covered = LEAST_COVERED + (MOST_COVERED - LEAST_COVERED) * float(torch.rand(()))
    level = torch.quantile(smooth.flatten(1), 1.0 - covered, dim=1)[:, None, None]
    return ((smooth > level) & (torch.rand(images, 1, 1) < 0.5)).to(torch.float32)  # noqa: PLR2004 - every second
