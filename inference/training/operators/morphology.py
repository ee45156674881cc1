"""Grey morphology with a square."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from inference.training.operators.operator import Operator


class Hat(Operator):
    """What is smaller than a square."""

    peak: ClassVar[bool] = True
    radius_px: int = Field(
        default=4, ge=1, le=15, description="the square's side is twice this and one, after resampling"
    )

    def _dilated(self, gray: Tensor) -> Tensor:
        side_px = 2 * self.radius_px + 1
        return functional.max_pool2d(gray, side_px, stride=1, padding=self.radius_px)

    def _opened(self, gray: Tensor) -> Tensor:
        return self._dilated(-self._dilated(-gray))


class TopHat(Hat):
    """Bright things smaller than the square: the image less its opening (Serra, 1982)."""

    operator: Literal["top_hat"] = Field(default="top_hat", description="bright specks and lines")

    def respond(self, gray: Tensor) -> Tensor:
        """Return (N, 1, H, W)."""
        return (gray - self._opened(gray)) / 255.0


class BlackHat(Hat):
    """Dark things smaller than the square: the image's closing less itself (Serra, 1982)."""

    operator: Literal["black_hat"] = Field(default="black_hat", description="dark specks, pores and cracks")

    def respond(self, gray: Tensor) -> Tensor:
        """Return (N, 1, H, W)."""
        return (-self._opened(-gray) - gray) / 255.0
