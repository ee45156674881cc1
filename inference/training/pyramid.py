"""Feature maps of several scales, for detectors that learn to foretell those of a pretrained network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.training.backbones import Backbone
from inference.training.features import NetworkOptions
from inference.training.resampling import area_weights

AT_ONCE = 8  # images
LEAST_DEVIATION = 1e-3
USUAL_TAPS = {
    "efficientnet-lite0": (4, 10, 14),
    "efficientnet-lite1": (6, 14, 19),
    "efficientnet-lite2": (6, 14, 19),
    "resnet18": (1, 2, 3),
    "wide-resnet50-2": (1, 2, 3),
}


class PyramidOptions(NetworkOptions):
    """What can be chosen of a teacher: three scales are usual here, where memories of patches do with two."""

    @property
    def chosen_taps(self) -> tuple[int, ...]:
        """Return the taps that were asked for, or the usual ones; () where only the backbone knows those."""
        return self.taps or USUAL_TAPS.get(self.backbone, ())


class Teacher(nn.Module):
    """A frozen backbone whose channels are standardised: each has mean 0 and deviation 1 over the good images."""

    def __init__(self, backbone: Backbone, images: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        for level, features in enumerate(_seen(backbone, images)):
            deviation, mean = torch.std_mean(features, dim=(0, 2, 3), keepdim=True)
            self.register_buffer(f"mean_{level}", mean)
            self.register_buffer(f"scale_{level}", 1.0 / deviation.clamp(min=LEAST_DEVIATION))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return float32 (N, C, h, w) for each tap, of images (N, 1 or 3, size_px, size_px)."""
        return [
            (features - self.get_buffer(f"mean_{level}")) * self.get_buffer(f"scale_{level}")
            for level, features in enumerate(self.backbone(images.expand(-1, 3, -1, -1)))
        ]

    def lessons(self, images: Tensor) -> list[Tensor]:
        """Return the same, computed a few images at a time, for a student to learn from."""
        return _seen(self, images)


def _seen(network: nn.Module | Backbone, images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        parts = [network(some.expand(-1, 3, -1, -1)) for some in torch.split(images, AT_ONCE)]
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def distances(one: Sequence[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
    """Return for each level the map (N, h, w) of one less the cosine between features (N, C, h, w), from 0 to 2.

    Taken as half the squared distance of unit vectors, which is the same and does not cancel where they are alike.
    """
    pairs = zip(one, other, strict=True)
    return [(functional.normalize(a) - functional.normalize(b)).square().sum(dim=1) * 0.5 for a, b in pairs]


class Fusion(nn.Module):
    """Maps of several scales, each enlarged to the grid of the finest, as one."""

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        self.sides, self.side = tuple(sides), max(sides)
        for level, side in enumerate(self.sides):
            self.register_buffer(f"resample_{level}", area_weights(side, self.side), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the mean (N, h, w) of maps (N, h, w)."""
        whole = []
        for level, one in enumerate(maps):
            resample = self.get_buffer(f"resample_{level}")
            whole.append(resample @ one @ resample.T)
        return torch.stack(whole).mean(dim=0)
