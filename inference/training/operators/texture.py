"""Texture: how often which pattern of neighbours occurs."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from inference.training.operators.operator import Operator, at_least

RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # (y, x), once around


class LocalBinaryPattern(Operator):
    """Uniform rotation-invariant patterns of the eight neighbours (Ojala, Pietikäinen and Mäenpää, PAMI 2002).

    Nine classes by how many neighbours are at least as bright, and a tenth for more than two changes around the ring.
    Between whole grey levels a pixel belongs to two classes in part (Iakovidis et al., fuzzy LBP, 2008).
    """

    operator: Literal["lbp"] = Field(default="lbp", description="texture, whatever the light")
    radius_px: int = Field(default=1, ge=1, le=7, description="distance of the neighbours, after resampling")

    def respond(self, gray: Tensor) -> Tensor:
        """Return each class's membership (N, 10, H, W), which sum to 1 at every pixel."""
        radius_px = self.radius_px
        height_px, width_px = gray.shape[2:]
        wide = functional.pad(gray, (radius_px,) * 4, mode="reflect")
        bits = torch.cat(
            [
                at_least(
                    wide[:, :, (1 + y) * radius_px :, (1 + x) * radius_px :][:, :, :height_px, :width_px],
                    gray,
                )
                for y, x in RING
            ],
            dim=1,
        )
        changes = (bits - torch.cat([bits[:, 1:], bits[:, :1]], dim=1)).abs().sum(dim=1, keepdim=True)
        uniform = (2.0 - changes * 0.5).clamp(0.0, 1.0)
        brighter = bits.sum(dim=1, keepdim=True)
        classes = torch.arange(9, dtype=torch.float32).reshape(1, 9, 1, 1)
        return torch.cat([(1.0 - (brighter - classes).abs()).clamp(min=0.0) * uniform, 1.0 - uniform], dim=1)
