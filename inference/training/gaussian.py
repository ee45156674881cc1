"""A Gaussian for vectors that may be fewer than their dimensions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

LEAST_SPREAD = 1e-3  # of the features' root mean square: below, a spread is float's rounding and the camera's luck
LEAST_VARIANCE = 1e-4  # of standardised vectors: keeps a covariance invertible where nothing varies


class Scale(NamedTuple):
    """What vectors are standardised by: (x - centre) * factor, both float32 (D,)."""

    centre: Tensor
    factor: Tensor

    def apply(self, vectors: Tensor) -> Tensor:
        """Return standardised vectors (..., D)."""
        return (vectors - self.centre) * self.factor


class Standardise(nn.Module):
    """A scale as a part of a head."""

    def __init__(self, known: Scale) -> None:
        super().__init__()
        self.register_buffer("centre", known.centre)
        self.register_buffer("factor", known.factor)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return standardised vectors (..., D)."""
        return Scale(self.get_buffer("centre"), self.get_buffer("factor")).apply(vectors)


def scale(vectors: Tensor) -> Scale:
    """Return the mean and reciprocal spread of each dimension of `vectors` (M, D).

    What hardly varies is divided by LEAST_SPREAD of the root mean square of all, so that a dead channel does not become
    the loudest one.
    """
    wide = vectors.to(torch.float64)
    centre = wide.mean(dim=0)
    least = LEAST_SPREAD * wide.square().mean().sqrt()
    spread = (wide.var(dim=0, correction=0) + least.square()).sqrt()
    factor = torch.where(spread > 0.0, 1.0 / spread, torch.ones_like(spread))
    return Scale(centre.to(torch.float32), factor.to(torch.float32))


class Gaussian(NamedTuple):
    """Means (..., D) and lower-triangular whitenings (..., D, D), float64.

    The Mahalanobis distance of x is the length of whitening @ (x - mean).
    """

    mean: Tensor
    whitening: Tensor


def gaussian(vectors: Tensor, noise: float | Tensor = LEAST_VARIANCE) -> Gaussian:
    """Return the Gaussian of standardised `vectors` (..., M, D), one for each place of the leading dimensions.

    The covariance is shrunk towards a multiple of the identity by as much as minimises its expected squared error. That
    makes it invertible however few vectors there are (Ledoit and Wolf, "A well-conditioned estimator for
    large-dimensional covariance matrices", J. Multivariate Analysis 2004). The variance `noise` is added to each, or
    each of (D,) to its own.
    """
    wide = vectors.to(torch.float64)
    count, dimensions = wide.shape[-2:]
    mean = wide.mean(dim=-2)
    centred = wide - mean[..., None, :]
    covariance = centred.mT @ centred / count
    share, usual = _shrinkage(centred, covariance)
    shrunk = covariance * (1.0 - share)[..., None, None]
    shrunk.diagonal(dim1=-2, dim2=-1).add_((share * usual)[..., None] + noise)
    identity = torch.eye(dimensions, dtype=torch.float64).expand_as(shrunk)
    whitening = torch.linalg.solve_triangular(torch.linalg.cholesky(shrunk), identity, upper=False)
    return Gaussian(mean, whitening)


def _shrinkage(centred: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much to shrink (...,), 0 to 1, and the mean variance (...,) to shrink towards."""
    count, dimensions = centred.shape[-2:]
    usual = covariance.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    squares = covariance.square().sum(dim=(-2, -1))
    spread = squares - dimensions * usual.square()  # squared distance of the covariance from its target
    error = (centred.square().sum(dim=-1).square().mean(dim=-1) - squares) / count  # expected, of the covariance itself
    share = torch.where(spread > 0.0, error / spread, torch.ones_like(spread))
    return share.clamp(0.0, 1.0), usual
