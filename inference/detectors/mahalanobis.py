"""Mahalanobis: how far an image's pooled features lie from those of good images, each direction by its own spread.

Rippel et al., "Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly Detection", ICPR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from inference.training.backbones.layers import rounded
from inference.training.detector import Summary, finite
from inference.training.features import NetworkDetector, PooledOptions
from inference.training.gaussian import Standardise, gaussian, scale
from inference.training.progress import Progress

SUMMARY = Summary(
    title="Mahalanobis",
    paradigm="memory",
    paper="Rippel et al., Modeling the Distribution of Normal Data in Pre-Trained Deep Features, ICPR 2020",
    what_for="whether a whole part is odd, at the price of the network alone; says no place",
    localises=False,
    fitting="seconds",
    images=100,
)


class Options(PooledOptions):
    """What can be chosen; the defaults are measured."""


class Detector(NetworkDetector[Options]):
    """Pooled features of several taps of a pretrained network, and a Gaussian of each tap's."""

    minimum_images: ClassVar[int] = 2

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:  # noqa: ARG002 - nothing is random
        """Fit a Gaussian to each tap's share of pooled features (N, C); raise InputError where one is not finite."""
        return Distances(finite(features), self._channels, progress)

    @cached_property
    def _channels(self) -> Sequence[int]:
        """Each tap's share of a feature; cached, for a network is built to tell, and a head is fitted several times."""
        return self.options.untrained().channels


class Distances(nn.Module):
    """The sum over taps of the Mahalanobis distance (section III), channels standardised.

    Covariances are shrunk as `gaussian` says, also where there are fewer images than channels.
    """

    def __init__(self, features: Tensor, channels: Sequence[int], progress: Progress) -> None:
        super().__init__()
        self.channels = list(channels)
        standard = scale(features)
        self.standardise = Standardise(standard)
        for tap, vectors in enumerate(torch.split(standard.apply(features), self.channels, dim=1)):
            self.register_buffer(f"whitening_{tap}", rounded(gaussian(vectors).whitening.mT).contiguous())
            progress("gaussians", tap + 1, len(self.channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the score, as a map (N, 1, 1), of features (N, C)."""
        standard = self.standardise(features)
        distances = [
            torch.linalg.vector_norm(vectors @ self.get_buffer(f"whitening_{tap}"), dim=1)
            for tap, vectors in enumerate(torch.split(standard, self.channels, dim=1))
        ]
        return torch.stack(distances).sum(dim=0)[:, None, None]
