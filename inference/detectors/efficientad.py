"""EfficientAD: a small teacher for patches, a student that foretells it, and an autoencoder that sees the whole.

Batzner et al., "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", WACV 2024. There the
teacher is distilled from a Wide-ResNet-101 on ImageNet, which also keeps the student from foretelling other images.
Here it is distilled from whatever backbone is at hand, on variations of the good images alone, and that penalty is
left out: what it knows of faults it has from patches that were moved, turned and recoloured.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import Convolution
from inference.training.calibration import folds
from inference.training.descent import DescentOptions, descend, learnable
from inference.training.detector import HOLD_OUT, Summary
from inference.training.features import NetworkDetector, NetworkOptions
from inference.training.progress import Progress
from inference.training.pyramid import Teacher
from inference.training.resampling import area_weights

POSITIVE = (0.0, float("inf"))
STRIDE_PX = 4  # of the networks for patches: two means over pairs
HARD_SHARE = 0.01  # of differences that a student learns from; 0.001 in the paper, whose 70,000 steps see enough so
NORMAL, ODD = 0.9, 0.995  # quantiles of good images' maps that become 0 and 0.1 (section 3.4)
SUMMARY_CHANNELS = 64
AT_ONCE = 8  # images
PATCH_SHARE = 4  # a patch that is moved has this share of an image's side

SUMMARY = Summary(
    title="EfficientAD",
    paradigm="distillation",
    paper="Batzner et al., EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies, WACV 2024",
    what_for="one product whose features can be wrong each or in their arrangement; a bundle without a large network",
    localises=True,
    fitting="minutes",
    images=50,
)


class Options(NetworkOptions, DescentOptions):
    """What can be chosen."""

    size_px: int = Field(default=128, ge=32, le=1024, description="side that frames are resampled to")
    steps: int = Field(default=100, ge=1, le=1_000_000, description="steps of learning, at most, of each")
    width: int = Field(default=32, ge=8, le=512, description="channels of the first convolution; 128 in the paper")


class Detector(NetworkDetector[Options]):
    """Teacher, student and autoencoder, all of them small."""

    minimum_images: ClassVar[int] = 5
    folds: ClassVar[int] = HOLD_OUT

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Learn from four fifths of the good images (N, C, size_px, size_px); the rest says what is normal in a map."""
        images = features.expand(-1, 3, -1, -1)
        held_out = torch.zeros(len(images), dtype=torch.bool)
        held_out[torch.from_numpy(folds(len(images), HOLD_OUT, seed)[0])] = True
        shown = images[~held_out]
        chance = torch.Generator().manual_seed(seed)
        teacher = self._distilled(shown, chance, seed, progress)
        channels = teacher.answer.out_channels
        pupils = Pupils(channels, self.options.width, self.options.size_px)
        learnable(pupils)

        def loss(places: Tensor) -> Tensor:
            plain, other = shown[places], recoloured(shown[places], chance)
            local, whole = pupils.student(plain)[:, :channels], pupils.student(other)[:, channels:]
            drawn = pupils.autoencoder(other)
            with torch.no_grad():
                wanted, wanted_of_other = teacher(plain), teacher(other)
            drawing = functional.mse_loss(drawn, wanted_of_other)
            return hardest((wanted - local).square()) + drawing + functional.mse_loss(whole, drawn.detach())

        descend(pupils, loss, len(shown), self.options, seed, progress)
        return Apart(teacher, pupils, images[held_out])

    def _distilled(self, images: Tensor, chance: torch.Generator, seed: int, progress: Progress) -> PatchNetwork:
        source = Teacher(self.options.network(), images)
        side = self.options.size_px // STRIDE_PX
        channels = sum(level.shape[1] for level in source(images[:1]))
        teacher = PatchNetwork(channels, self.options.width)
        learnable(teacher)

        def loss(places: Tensor) -> Tensor:
            varied = patched(recoloured(images[places], chance), chance)
            with torch.no_grad():
                levels = [on_grid(level, side) for level in source(varied)]
            return functional.mse_loss(teacher(varied), torch.cat(levels, dim=1))

        descend(teacher, loss, len(images), self.options, seed, progress)
        return teacher


