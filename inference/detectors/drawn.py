"""Drawn: defects are drawn on good images, and a small network on frozen features learns to see them.

After Zavrtanik, Kristan and Skocaj, "DRAEM: A Discriminatively Trained Reconstruction Embedding for Surface Anomaly
Detection", ICCV 2021, and Li et al., "CutPaste", CVPR 2021. A discriminator on frozen features, rather than a network
from pixels, as Rolih, Fucka and Skocaj, "SuperSimpleNet", ICPR 2024.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.training.descent import DescentOptions, descend, learnable
from inference.training.detector import HOLD_OUT, Summary
from inference.training.discriminator import Bits, Both, Discriminator, drawn, seen
from inference.training.features import Grid, NetworkDetector
from inference.training.progress import Progress
from inference.training.pyramid import PyramidOptions

SUMMARY = Summary(
    title="Drawn defects",
    paradigm="discriminative",
    paper="after Zavrtanik et al., DRAEM, ICCV 2021, and Li et al., CutPaste, CVPR 2021",
    what_for="surfaces with spots, cracks, stains and broken edges, under light that varies; minutes to learn",
    localises=True,
    fitting="minutes",
    images=50,
)


class Options(PyramidOptions, DescentOptions):
    """What can be chosen."""

    stride_px: int = Field(default=16, ge=2, le=64, description="side of a cell of the grid of features")
    copies: int = Field(default=2, ge=1, le=20, description="copies of each image, with a drawn defect each")
    width: int = Field(default=64, ge=8, le=1024, description="channels of the network that learns")
    epochs: int = Field(default=100, ge=1, le=10_000, description="how often each image is learnt from, at most")
    steps: int = Field(default=600, ge=1, le=1_000_000, description="steps of learning, at most")
    rate: float = Field(default=0.001, gt=0.0, le=1.0, description="highest learning rate")

    def grid(self) -> Grid:
        """Return what makes features of images (N, 1 or 3, size_px, size_px)."""
        return Grid(self.network(), self.size_px, self.size_px // self.stride_px)


class Detector(NetworkDetector[Options]):
    """Good images beside copies with drawn defects, and a discriminator of their features."""

    minimum_images: ClassVar[int] = 2
    folds: ClassVar[int] = HOLD_OUT

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Learn to tell good images (N, C, size_px, size_px) from their copies; raise InputError where not finite."""
        grid = self.options.grid()
        return nn.Sequential(grid, self.learn(features, grid, seen(grid, features, "see", progress), seed, progress))

    def learn(self, images: Tensor, grid: Grid, good: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Return a map (N, h, w) of features (N, h, w, C), learnt from those of good images and from images themselves.

        Each step shows as many drawn defects as good images: the same parts, turned alike by chance.
        """
        lessons, answers = [], []
        for copy in range(self.options.copies):
            copies, bad = drawn(images, grid.side, copy, seed)
            lessons.append(seen(grid, copies, "draw", progress))
            answers.append(bad)
        spoilt, where = torch.stack(lessons), torch.stack(answers)
        both = Both(good)
        network = Discriminator(2 * good.shape[-1], self.options.width)
        learnable(network)

        def loss(places: Tensor) -> Tensor:
            copy = torch.randint(self.options.copies, (len(places),))
            features = both(torch.cat([good[places], spoilt[copy, places]]))
            bad = torch.cat([torch.zeros_like(where[0, places]), where[copy, places]])
            turned = [axis for axis in (1, 2) if torch.rand(()) < 0.5]  # noqa: PLR2004 - as often as not
            return network.loss(features.flip(turned), bad.flip(turned))

        descend(network, loss, len(good), self.options, seed, progress)
        return nn.Sequential(both, network, Bits())
