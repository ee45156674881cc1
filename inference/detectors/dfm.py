"""DFM: what a whole image's features lack in the subspace of good images, or how unlikely they are in it.

Ahuja, Ndiour, Kalyanpur and Tickoo, "Probabilistic Modeling of Deep Features for Out-of-Distribution and Adversarial
Detection", Bayesian Deep Learning workshop, NeurIPS 2019.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.training.detector import Summary, finite
from inference.training.features import FeatureOptions, NetworkDetector
from inference.training.progress import Progress
from inference.training.subspace import Subspace, TiedAutoencoder, principal_subspace

LEAST_VARIANCE = 1e-6  # of the largest: keeps the density finite where nothing varies
TINY = 1e-12

SUMMARY = Summary(
    title="DFM",
    paradigm="adaptation",
    paper="Ahuja et al., Probabilistic Modeling of Deep Features, NeurIPS 2019 workshop",
    what_for="parts that always lie in the same place; knows what belongs where, and learns in seconds",
    localises=True,
    fitting="seconds",
    images=50,
)


class Options(FeatureOptions):
    """What can be chosen; the defaults are measured."""

    stride_px: int = Field(default=16, ge=2, le=64, description="side of a cell of the grid of features")
    score: Literal["reconstruction", "likelihood"] = Field(
        default="reconstruction",
        description="error of reconstruction, which says where, or negative log-likelihood, which gives a score alone",
    )
    variance: float = Field(default=0.9, gt=0.0, lt=1.0, description="share of the variance that components hold")


class Detector(NetworkDetector[Options]):
    """An image's features, all taps and positions, as one vector, and its principal components among good images.

    The paper takes one layer; all taps in one vector measured better than the sum of one subspace for each.
    """

    minimum_images: ClassVar[int] = 2

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:  # noqa: ARG002 - nothing is random
        """Find the components of features (N, h, w, C); raise InputError where one is not finite."""
        progress("components", 0, 1)
        subspace = principal_subspace(finite(features).flatten(1), self.options.variance)
        progress("components", 1, 1)
        return Likelihood(subspace) if self.options.score == "likelihood" else Reconstruction(subspace)


class Reconstruction(nn.Module):
    """The length of what no good images' components explain at a position: the feature reconstruction error."""

    def __init__(self, subspace: Subspace) -> None:
        super().__init__()
        self.autoencoder = TiedAutoencoder(subspace)

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, C)."""
        error: Tensor = self.autoencoder(features.flatten(1)).reshape(features.shape)
        lengths: Tensor = torch.linalg.vector_norm(error, dim=3)
        return lengths


class Likelihood(nn.Module):
    """The negative log-likelihood of an image's components under their Gaussian among good images."""

    def __init__(self, subspace: Subspace) -> None:
        super().__init__()
        variances = subspace.variances.clamp(min=max(LEAST_VARIANCE * float(subspace.variances[0]), TINY))
        self.autoencoder = TiedAutoencoder(subspace)
        self.register_buffer("precisions", (1.0 / variances).to(torch.float32))
        self.constant = float((2.0 * math.pi * variances).log().sum())

    def forward(self, features: Tensor) -> Tensor:
        """Return the score, as a map (N, 1, 1), of features (N, h, w, C)."""
        embedded = self.autoencoder.embed(features.flatten(1))
        scores = 0.5 * ((embedded * embedded * self.get_buffer("precisions")).sum(dim=1) + self.constant)
        return scores[:, None, None]
