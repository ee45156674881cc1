"""PatchCore: distance to the nearest of the patch features that good images have shown.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones.layers import rounded
from inference.training.coreset import greedy_coreset
from inference.training.detector import Summary
from inference.training.features import FeatureOptions, NetworkDetector
from inference.training.progress import Progress
from inference.training.subspace import principal_subspace

AXES = 0.42  # of the channels: 64 of 152; a third of them would cost accuracy, more gain none

SUMMARY = Summary(
    title="PatchCore",
    paradigm="memory",
    paper="Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022",
    what_for="one product at the highest accuracy; learns in seconds and says where",
    localises=True,
    fitting="seconds",
    images=30,
)


class Options(FeatureOptions):
    """What can be chosen; the defaults, and a set for speed, are measured (docs/performance.md, Detectors)."""

    bank: int = Field(default=2000, ge=16, le=100_000, description="patch features kept by the coreset")
    neighbours: int = Field(default=0, ge=0, le=100, description="neighbours that re-weight the score; 0 is plain")


class Detector(NetworkDetector[Options]):
    """Patch features of a pretrained network, a coreset of them, and the distance to its nearest member."""

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Keep a greedy coreset of all patch features (N, h, w, C)."""
        vectors = features.reshape(-1, features.shape[-1])
        taken = greedy_coreset(vectors, self.options.bank, torch.Generator().manual_seed(seed), progress)
        return NearestNeighbour(vectors[taken], self.options.neighbours)

    def update(self, state: Mapping[str, Tensor], features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Keep a greedy coreset of an earlier bank and of further patch features (N, h, w, C), N >= 0."""
        earlier = state["bank"][state["bank"].any(dim=1)] + state["centre"]  # older bundles filled theirs with zeros
        together = torch.cat([earlier, features.reshape(-1, earlier.shape[1])])
        return self.fit(together, seed, progress)


class NearestNeighbour(nn.Module):
    """Distance from each patch feature to its nearest in the bank (B, C), which is rounded to float16's precision.

    The members differ most along few directions. The nearest is looked for along the principal ones alone, and what a
    patch has beside these counts as a whole, whichever member is the nearest: with P the projection,

        distance² = min |Px - Pb|² + |x - Px|² = |x|² - 2 max (Px·Pb - |Pb|²/2).

    So one product with a bank that has one row more, for the norms, and its maximum are all that there is to do. What
    lies beside the axes keeps the difference of squares away from zero (docs/decisions/0023).
    """

    def __init__(self, bank: Tensor, neighbours: int = 0) -> None:
        super().__init__()
        self.neighbours = min(neighbours, len(bank))
        centre = bank.mean(dim=0)  # squares of what lies around the origin cancel least
        members = rounded(bank - centre)
        axes = principal_subspace(members, kept=1.0).basis[:, : max(1, round(AXES * members.shape[1]))]
        self.register_buffer("centre", centre)
        self.register_buffer("bank", members)  # whole, so that a bundle can be carried on
        self.register_buffer("axes", axes.to(torch.float32))

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, C)."""
        height, width, channels = features.shape[1:]
        patches = (features - self.get_buffer("centre")).reshape(-1, channels)
        axes = self.get_buffer("axes")
        best = _nearness(patches @ axes, self.get_buffer("bank") @ axes).amax(dim=1)
        squared = (patches * patches).sum(dim=1) - 2.0 * best
        anomaly_map = torch.sqrt(torch.clamp(squared, min=0.0)).reshape(-1, height, width)
        if not self.neighbours:
            return anomaly_map
        return anomaly_map * self._weights(patches, anomaly_map)[:, None, None]

    def _weights(self, patches: Tensor, anomaly_map: Tensor) -> Tensor:
        """Return each image's weight (N,), from its worst patch (section 3.3, equation 7).

        One less the share that the nearest member has among its own nearest members, by the softmax of distances.
        """
        flat, bank = anomaly_map.flatten(1), self.get_buffer("bank")
        worst = patches[flat.argmax(dim=1) + torch.arange(flat.shape[0]) * flat.shape[1]]
        nearest = bank[_nearness(worst, bank).argmax(dim=1)]
        around = torch.topk(_nearness(nearest, bank), self.neighbours).indices
        distances = torch.linalg.vector_norm(bank[around] - worst[:, None, :], dim=2)
        least = torch.linalg.vector_norm(nearest - worst, dim=1, keepdim=True)
        return 1.0 - 1.0 / torch.exp(distances - least).sum(dim=1)


def _nearness(vectors: Tensor, bank: Tensor) -> Tensor:
    """Return x·b - |b|²/2 (M, B) of vectors x (M, C) and members b (B, C): the largest where b is the nearest."""
    extended = torch.cat([bank, (bank * bank).sum(dim=1, keepdim=True) * -0.5], dim=1)
    return functional.pad(vectors, (0, 1), value=1.0) @ extended.T
