"""The linear subspace that holds most of what varies in a set of vectors: principal components."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from inference.training.backbones.layers import rounded

ROWS = 16384  # vectors widened to float64 at a time
SMALLEST = 1e-10  # of the largest variance: what is below is rounding


class Subspace(NamedTuple):
    """A mean (D,), orthonormal directions (D, k) in order of falling variance, and these variances (k,); float64."""

    mean: Tensor
    basis: Tensor
    variances: Tensor


def principal_subspace(vectors: Tensor, kept: float) -> Subspace:
    """Return the fewest principal components of `vectors` (M, D) that hold the share `kept` of their variance.

    It is also what a linear autoencoder with tied weights converges to under squared error (Baldi and Hornik, 1989).
    Solved exactly in float64, by the covariance or, where there are fewer vectors than dimensions, by the products of
    the vectors with each other (Turk and Pentland, 1991). Vectors that are all alike give one direction, all zeros.
    """
    count, dimensions = vectors.shape
    mean = torch.zeros(dimensions, dtype=torch.float64)
    for part in torch.split(vectors, ROWS):
        mean += part.to(torch.float64).sum(dim=0)
    mean /= count
    if count < dimensions:
        centred = vectors.to(torch.float64) - mean
        variances, weights = _falling(centred @ centred.T / count, kept)
        lengths = (variances * count).sqrt()
        basis = torch.where(lengths > 0.0, centred.T @ weights / lengths, torch.zeros(()))
    else:
        covariance = torch.zeros((dimensions, dimensions), dtype=torch.float64)
        for part in torch.split(vectors, ROWS):
            centred = part.to(torch.float64) - mean
            covariance.addmm_(centred.T, centred, alpha=1.0 / count)
        variances, basis = _falling(covariance, kept)
        basis = torch.where(variances > 0.0, basis, torch.zeros(()))
    return Subspace(mean, basis, variances)


def _falling(matrix: Tensor, kept: float) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues (k,), whose sum is the share `kept` of all, and their eigenvectors (n, k)."""
    values, vectors = torch.linalg.eigh(matrix)
    values = values.flip(0).clamp(min=0.0)
    values[values <= SMALLEST * values[0]] = 0.0
    short = int((values.cumsum(dim=0) < kept * values.sum()).sum())
    count = max(1, min(short + 1, int((values > 0.0).sum())))
    return values[:count].clone(), vectors.flip(1)[:, :count]


class TiedAutoencoder(nn.Module):
    """What a subspace leaves of vectors: x - mean, less its own projection; weights in float16's precision."""

    def __init__(self, subspace: Subspace) -> None:
        super().__init__()
        self.register_buffer("mean", rounded(subspace.mean.to(torch.float32)))
        self.register_buffer("basis", rounded(subspace.basis.to(torch.float32)))

    def embed(self, vectors: Tensor) -> Tensor:
        """Return the coordinates (M, k) of vectors (M, D)."""
        return (vectors - self.get_buffer("mean")) @ self.get_buffer("basis")

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the error of reconstruction (M, D) of vectors (M, D)."""
        centred = vectors - self.get_buffer("mean")
        basis = self.get_buffer("basis")
        return centred - (centred @ basis) @ basis.T
