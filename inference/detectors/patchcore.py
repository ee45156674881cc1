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

GROUP = 50  # members of the bank; 2,000 are 40 groups
NEVER_NEAREST = -1e30


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
        earlier = state["bank"][state["bank"].any(dim=1)] + state["centre"]  # without the rows that fill a group
        together = torch.cat([earlier, features.reshape(-1, earlier.shape[1])])
        return self.fit(together, seed, progress)


class NearestNeighbour(nn.Module):
    """Distance from each patch feature to its nearest in the bank (B, C), which is rounded to float16's precision.

    Of all members b the nearest to x has the largest x·b - |b|²/2: one product with a bank that has one row more, for
    the norms. Its place is looked for in two steps, for a maximum costs an engine far less than a place: the best of
    every GROUP members, then the place in the best group. Its distance is taken without cancellation.
    """

    def __init__(self, bank: Tensor, neighbours: int = 0) -> None:
        super().__init__()
        self.neighbours = min(neighbours, len(bank))
        centre = rounded(bank.mean(dim=0))  # squares of what lies around the origin cancel least
        members = rounded(bank - centre)
        filling = -len(bank) % GROUP
        self.register_buffer("centre", centre)
        self.register_buffer("bank", functional.pad(members, (0, 0, 0, filling)))
        halves = functional.pad((members * members).sum(dim=1) * -0.5, (0, filling), value=NEVER_NEAREST)
        self.register_buffer("halves", halves)

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly map (N, h, w) of features (N, h, w, C)."""
        height, width, channels = features.shape[1:]
        patches = (features - self.get_buffer("centre")).reshape(-1, channels)
        groups = self._nearness(patches).reshape(-1, len(self.get_buffer("bank")) // GROUP, GROUP)
        group = groups.amax(dim=2).argmax(dim=1)
        first = torch.arange(groups.shape[0]) * groups.shape[1]
        place = groups.reshape(-1, GROUP)[first + group].argmax(dim=1)
        nearest = self.get_buffer("bank")[group * GROUP + place]
        anomaly_map: Tensor = torch.linalg.vector_norm(patches - nearest, dim=1).reshape(-1, height, width)
        if not self.neighbours:
            return anomaly_map
        return anomaly_map * self._weights(patches, nearest, anomaly_map)[:, None, None]

    def _nearness(self, patches: Tensor) -> Tensor:
        """Return x·b - |b|²/2 (M, B) of patches x (M, C) and every member b of the bank."""
        extended = torch.cat([self.get_buffer("bank"), self.get_buffer("halves")[:, None]], dim=1)
        return functional.pad(patches, (0, 1), value=1.0) @ extended.T

    def _weights(self, patches: Tensor, nearest: Tensor, anomaly_map: Tensor) -> Tensor:
        """Return each image's weight (N,), from its worst patch (section 3.3, equation 7).

        One less the share that the nearest member has among its own nearest members, by the softmax of distances.
        """
        flat = anomaly_map.flatten(1)
        score, worst = flat.max(dim=1)
        worst = worst + torch.arange(flat.shape[0]) * flat.shape[1]
        around = torch.topk(self._nearness(nearest[worst]), self.neighbours).indices
        distances = torch.linalg.vector_norm(self.get_buffer("bank")[around] - patches[worst][:, None, :], dim=2)
        return 1.0 - 1.0 / torch.exp(distances - score[:, None]).sum(dim=1)
