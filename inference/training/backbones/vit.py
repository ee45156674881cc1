"""A plain vision transformer, in the layout of DINOv2's weights.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Oquab et al., "DINOv2", TMLR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import State, frozen, rounded
from inference.training.backbones.resnet import DEVIATION_RGB, MEAN_RGB

EPSILON = 1e-6
HEAD_CHANNELS = 64
ENLARGED = 4  # times the width, inside a block's perceptron


class Plan(NamedTuple):
    """Blocks, width, pixels of a patch's side, and tokens that are no patches (one for the class, then registers)."""

    blocks: int
    channels: int
    patch_px: int
    registers: int


VIT_S14 = Plan(12, 384, 14, 0)
VIT_S14_REGISTERS = Plan(12, 384, 14, 4)
VIT_B14 = Plan(12, 768, 14, 0)


class Block(nn.Module):
    """Attention and perceptron, each behind a norm and scaled by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_CHANNELS
        self.norm1, self.norm2 = nn.LayerNorm(channels, EPSILON), nn.LayerNorm(channels, EPSILON)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.fc1, self.fc2 = nn.Linear(channels, ENLARGED * channels), nn.Linear(ENLARGED * channels, channels)
        self.gamma1, self.gamma2 = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (N, T, C)."""
        count, tokens, channels = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(count, tokens, 3, self.heads, HEAD_CHANNELS).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        share = torch.softmax(query @ key.transpose(-2, -1) * HEAD_CHANNELS**-0.5, dim=-1)
        seen = (share @ value).transpose(1, 2).reshape(count, tokens, channels)
        x = x + self.gamma1 * self.proj(seen)
        y: Tensor = x + self.gamma2 * self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return y


class VisionTransformer(nn.Module):
    """A transformer for images of one size up to the last of `taps`, blocks from 0, of which each gives a map."""

    def __init__(self, plan: Plan, taps: Sequence[int], size_px: int) -> None:
        super().__init__()
        self.plan, self.taps = plan, tuple(taps)
        self.channels = (plan.channels,) * len(self.taps)
        self.side = size_px // plan.patch_px
        self.patch = nn.Conv2d(3, plan.channels, plan.patch_px, plan.patch_px)
        self.first = nn.Parameter(torch.zeros(1, 1 + plan.registers, plan.channels))
        self.places = nn.Parameter(torch.zeros(1, self.side**2, plan.channels))
        self.blocks = nn.ModuleList(Block(plan.channels) for _ in range(max(self.taps) + 1))
        self.norm = nn.LayerNorm(plan.channels, EPSILON)
        self.register_buffer("mean", 255 * torch.tensor(MEAN_RGB[::-1])[:, None, None])
        self.register_buffer("scale", 1 / (255 * torch.tensor(DEVIATION_RGB[::-1])[:, None, None]))
        frozen(self)

    def forward(self, bgr: Tensor) -> list[Tensor]:
        """Return a feature map (N, C, h, w) for each tap, of BGR (N, 3, size_px, size_px), values 0..255."""
        patches = self.patch((bgr - self.get_buffer("mean")) * self.get_buffer("scale")).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(patches.shape[0], -1, -1), patches + self.places], dim=1)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                seen = self.norm(x)[:, self.first.shape[1] :]
                features.append(seen.transpose(1, 2).reshape(-1, self.plan.channels, self.side, self.side))
        return features

    def load(self, state: State) -> None:
        """Take DINOv2's weights; raise KeyError or RuntimeError where they are of another network."""
        self.patch.weight.data = rounded(state["patch_embed.proj.weight"]).flip(1)  # trained on RGB, fed BGR
        self.patch.bias.data = rounded(state["patch_embed.proj.bias"])  # type: ignore[union-attr] # Conv2d has one here
        places = state["pos_embed"]
        first = state["cls_token"] + places[:, :1]
        if self.plan.registers:
            first = torch.cat([first, state["register_tokens"]], dim=1)
        self.first.data = rounded(first)
        learnt = round((places.shape[1] - 1) ** 0.5)
        grid = places[:, 1:].transpose(1, 2).reshape(1, -1, learnt, learnt)
        size = (self.side, self.side)
        grid = functional.interpolate(grid, size, mode="bicubic", antialias=self.side < learnt)
        self.places.data = rounded(grid.flatten(2).transpose(1, 2))
        for index, block in enumerate(self.blocks):
            prefix = f"blocks.{index}."
            names = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
            for name in ("norm1", "norm2", "qkv", "proj", "fc1", "fc2"):
                _take(block.get_submodule(name), state, prefix + names.get(name, name))
            for name in ("1", "2"):
                block.get_parameter("gamma" + name).data = rounded(state[f"{prefix}ls{name}.gamma"])
        _take(self.norm, state, "norm")


def _take(module: nn.Module, state: State, prefix: str) -> None:
    for name in ("weight", "bias"):
        values, wanted = state[f"{prefix}.{name}"], module.get_parameter(name)
        if values.shape != wanted.shape:
            raise RuntimeError(f"{prefix}.{name} is {tuple(values.shape)}, not {tuple(wanted.shape)}")
        wanted.data = rounded(values)
