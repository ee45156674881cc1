"""Any network of timm that gives feature maps, where timm is installed (Apache-2.0; it brings torchvision)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from config.errors import ConfigurationError
from inference.training.backbones.layers import State, frozen, rounded

USUAL = (2, 3)  # strides of 8 and 16 in most networks


class TimmBackbone(nn.Module):
    """A network of timm by its name there; `taps` are its `out_indices`."""

    def __init__(self, name: str, taps: Sequence[int]) -> None:
        super().__init__()
        try:
            import timm  # type: ignore[import-not-found] # noqa: PLC0415 - no dependency of ours: who asks for it has it
        except ImportError as error:
            raise ConfigurationError(f"the backbone timm:{name} needs timm: pip install timm ({error})") from error
        try:
            self.network: Any = timm.create_model(name, features_only=True, out_indices=tuple(taps), pretrained=False)
        except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
            raise ConfigurationError(f"backbone timm:{name} with taps {list(taps)}: {error}") from error
        self.channels: tuple[int, ...] = tuple(self.network.feature_info.channels())
        told = self.network.pretrained_cfg
        self.register_buffer("mean", 255 * torch.tensor(tuple(told["mean"])[::-1])[:, None, None])
        self.register_buffer("scale", 1 / (255 * torch.tensor(tuple(told["std"])[::-1])[:, None, None]))
        frozen(self)

    def forward(self, bgr: Tensor) -> list[Tensor]:
        """Return a feature map (N, C, h, w) for each tap, of BGR (N, 3, H, W), values 0..255."""
        normal = (bgr - self.get_buffer("mean")) * self.get_buffer("scale")
        return list(self.network(normal.flip(1)))

    def load(self, state: State) -> None:
        """Take timm's weights of the whole network; raise KeyError where some of its own are not among them."""
        wanted = self.network.state_dict()
        self.network.load_state_dict(
            {name: rounded(state[name]) if state[name].is_floating_point() else state[name] for name in wanted}
        )
