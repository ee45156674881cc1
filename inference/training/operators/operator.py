"""What an operator is: named parameters, and the graph that they stand for."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn


class Named(BaseModel):
    """A name and its parameters, as a recipe or a bundle's manifest holds them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    peak: ClassVar[bool] = False  # whether a cell's largest response counts as well as its mean


class Operator(Named):
    """One that responds to an image by itself.

    Every response is a continuous function of the grey levels, comparisons too: they rise from 0 to 1 over one grey
    level. On whole grey levels that is the plain comparison; between them, where frames were resampled, a rounding
    that differs between engines moves a response by as little as the rounding.
    """

    def respond(self, gray: Tensor) -> Tensor:
        """Return responses (N, K, H, W), about 0..1, of grey levels (N, 1, H, W), 0..255, both float32."""
        raise NotImplementedError


class Taught(Named):
    """One that must have seen good images before it responds."""

    def taught(self, gray: Tensor) -> nn.Module:
        """Return what gives responses as an operator does, after good images' grey levels (M, 1, H, W)."""
        raise NotImplementedError


def at_least(values: Tensor, limits: Tensor) -> Tensor:
    """Return 1 where values >= limits, 0 where they are a grey level or more below, and a ramp between."""
    return (values - limits + 1.0).clamp(0.0, 1.0)
