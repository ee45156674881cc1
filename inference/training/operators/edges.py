"""Edges: first and second derivatives."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from inference.training.operators.operator import Operator


class Sobel(Operator):
    """Length of the gradient |dx| + |dy|, by Sobel's 3 x 3 kernels; 1 is the steepest edge along an axis."""

    peak: ClassVar[bool] = True
    operator: Literal["sobel"] = Field(default="sobel", description="gradient: edges, scratches, dents")

    def respond(self, gray: Tensor) -> Tensor:
        """Return (N, 1, H, W)."""
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        kernels = torch.stack([across, across.T])[:, None]
        slopes = functional.conv2d(functional.pad(gray, (1, 1, 1, 1), mode="reflect"), kernels)
        return slopes.abs().sum(dim=1, keepdim=True) / (4.0 * 255.0)


class Laplacian(Operator):
    """Magnitude of the second derivative, by the 3 x 3 kernel of the four neighbours; 1 is a lone white pixel."""

    peak: ClassVar[bool] = True
    operator: Literal["laplacian"] = Field(default="laplacian", description="second derivative: specks, thin lines")

    def respond(self, gray: Tensor) -> Tensor:
        """Return (N, 1, H, W)."""
        kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
        bends = functional.conv2d(functional.pad(gray, (1, 1, 1, 1), mode="reflect"), kernel)
        return bends.abs() / (4.0 * 255.0)
