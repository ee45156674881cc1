"""A small subset that covers a large set of feature vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.training.progress import Progress


def greedy_coreset(vectors: Tensor, size: int, generator: torch.Generator, progress: Progress) -> Tensor:
    """Return the indices (size,) of a greedy k-centre coreset of `vectors` (M, D) float32.

    Each step takes the vector farthest from all that were taken before; the first is random (Gonzalez 1985; PatchCore,
    Roth et al. 2022, algorithm 1, without its random projection: it would widen features as narrow as ours).
    """
    count = min(size, len(vectors))
    norms = (vectors * vectors).sum(dim=1)
    newest = int(torch.randint(len(vectors), (1,), generator=generator))
    taken = torch.empty(count, dtype=torch.int64)
    taken[0] = newest
    nearest = torch.full((len(vectors),), torch.inf)
    for step in range(1, count):
        nearest = torch.minimum(nearest, norms + norms[newest] - 2.0 * (vectors @ vectors[newest]))
        newest = int(nearest.argmax())
        taken[step] = newest
        if step % 100 == 0:
            progress("coreset", step, count)
    progress("coreset", count, count)
    return taken
