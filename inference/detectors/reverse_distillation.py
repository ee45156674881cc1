"""Reverse distillation: a decoder that restores a teacher's features from a narrow summary of them.

Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import Convolution
from inference.training.descent import DescentOptions, descend, learnable
from inference.training.detector import HOLD_OUT, Summary
from inference.training.features import NetworkDetector
from inference.training.progress import Progress
from inference.training.pyramid import Fusion, PyramidOptions, Teacher, distances
from inference.training.resampling import area_weights

POSITIVE = (0.0, float("inf"))

SUMMARY = Summary(
    title="Reverse distillation",
    paradigm="distillation",
    paper="Deng and Li, Anomaly Detection via Reverse Distillation from One-Class Embedding, CVPR 2022",
    what_for="one product whose faults change its shape as a whole, with minutes to learn it",
    localises=True,
    fitting="minutes",
    images=50,
)


class Options(PyramidOptions, DescentOptions):
    """What can be chosen."""


class Detector(NetworkDetector[Options]):
    """A pretrained encoder, a bottleneck, and a decoder that learns to give the encoder's features back."""

    folds: ClassVar[int] = HOLD_OUT

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Teach bottleneck and decoder to restore the teacher's features of good images (N, C, size_px, size_px)."""
        teacher = Teacher(self.options.network(), features)
        lessons = teacher.lessons(features)
        sides = [level.shape[-1] for level in lessons]
        restoring = Restoring([level.shape[1] for level in lessons], sides)
        learnable(restoring)

        def loss(places: Tensor) -> Tensor:
            shown = [level[places] for level in lessons]
            return torch.stack([one.mean() for one in distances(shown, restoring(shown))]).sum()

        descend(restoring, loss, len(features), self.options, seed, progress)
        return Restored(teacher, restoring, sides)


class Restoring(nn.Module):
    """Features of several scales, finest first and of any channels and sides, through a one-class bottleneck and back.

    The bottleneck brings all levels to the coarsest grid, mixes them, and halves it (section 3.3). The decoder goes
    the encoder's way back, from its coarsest level to its finest, by enlarging and two convolutions, where the paper
    mirrors a ResNet by transposed ones: this fits any backbone, and leaves no chequered traces.
    """

    def __init__(self, channels: Sequence[int], sides: Sequence[int]) -> None:
        super().__init__()
        self.downs = nn.ModuleList(
            nn.Sequential(*_halvings(count, side, sides[-1])) for count, side in zip(channels, sides, strict=True)
        )
        narrow = 2 * channels[-1]
        summary_side = -(-sides[-1] // 2)
        self.mix = Convolution(sum(channels), channels[-1], 1, clamp=POSITIVE)
        self.narrow = nn.Sequential(
            Convolution(channels[-1], narrow, 3, stride=2, clamp=POSITIVE),
            Convolution(narrow, narrow, 3, clamp=POSITIVE),
        )
        rising = [(narrow, summary_side), *zip(reversed(channels), reversed(sides), strict=True)]
        self.ups = nn.ModuleList(Up(*below, *above) for below, above in itertools.pairwise(rising))
        self.answers = nn.ModuleList(nn.Conv2d(count, count, 1) for count in reversed(channels))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels (N, C, h, w) as they are restored."""
        x = self.narrow(self.mix(torch.cat([down(level) for down, level in zip(self.downs, levels, strict=True)], 1)))
        restored: list[Tensor] = []
        for up, answer in zip(self.ups, self.answers, strict=True):
            x = up(x)
            restored.insert(0, answer(x))
        return restored


def _halvings(channels: int, side: int, wanted: int) -> list[Convolution]:
    steps = []
    while side > wanted:
        steps.append(Convolution(channels, channels, 3, stride=2, clamp=POSITIVE))
        side = -(-side // 2)
    return steps


class Up(nn.Module):
    """Enlarge a map linearly to the side of the next level, and bring it to that level's channels."""

    def __init__(self, inputs: int, from_side: int, outputs: int, to_side: int) -> None:
        super().__init__()
        self.register_buffer("resample", area_weights(from_side, to_side), persistent=False)
        self.narrow = Convolution(inputs, outputs, 1, clamp=POSITIVE)
        self.first = Convolution(outputs, outputs, 3, clamp=POSITIVE)
        self.second = Convolution(outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, to_side, to_side)."""
        resample = self.get_buffer("resample")
        x = resample @ self.narrow(x) @ resample.T
        return functional.relu(x + self.second(self.first(x)))


class Restored(nn.Module):
    """How far a teacher's features are from what a decoder makes of them."""

    def __init__(self, teacher: Teacher, restoring: Restoring, sides: Sequence[int]) -> None:
        super().__init__()
        self.teacher, self.restoring, self.fusion = teacher, restoring, Fusion(sides)

    def forward(self, images: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of images (N, 1 or 3, size_px, size_px)."""
        levels = self.teacher(images)
        anomaly_map: Tensor = self.fusion(distances(levels, self.restoring(levels)))
        return anomaly_map
