"""SPADE: distance of each patch feature to those of the good images that look most like the whole.

Cohen and Hoshen, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences", 2020 (arXiv:2005.02357).
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.training.backbones.layers import rounded
from inference.training.coreset import greedy_coreset
from inference.training.detector import Summary, finite
from inference.training.features import FeatureOptions, NetworkDetector
from inference.training.gaussian import Scale, Standardise, scale
from inference.training.progress import Progress

SUMMARY = Summary(
    title="SPADE",
    paradigm="memory",
    paper="Cohen and Hoshen, Sub-Image Anomaly Detection with Deep Pyramid Correspondences, 2020",
    what_for="good parts of several kinds or poses: each is compared with its likes, which can be shown; says where",
    localises=True,
    fitting="seconds",
    images=30,
)


class Options(FeatureOptions):
    """What can be chosen; the defaults are measured."""

    stride_px: int = Field(default=16, ge=2, le=64, description="side of a cell of the grid of features")
    gallery: int = Field(default=200, ge=1, le=10_000, description="good images kept, those that differ most")
    images: int = Field(default=20, ge=1, le=1000, description="most similar of them that an image is compared with")


class Detector(NetworkDetector[Options]):
    """Patch features of a pretrained network, a gallery of good images, and the nearest patch in the most similar."""

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Keep features (N, h, w, C) of the images that differ most; raise InputError where one is not finite."""
        standard = scale(finite(features).flatten(0, 2))
        images = standard.apply(features.mean(dim=(1, 2)))
        taken = greedy_coreset(images, self.options.gallery, torch.Generator().manual_seed(seed), progress)
        return Correspondence(standard.apply(features[taken]), standard, self.options.images)


class Correspondence(nn.Module):
    """Distance from each patch to the nearest, anywhere in the `images` members of the gallery (G, h, w, C) most alike.

    Images are alike by the means of their standardised features (section 3.2); patches are compared as in section 3.3,
    with one neighbour. The nearest is found by products, its distance taken without cancellation.
    """

    def __init__(self, gallery: Tensor, standard: Scale, images: int) -> None:
        super().__init__()
        self.images = min(images, len(gallery))
        patches = rounded(gallery.flatten(1, 2))
        self.standardise = Standardise(standard)
        self.register_buffer("patches", patches)
        self.register_buffer("halves", patches.square().sum(dim=2) * -0.5)
        self.register_buffer("wholes", patches.mean(dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, C)."""
        count, height, width, channels = features.shape
        patches = self.standardise(features).flatten(1, 2)
        unlike = (patches.mean(dim=1)[:, None, :] - self.get_buffer("wholes")).square().sum(dim=2)
        alike = torch.topk(unlike, self.images, dim=1, largest=False).indices
        candidates = self.get_buffer("patches")[alike].reshape(count, -1, channels)
        halves = self.get_buffer("halves")[alike].reshape(count, 1, -1)
        place = (patches @ candidates.mT + halves).argmax(dim=2)
        nearest = torch.gather(candidates, 1, place[:, :, None].expand(-1, -1, channels))
        anomaly_map: Tensor = torch.linalg.vector_norm(patches - nearest, dim=2).reshape(-1, height, width)
        return anomaly_map
