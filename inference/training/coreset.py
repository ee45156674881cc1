"""A small subset that covers a large set of feature vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.training.progress import Progress

BLOCK = 2048  # candidates kept in the processor's cache; 1,024 to 8,192 measure within a third of each other


def greedy_coreset(vectors: Tensor, size: int, generator: torch.Generator, progress: Progress) -> Tensor:
    """Return the indices, at most (size,), of a greedy k-centre coreset of `vectors` (M, D) float32.

    Each step takes the vector farthest from all that were taken before (of several, the first); the first one is random
    (Gonzalez, 1985; PatchCore, Roth et al., 2022, algorithm 1, without its random projection, which would widen
    features as narrow as ours). It ends early when every vector is there.

    Distances only shrink as members are added. So the farthest vector is among the BLOCK farthest of a while ago as
    long as it is farther than the nearest of those was: the steps up to then look at the block alone, and all of them
    are then applied to the other vectors at once. The members are those of the plain algorithm, up to rounding.
    """
    count = min(size, len(vectors))
    norms = (vectors * vectors).sum(dim=1)
    taken = [int(torch.randint(len(vectors), (1,), generator=generator))]
    applied = 0
    distances = torch.full((len(vectors),), torch.inf)  # squared, to the nearest member
    while len(taken) < count:
        _approach(distances, vectors, norms, torch.tensor(taken[applied:]))
        applied = len(taken)
        newest = int(distances.argmax())
        if distances[newest] <= 0.0:
            break
        block = torch.topk(distances, min(BLOCK, len(vectors))).indices.sort().values  # sorted, so that ties are alike
        candidates, candidate_norms, near = vectors[block], norms[block], distances[block]
        beyond = near.min() if len(block) < len(vectors) else torch.zeros(())
        while True:
            taken.append(newest)
            squared = (candidate_norms + norms[newest]).add_(candidates @ vectors[newest], alpha=-2.0)
            near = torch.minimum(near, squared)
            farthest, place = near.max(dim=0)
            if len(taken) == count or farthest <= beyond:
                break
            newest = int(block[place])
        progress("coreset", len(taken), count)
    progress("coreset", count, count)
    return torch.tensor(taken)


def _approach(distances: Tensor, vectors: Tensor, norms: Tensor, members: Tensor) -> None:
    """Lower each vector's distance to that of the nearest of `members`."""
    for start in range(0, len(vectors), BLOCK):
        part = slice(start, start + BLOCK)
        nearest = torch.addmm(norms[members], vectors[part], vectors[members].T, alpha=-2.0).amin(dim=1)
        distances[part] = torch.minimum(distances[part], nearest + norms[part])
