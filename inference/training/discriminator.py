"""A small network that tells good patches from others, by features that it is given."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import Convolution
from inference.training.detector import finite
from inference.training.drawing import spoiled
from inference.training.features import EvenLight, Grid
from inference.training.gaussian import Standardise, scale
from inference.training.progress import Progress

AT_ONCE = 8  # images
SLOPE = 0.2  # of a leaky rectifier
LEFT_OUT = 0.1  # of the channels, by chance, while learning
NOISE = 0.1  # deviation of what is added to features while learning, so that no answer hangs on their rounding
BAD_WEIGHT = 3.0  # of a bad cell beside a good one: they are few


class Discriminator(nn.Module):
    """Two layers of convolution, the second of which sees a cell's eight neighbours."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.left_out = nn.Dropout2d(LEFT_OUT)
        self.first, self.second = Convolution(channels, width, 1), Convolution(width, width, 3)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return log-odds (N, h, w) that a cell of features (N, h, w, C) is bad."""
        x = self.left_out(features.permute(0, 3, 1, 2))
        for layer in (self.first, self.second):
            x = functional.leaky_relu(layer(x), SLOPE)
        odds: Tensor = self.last(x)[:, 0]
        return odds

    def loss(self, features: Tensor, bad: Tensor) -> Tensor:
        """Return the cross entropy of what is said of features (N, h, w, C), where cells `bad` (N, h, w) are 1."""
        odds = self(features + NOISE * torch.randn_like(features))
        return functional.binary_cross_entropy_with_logits(odds, bad, pos_weight=torch.tensor(BAD_WEIGHT))


class Bits(nn.Module):
    """Log-odds that a cell is bad, told as bits of surprise that it were good: 1 where there is no saying.

    They are nothing below and log-odds above, so that they can be added to distances.
    """

    def forward(self, odds: Tensor) -> Tensor:
        """Return bits (N, h, w) of log-odds (N, h, w)."""
        return functional.softplus(odds) / math.log(2.0)


class Both(nn.Module):
    """Features whose channels are standardised over good images, and beside them the same under even light."""

    def __init__(self, good: Tensor) -> None:
        super().__init__()
        self.plain, self.even = Standardise(scale(good.flatten(0, 2))), EvenLight()

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, h, w, 2 C) of features (N, h, w, C)."""
        return torch.cat([self.plain(features), self.even(features)], dim=3)


def seen(grid: Grid, images: Tensor, stage: str, progress: Progress) -> Tensor:
    """Return features (N, h, w, C) of images (N, 1 or 3, S, S); raise InputError where one is not finite."""
    found = []
    with torch.no_grad():
        for start in range(0, len(images), AT_ONCE):
            found.append(grid(images[start : start + AT_ONCE]))
            progress(stage, min(start + AT_ONCE, len(images)), len(images))
    return finite(torch.cat(found))


def drawn(images: Tensor, cells: int, copy: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return copies (N, C, S, S) of good images with a defect each, and the cells (N, cells, cells) that it touches: 1.

    `copy` says which of several copies: each has a defect of another kind.
    """
    frames = images.permute(0, 2, 3, 1).contiguous().numpy()
    copies, bad = [], []
    for place, frame in enumerate(frames):
        random = np.random.default_rng([seed, copy, place])
        changed, mask = spoiled(frame, frames[random.integers(len(frames))], place + copy, random)
        copies.append(torch.from_numpy(changed).permute(2, 0, 1))
        touched = torch.from_numpy(mask.astype(np.float32))[None, None]
        bad.append(functional.adaptive_max_pool2d(touched, cells)[0, 0])
    return torch.stack(copies), torch.stack(bad)
