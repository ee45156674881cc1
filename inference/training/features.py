"""Features of images by a frozen network, as detectors use them that learn none of their own."""

from __future__ import annotations

from typing import ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from inference.training import backbones
from inference.training.backbones import Backbone, weights
from inference.training.detector import CROSS_FIT, FrameFormat
from inference.training.resampling import Resample, area_weights

LEAST_SPREAD = 1e-2  # below it a channel says nothing of the image but rounding
_Options = TypeVar("_Options", bound="NetworkOptions")


class NetworkOptions(BaseModel):
    """What can be chosen of a pretrained network and of the images that it sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    backbone: str = Field(default="efficientnet-lite0", description="the pretrained network (`andon weights list`)")
    taps: tuple[int, ...] = Field(default=(), description="which of its feature maps; none: the usual ones")
    size_px: int = Field(default=224, ge=32, le=1024, description="side that frames are resampled to")

    @property
    def licence(self) -> str:
        """Return the licence of the network's weights, for the bundle."""
        known = weights.held(self.backbone).known
        return f"{self.backbone} weights: {known.licence}, {known.source}"

    @property
    def chosen_taps(self) -> tuple[int, ...]:
        """Return the taps that were asked for, or those that are usual here; () where only the backbone knows."""
        return self.taps

    def network(self) -> Backbone:
        """Return the backbone with its weights; raises as `backbones.load` does."""
        return backbones.load(self.backbone, self.chosen_taps, self.size_px)

    def untrained(self) -> Backbone:
        """Return the same with random weights; raises as `backbones.build` does."""
        return backbones.build(self.backbone, self.chosen_taps, self.size_px)

    def encoder(self) -> nn.Module:
        """Return the encoder from uint8 frames to what a head learns from: images (N, C, size_px, size_px)."""
        return Resample(self.size_px, self.size_px)


class FeatureOptions(NetworkOptions):
    """What can be chosen of a detector's features."""

    stride_px: int = Field(default=8, ge=2, le=64, description="side of a cell of the grid of features")
    around: Literal[1, 3, 5] = Field(
        default=3, description="side of the square of a tap's features that each is averaged over; 1: each for itself"
    )
    even_light: bool = Field(
        default=False,
        description="whether each feature is standardised over its image: exposure and finish no longer count",
    )

    def encoder(self) -> nn.Module:
        """Return the encoder from uint8 frames to locally aware patch features (N, h, w, C)."""
        grid = Grid(self.network(), self.size_px, self.size_px // self.stride_px, self.around)
        evenly = (EvenLight(),) if self.even_light else ()
        return nn.Sequential(Resample(self.size_px, self.size_px), grid, *evenly)


class PooledOptions(NetworkOptions):
    """What can be chosen of one feature an image: it looks deeper than a grid does, where a whole part has meaning."""

    taps: tuple[int, ...] = Field(
        default=(), description="which of its feature maps; none: the last of each of its last three stages"
    )

    @property
    def chosen_taps(self) -> tuple[int, ...]:
        """Return the taps that were asked for, or the deep ones."""
        return self.taps or backbones.deep(self.backbone)

    def encoder(self) -> nn.Module:
        """Return the encoder from uint8 frames to one feature (N, C) an image: the mean of each channel of each tap."""
        return nn.Sequential(Resample(self.size_px, self.size_px), Pooled(self.network()))


class NetworkDetector(Generic[_Options]):
    """What detectors on a pretrained network have in common; `fit` is each one's own."""

    minimum_images: ClassVar[int] = 1
    folds: ClassVar[int] = CROSS_FIT

    def __init__(self, options: _Options) -> None:
        self.options = options

    @property
    def licences(self) -> tuple[str, ...]:
        """Return the licence of the network's weights."""
        return (self.options.licence,)

    def encoder(self, frames: FrameFormat) -> nn.Module:  # noqa: ARG002 - every format is treated alike
        """Return what the options say of features."""
        return self.options.encoder()


class Grid(nn.Module):
    """Backbone features, each averaged with its neighbours, on one grid of `side` by `side` cells.

    Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, section 3.1.
    """

    def __init__(self, backbone: Backbone, size_px: int, side: int, around: int = 3) -> None:
        super().__init__()
        self.backbone, self.side, self.around = backbone, side, around
        with torch.inference_mode():
            self.sides = [tap.shape[-1] for tap in backbone(torch.zeros(1, 3, size_px, size_px))]
        for index, of_tap in enumerate(self.sides):
            self.register_buffer(f"resample_{index}", area_weights(of_tap, side), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 (N, side, side, C) for images (N, 1 or 3, size_px, size_px)."""
        taps = []
        for index, tap in enumerate(self.backbone(images.expand(-1, 3, -1, -1))):
            local = tap
            if self.around > 1:
                local = functional.avg_pool2d(tap, self.around, stride=1, padding=self.around // 2)
            if self.sides[index] % self.side == 0:  # plain means, the same as the matrix and cheaper
                local = functional.avg_pool2d(local, self.sides[index] // self.side)
            else:
                resample = self.get_buffer(f"resample_{index}")
                local = resample @ local @ resample.T
            taps.append(local)
        return torch.cat(taps, dim=1).permute(0, 2, 3, 1)


class EvenLight(nn.Module):
    """Each channel less its mean over the image, by its deviation there.

    What changes an image as a whole (exposure, gain, finish) moves or stretches all features of a channel alike, and is
    gone: so is any difference between images that is the same everywhere. Ulyanov et al., "Instance Normalization",
    2016, for features of networks that learn; here nothing is learnt.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return standardised features (N, h, w, C)."""
        centred = features - features.mean(dim=(1, 2), keepdim=True)
        spread = (centred.square().mean(dim=(1, 2), keepdim=True)).sqrt()
        return centred / (spread + LEAST_SPREAD)


class Pooled(nn.Module):
    """The mean of each channel of each tap."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 (N, C) for images (N, 1 or 3, size_px, size_px)."""
        return torch.cat([tap.mean(dim=(2, 3)) for tap in self.backbone(images.expand(-1, 3, -1, -1))], dim=1)
