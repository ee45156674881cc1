"""DFKDE: how dense good images lie around an image, by a kernel density of their pooled features.

A Gaussian kernel density (Parzen, 1962; bandwidth of Scott, 1992) on principal components of deep features; the model
of this name in Anomalib (Akcay et al., "Anomalib: A Deep Learning Library for Anomaly Detection", ICIP 2022).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.training.backbones.layers import rounded
from inference.training.detector import Summary, finite
from inference.training.features import NetworkDetector, PooledOptions
from inference.training.gaussian import LEAST_SPREAD, Standardise, scale
from inference.training.progress import Progress

SUMMARY = Summary(
    title="DFKDE",
    paradigm="memory",
    paper="Akcay et al., Anomalib: A Deep Learning Library for Anomaly Detection, ICIP 2022; Parzen, 1962",
    what_for="whether a whole part is odd, with a score that is a log density; says no place",
    localises=False,
    fitting="seconds",
    images=100,
)


class Options(PooledOptions):
    """What can be chosen; the defaults are measured."""

    components: int = Field(default=128, ge=1, le=2000, description="principal components of the features that count")


class Detector(NetworkDetector[Options]):
    """Pooled features of a pretrained network, their principal components, and a density of these."""

    minimum_images: ClassVar[int] = 2

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:  # noqa: ARG002 - nothing is random
        """Put a kernel on each of the pooled features (N, C); raise InputError for some that are not finite."""
        head = Density(finite(features), self.options.components)
        progress("kernels", len(features), len(features))
        return head


class Density(nn.Module):
    """Less the mean natural logarithm, for each component, of the density at standardised features; by logarithms only.

    Components are in units of their own deviations, and the score is for each of them: otherwise it would depend on how
    many there are, which fewer images have fewer of, and a threshold from cross-fitting would not hold (of 34 images,
    12 of 14 further good ones were rejected). It is a constant and a factor away from the plain log density.

    Kernels have the covariance of the components times the square of Scott's factor. So after division by both a kernel
    is a standard Gaussian; the projection has the division multiplied in. Half of the squared distance to a kernel is
    |x|²/2 - x·k + |k|²/2, the first of which all kernels share.
    """

    def __init__(self, features: Tensor, components: int) -> None:
        super().__init__()
        count = len(features)
        standard = scale(features)
        vectors = standard.apply(features).to(torch.float64)
        _, lengths, basis = torch.linalg.svd(vectors - vectors.mean(dim=0), full_matrices=False)
        self.components = max(1, min(components, count - 1, int((lengths > LEAST_SPREAD * lengths[0]).sum())))
        deviations = lengths[: self.components] / math.sqrt(max(1, count - 1))
        width = count ** (-1.0 / (self.components + 4))
        projection = rounded(basis[: self.components].mT / (deviations.clamp(min=LEAST_SPREAD) * width))
        self.volume = self.components * math.log(math.sqrt(2.0 * math.pi) * width) + math.log(count)
        kernels = rounded(standard.apply(features) @ projection)
        self.standardise = Standardise(standard)
        self.register_buffer("projection", projection.contiguous())
        self.register_buffer("kernels", kernels)
        self.register_buffer("halves", kernels.square().sum(dim=1) * -0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return the score, as a map (N, 1, 1), of features (N, C)."""
        standard: Tensor = self.standardise(features)
        places = standard @ self.get_buffer("projection")
        nearness = places @ self.get_buffer("kernels").T + self.get_buffer("halves")
        score = self.volume + 0.5 * places.square().sum(dim=1) - torch.logsumexp(nearness, dim=1)
        return (score / self.components)[:, None, None]