class PatchNetwork(nn.Module):
    """A description of every patch of 29 pixels (33 in the paper), at a stride of 4 (PDN-S, table 6; narrower)."""

    def __init__(self, outputs: int, width: int) -> None:
        super().__init__()
        self.first = Convolution(3, width, 4, clamp=POSITIVE)
        self.second = Convolution(width, 2 * width, 4, clamp=POSITIVE)
        self.third = Convolution(2 * width, 2 * width, 3, clamp=POSITIVE)
        self.answer = nn.Conv2d(2 * width, outputs, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, outputs, size_px / 4, size_px / 4) for images (N, 3, size_px, size_px), values 0..255."""
        x = functional.avg_pool2d(self.first((images - 127.0) * (1.0 / 128.0)), 2)
        answer: Tensor = self.answer(self.third(functional.avg_pool2d(self.second(x), 2)))
        return answer


class Autoencoder(nn.Module):
    """The teacher's answer from a summary of the whole image, which no fine fault passes (table 7)."""

    def __init__(self, outputs: int, width: int, size_px: int) -> None:
        super().__init__()
        inner = 2 * width
        plan = [3, width, width, inner, inner]
        self.down = nn.Sequential(
            *(Convolution(plan[i], plan[i + 1], 4, stride=2, clamp=POSITIVE) for i in range(len(plan) - 1)),
        )
        side = size_px
        for _ in plan[1:]:
            side = -(-side // 2)
        self.narrow = nn.Conv2d(inner, SUMMARY_CHANNELS, side)
        self.widen = nn.Conv2d(SUMMARY_CHANNELS, inner * side * side, 1)
        self.side, self.inner = side, inner
        self.sides = [side * 2, size_px // STRIDE_PX]
        self.register_buffer("enlarge_0", area_weights(side, self.sides[0]), persistent=False)
        self.register_buffer("enlarge_1", area_weights(self.sides[0], self.sides[1]), persistent=False)
        self.up = nn.ModuleList(Convolution(inner, inner, 3, clamp=POSITIVE) for _ in range(3))
        self.answer = nn.Conv2d(inner, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, outputs, size_px / 4, size_px / 4) for images (N, 3, size_px, size_px), values 0..255."""
        summary = self.narrow(self.down((images - 127.0) * (1.0 / 128.0)))
        x = self.up[0](functional.relu(self.widen(summary)).reshape(-1, self.inner, self.side, self.side))
        for step in range(2):
            enlarge = self.get_buffer(f"enlarge_{step}")
            x = self.up[1 + step](enlarge @ x @ enlarge.T)
        answer: Tensor = self.answer(x)
        return answer


class Pupils(nn.Module):
    """What learns from the teacher: a student that foretells it and the autoencoder, and the autoencoder itself."""

    def __init__(self, channels: int, width: int, size_px: int) -> None:
        super().__init__()
        self.student = PatchNetwork(2 * channels, width)
        self.autoencoder = Autoencoder(channels, width, size_px)


class Apart(nn.Module):
    """How far student and teacher, and student and autoencoder, are apart, each scaled by held-out good images."""

    def __init__(self, teacher: PatchNetwork, pupils: Pupils, held_out: Tensor) -> None:
        super().__init__()
        self.teacher, self.pupils = teacher, pupils
        self.eval()
        with torch.no_grad():
            maps = [torch.stack(self.apart(some)) for some in torch.split(held_out, AT_ONCE)]
        good = torch.cat(maps, dim=1).flatten(1)
        # numpy's: torch's takes no more than 16 million numbers
        normal, odd = torch.from_numpy(np.quantile(good.numpy(), (NORMAL, ODD), axis=1)).to(torch.float32)
        self.register_buffer("normal", normal)
        self.register_buffer("scale", 0.1 / (odd - normal).clamp(min=1e-6))

    def apart(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the local and the global map (N, h, w) of images (N, 3, size_px, size_px)."""
        wanted, drawn = self.teacher(images), self.pupils.autoencoder(images)
        foretold = self.pupils.student(images)
        channels = wanted.shape[1]
        local = (wanted - foretold[:, :channels]).square().mean(dim=1)
        return local, (drawn - foretold[:, channels:]).square().mean(dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of images (N, 1 or 3, size_px, size_px)."""
        normal, scale = self.get_buffer("normal"), self.get_buffer("scale")
        local, whole = self.apart(images.expand(-1, 3, -1, -1))
        return 0.5 * ((local - normal[0]) * scale[0] + (whole - normal[1]) * scale[1])


def hardest(differences: Tensor) -> Tensor:
    """Return the mean of the largest differences, so that a student does not learn what it need not (section 3.2)."""
    flat = differences.flatten()
    mean: Tensor = flat.topk(max(1, int(HARD_SHARE * len(flat)))).values.mean()
    return mean


def on_grid(features: Tensor, side: int) -> Tensor:
    """Return features (N, C, h, h) resampled to (N, C, side, side)."""
    resample = area_weights(features.shape[-1], side)
    moved: Tensor = resample @ features @ resample.T
    return moved


def recoloured(images: Tensor, chance: torch.Generator) -> Tensor:
    """Return images (N, 3, H, W) of which each has its brightness and contrast changed by up to a fifth."""
    gain, shift = 0.8 + 0.4 * torch.rand(2, len(images), 1, 1, 1, generator=chance)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed: Tensor = (images - mean) * gain + mean * shift
    return changed.clamp(0.0, 255.0)


def patched(images: Tensor, chance: torch.Generator) -> Tensor:
    """Return images (N, 3, S, S) each with a square of another one, turned and recoloured, in some place.

    Li et al., "CutPaste", CVPR 2021: what is cut and pasted looks like a fault to whoever must describe it.
    """
    side = images.shape[-1] // PATCH_SHARE
    spoilt = images.clone()
    sources = torch.randint(len(images), (len(images),), generator=chance).tolist()
    corners = torch.randint(images.shape[-1] - side + 1, (len(images), 4), generator=chance).tolist()
    turns = torch.randint(4, (len(images),), generator=chance).tolist()
    for image, (source, (top, left, to_top, to_left), turn) in enumerate(zip(sources, corners, turns, strict=True)):
        patch = images[source, :, top : top + side, left : left + side]
        shade = 0.3 + 1.4 * torch.rand(3, 1, 1, generator=chance)
        turned = torch.rot90(patch, turn, (1, 2)) * shade
        spoilt[image, :, to_top : to_top + side, to_left : to_left + side] = turned.clamp(0.0, 255.0)
    return spoilt
