"""ResNet-18 and Wide-ResNet-50-2, in the layout of torchvision's weights.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Zagoruyko and Komodakis, "Wide Residual Networks",
BMVC 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import Convolution, State, frozen

EPSILON = 1e-5
STEM_CHANNELS = 64
MEAN_RGB, DEVIATION_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, values 0..1
POSITIVE = (0.0, math.inf)


class Plan(NamedTuple):
    """How many blocks each of the four layers has, their outputs, and the bottleneck's width (0: there is none)."""

    blocks: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]
    bottleneck: int  # width of the first layer's inner convolution


RESNET18 = Plan((2, 2, 2, 2), (64, 128, 256, 512), 0)
WIDE_RESNET50_2 = Plan((3, 4, 6, 3), (256, 512, 1024, 2048), 128)


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 where it has a bottleneck."""

    def __init__(self, inputs: int, outputs: int, inner: int, stride: int) -> None:
        super().__init__()
        if inner:
            self.convolutions = nn.ModuleList(
                [
                    Convolution(inputs, inner, 1, padding=0, clamp=POSITIVE),
                    Convolution(inner, inner, 3, stride, padding=1, clamp=POSITIVE),
                    Convolution(inner, outputs, 1, padding=0),
                ]
            )
        else:
            self.convolutions = nn.ModuleList(
                [
                    Convolution(inputs, outputs, 3, stride, padding=1, clamp=POSITIVE),
                    Convolution(outputs, outputs, 3, padding=1),
                ]
            )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else Convolution(inputs, outputs, 1, stride, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, h, w)."""
        y = x
        for convolution in self.convolutions:
            y = convolution(y)
        return functional.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """A ResNet up to the last of `taps`, layers 1 to 4, of which each gives a feature map."""

    def __init__(self, plan: Plan, taps: Sequence[int]) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.channels = tuple(plan.channels[tap - 1] for tap in self.taps)
        self.stem = Convolution(3, STEM_CHANNELS, 7, 2, padding=3, clamp=POSITIVE)
        self.layers = nn.ModuleList()
        inputs = STEM_CHANNELS
        for index in range(max(self.taps)):
            outputs, inner = plan.channels[index], plan.bottleneck << index
            blocks = []
            for position in range(plan.blocks[index]):
                stride = 2 if index and not position else 1
                blocks.append(Block(inputs, outputs, inner, stride))
                inputs = outputs
            self.layers.append(nn.Sequential(*blocks))
        self.register_buffer("mean", 255 * torch.tensor(MEAN_RGB[::-1])[:, None, None])
        self.register_buffer("scale", 1 / (255 * torch.tensor(DEVIATION_RGB[::-1])[:, None, None]))
        frozen(self)

    def forward(self, bgr: Tensor) -> list[Tensor]:
        """Return a feature map (N, C, h, w) for each tap, of BGR (N, 3, H, W), values 0..255."""
        x = self.stem((bgr - self.get_buffer("mean")) * self.get_buffer("scale"))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        features = []
        for number, layer in enumerate(self.layers, 1):
            x = layer(x)
            if number in self.taps:
                features.append(x)
        return features

    def load(self, state: State) -> None:
        """Take torchvision's weights; raise KeyError or RuntimeError where they are of another network."""
        self.stem.fold(state, "conv1", "bn1", EPSILON)
        self.stem.conv.weight.data = self.stem.conv.weight.data.flip(1)  # trained on RGB, fed BGR
        for number, layer in enumerate(self.layers, 1):
            for position, block in enumerate(layer.children()):
                prefix = f"layer{number}.{position}."
                assert isinstance(block, Block)  # noqa: S101 - tells mypy what Sequential forgets
                for index, convolution in enumerate(block.convolutions, 1):
                    assert isinstance(convolution, Convolution)  # noqa: S101 - the same
                    convolution.fold(state, f"{prefix}conv{index}", f"{prefix}bn{index}", EPSILON)
                if isinstance(block.shortcut, Convolution):
                    block.shortcut.fold(state, prefix + "downsample.0", prefix + "downsample.1", EPSILON)
