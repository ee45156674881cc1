"""DN2: mean squared distance of an image's pooled features to those of the good images that are nearest.

Bergman, Cohen and Hoshen, "Deep Nearest Neighbor Anomaly Detection", 2020 (arXiv:2002.10445).
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.training.backbones.layers import rounded
from inference.training.detector import Summary, finite
from inference.training.features import NetworkDetector, PooledOptions
from inference.training.gaussian import Standardise, scale
from inference.training.progress import Progress

SUMMARY = Summary(
    title="DN2",
    paradigm="memory",
    paper="Bergman, Cohen and Hoshen, Deep Nearest Neighbor Anomaly Detection, 2020",
    what_for="whether a whole part is odd where good parts are of several kinds; says no place",
    localises=False,
    fitting="seconds",
    images=50,
)


class Options(PooledOptions):
    """What can be chosen; the defaults are measured."""

    neighbours: int = Field(default=2, ge=1, le=100, description="nearest good images that are averaged")


class Detector(NetworkDetector[Options]):
    """Pooled features of a pretrained network, and the good images nearest in them."""

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:  # noqa: ARG002 - nothing is random
        """Keep all pooled features (N, C); raise InputError for some that are not finite."""
        head = NearestImages(finite(features), self.options.neighbours)
        progress("bank", len(features), len(features))
        return head


class NearestImages(nn.Module):
    """Mean squared distance to the `neighbours` nearest members of the bank (section 3), channels standardised.

    The nearest are found by products, x·b - |b|²/2 being largest; their distances are taken without cancellation.
    """

    def __init__(self, features: Tensor, neighbours: int) -> None:
        super().__init__()
        self.neighbours = min(neighbours, len(features))
        standard = scale(features)
        self.standardise = Standardise(standard)
        bank = rounded(standard.apply(features))
        self.register_buffer("bank", bank)
        self.register_buffer("halves", bank.square().sum(dim=1) * -0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return the score, as a map (N, 1, 1), of features (N, C)."""
        standard: Tensor = self.standardise(features)
        nearness = standard @ self.get_buffer("bank").T + self.get_buffer("halves")
        nearest = self.get_buffer("bank")[torch.topk(nearness, self.neighbours, dim=1).indices]
        squared = (standard[:, None, :] - nearest).square().sum(dim=2)
        return squared.mean(dim=1)[:, None, None]
