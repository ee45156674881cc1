"""PatchCore: distance to the nearest of the patch features that good images have shown.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones import LITE0_LICENCE, EfficientNetLite0
from inference.training.coreset import greedy_coreset
from inference.training.detector import FrameFormat, rounded
from inference.training.progress import Progress
from inference.training.resampling import Resample, area_weights

GROUP = 50  # members of the bank; 2,000 are 40 groups
NEVER_NEAREST = -1e30


class Options(BaseModel):
    """What can be chosen; the defaults, and a set for speed, are measured (docs/performance.md, Detectors)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size_px: int = Field(default=224, ge=32, le=1024, multiple_of=16, description="side that frames are resampled to")
    blocks: tuple[int, ...] = Field(default=(4, 10), min_length=1, description="EfficientNet-Lite0 blocks, 0 to 15")
    stride_px: Literal[4, 8, 16] = Field(default=8, description="side of a cell of the grid of patches")
    bank: int = Field(default=2000, ge=16, le=100_000, description="patch features kept by the coreset")
    neighbours: int = Field(default=0, ge=0, le=100, description="neighbours that re-weight the score; 0 is plain")


class Detector:
    """Patch features of a pretrained network, a coreset of them, and the distance to its nearest member."""

    minimum_images: ClassVar[int] = 1
    licences: ClassVar[tuple[str, ...]] = (LITE0_LICENCE,)

    def __init__(self, options: Options) -> None:
        self.options = options

    def encoder(self, frames: FrameFormat) -> nn.Module:  # noqa: ARG002 - every format is treated alike
        """Return resampling, backbone and locally aware patch features (N, h, w, C)."""
        size_px = self.options.size_px
        backbone = EfficientNetLite0(self.options.blocks).load_imagenet()
        return nn.Sequential(Resample(size_px, size_px), Patches(backbone, size_px, self.options.stride_px))

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Keep a greedy coreset of all patch features (N, h, w, C)."""
        vectors = features.reshape(-1, features.shape[-1])
        taken = greedy_coreset(vectors, self.options.bank, torch.Generator().manual_seed(seed), progress)
        return NearestNeighbour(vectors[taken], self.options.neighbours)


class Patches(nn.Module):
    """Backbone features, each averaged with its eight neighbours, on a grid of cells of `stride_px` (section 3.1)."""

    def __init__(self, backbone: EfficientNetLite0, size_px: int, stride_px: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.side = size_px // stride_px
        with torch.inference_mode():
            self.sides = [block.shape[-1] for block in backbone(torch.zeros(1, 3, size_px, size_px))]
        for index, side in enumerate(self.sides):
            self.register_buffer(f"enlarge_{index}", area_weights(side, self.side), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 (N, h, w, C) for images (N, 1 or 3, size_px, size_px)."""
        blocks = []
        for index, block in enumerate(self.backbone(images.expand(-1, 3, -1, -1))):
            local = functional.avg_pool2d(block, 3, stride=1, padding=1)
            if self.sides[index] > self.side:  # by a whole number: blocks and grid have strides of powers of two
                local = functional.avg_pool2d(local, self.sides[index] // self.side)
            elif self.sides[index] < self.side:
                enlarge = self.get_buffer(f"enlarge_{index}")
                local = enlarge @ local @ enlarge.T
            blocks.append(local)
        return torch.cat(blocks, dim=1).permute(0, 2, 3, 1)


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
