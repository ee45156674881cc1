"""FRE: what a linear autoencoder of good patch features cannot reconstruct.

Ndiour, Ahuja, Genc and Tickoo, "FRE: A Fast Method For Anomaly Detection And Segmentation", 2022 (arXiv 2211.12650).

The paper's autoencoder, like DFM's components, takes a whole image as one vector. Here all positions share one: DFM
knows what belongs where, this one knows what belongs at all, wherever it lies, from thousands of patches an image.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.training.detector import Summary, finite
from inference.training.features import FeatureOptions, NetworkDetector
from inference.training.progress import Progress
from inference.training.subspace import TiedAutoencoder, principal_subspace

SUMMARY = Summary(
    title="FRE",
    paradigm="adaptation",
    paper="Ndiour et al., FRE: A Fast Method For Anomaly Detection And Segmentation, 2022",
    what_for="surfaces and textures at the price of the network alone; learns in seconds from few images",
    localises=True,
    fitting="seconds",
    images=10,
)


class Options(FeatureOptions):
    """What can be chosen; the defaults are measured."""

    variance: float = Field(default=0.97, gt=0.0, lt=1.0, description="share of the variance that the code holds")


class Detector(NetworkDetector[Options]):
    """Patch features of a pretrained network, and a shallow linear autoencoder of them, all taps side by side.

    Its weights are tied, so its optimum under squared error is known without descent: the principal components.
    """

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:  # noqa: ARG002 - nothing is random
        """Find the autoencoder of features (N, h, w, C); raise InputError where one is not finite."""
        progress("components", 0, 1)
        subspace = principal_subspace(finite(features).flatten(0, 2), self.options.variance)
        progress("components", 1, 1)
        return Errors(TiedAutoencoder(subspace))


class Errors(nn.Module):
    """The length of each patch feature's error of reconstruction."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, C)."""
        error: Tensor = self.autoencoder(features.flatten(0, 2)).reshape(features.shape)
        lengths: Tensor = torch.linalg.vector_norm(error, dim=3)
        return lengths
