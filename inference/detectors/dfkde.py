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

from inference.training.detector import CROSS_FIT, FrameFormat, Summary, finite, rounded
from inference.training.features import PooledOptions
from inference.training.gaussian import LEAST_SPREAD, Scale, scale
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


class Detector:
    """Pooled features of a pretrained network, their principal components, and a density of these."""

    minimum_images: ClassVar[int] = 2
    folds: ClassVar[int] = CROSS_FIT

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def licences(self) -> tuple[str, ...]:
        """Return the licence of the backbone's weights."""
        return (self.options.licence,)

    def encoder(self, frames: FrameFormat) -> nn.Module:  # noqa: ARG002 - every format is treated alike
        """Return resampling, backbone and the mean of each channel: features (N, C)."""
        return self.options.pooled()

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:  # noqa: ARG002 - nothing is random
        """Put a kernel on each of the pooled features (N, C); raise InputError for some that are not finite."""
        head = Density(finite(features), self.options.components)
        progress("kernels", len(features), len(features))
        return head


class Density(nn.Module):
    """Less the natural logarithm of the density at standardised features, by logarithms throughout.

    Kernels have the covariance of the components times the square of Scott's factor. So after division by both a kernel
    is a standard Gaussian; the projection has the division multiplied in, and its volume is added to the score. Half of
    the squared distance to a kernel is |x|²/2 - x·k + |k|²/2, the first of which all kernels share.
    """

    def __init__(self, features: Tensor, components: int) -> None:
        super().__init__()
        count = len(features)
        standard = scale(features)
        vectors = standard.apply(features).to(torch.float64)
        _, lengths, basis = torch.linalg.svd(vectors - vectors.mean(dim=0), full_matrices=False)
        kept = max(1, min(components, count - 1, int((lengths > LEAST_SPREAD * lengths[0]).sum())))
        deviations = lengths[:kept] / math.sqrt(max(1, count - 1))
        widths = deviations.clamp(min=LEAST_SPREAD) * count ** (-1.0 / (kept + 4))
        projection = rounded(basis[:kept].mT / widths)
        self.volume = kept * 0.5 * math.log(2.0 * math.pi) + float(widths.log().sum()) + math.log(count)
        self.register_buffer("centre", standard.centre)
        self.register_buffer("factor", standard.factor)
        self.register_buffer("projection", projection.contiguous())
        kernels = rounded(standard.apply(features) @ projection)
        self.register_buffer("kernels", kernels)
        self.register_buffer("halves", kernels.square().sum(dim=1) * -0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return the score, as a map (N, 1, 1), of features (N, C)."""
        standard = Scale(self.get_buffer("centre"), self.get_buffer("factor")).apply(features)
        places = standard @ self.get_buffer("projection")
        nearness = places @ self.get_buffer("kernels").T + self.get_buffer("halves")
        score = self.volume + 0.5 * places.square().sum(dim=1) - torch.logsumexp(nearness, dim=1)
        return score[:, None, None]
