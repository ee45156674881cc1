"""What several backbones are made of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

State = Mapping[str, Tensor]


class Convolution(nn.Module):
    """A convolution with a bias, its batch norm folded in, and clamped where asked.

    `padding` None pads as TensorFlow's SAME does: to ceil(size / stride), the odd pixel at the end.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        padding: int | None = None,
        clamp: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.clamp = kernel, stride, padding, clamp
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, padding=padding or 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, h, w)."""
        if self.padding is None:
            top, bottom = self._same(x.shape[2])
            left, right = self._same(x.shape[3])
            x = functional.pad(x, (left, right, top, bottom))
        x = self.conv(x)
        return x if self.clamp is None else torch.clamp(x, *self.clamp)

    def fold(self, state: State, convolution: str, norm: str, epsilon: float) -> None:
        """Put a convolution without bias and the batch norm behind it into one, rounded to float16's precision."""
        scale = state[norm + ".weight"] / torch.sqrt(state[norm + ".running_var"] + epsilon)
        weight = state[convolution + ".weight"] * scale[:, None, None, None]
        bias = state[norm + ".bias"] - state[norm + ".running_mean"] * scale
        self.conv.weight.data = rounded(weight)
        assert self.conv.bias is not None  # noqa: S101 - tells mypy that Conv2d was built with a bias
        self.conv.bias.data = rounded(bias)

    def _same(self, size: int) -> tuple[int, int]:
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2


def rounded(values: Tensor) -> Tensor:
    """Return float32 values rounded to what float16 can hold: a bundle then stores them in half the bytes, exactly."""
    return values.to(torch.float16).to(torch.float32)


def frozen(module: nn.Module) -> None:
    """Fix the weights of a network that is not learnt."""
    module.requires_grad_(requires_grad=False)
    module.eval()
