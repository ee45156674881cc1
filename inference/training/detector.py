"""What a detector is: an encoder that is given, and a head that is learnt from good images."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from config import plugins
from config.errors import InputError
from inference.training.progress import Progress

Paradigm = Literal["memory", "adaptation", "distillation", "discriminative", "classical"]
CROSS_FIT = 5  # folds of a head that is learnt in seconds
HOLD_OUT = 1  # a fifth is held out once: for heads whose learning takes minutes, from images enough for it


class Summary(BaseModel):
    """What a detector says of itself, for people who choose one.

    `paper` is its source; `localises` whether its map says where, or only the score counts; `fitting` what its learning
    takes; `images` how many good ones it works well from.
    """

    title: str
    paradigm: Paradigm
    paper: str
    what_for: str
    localises: bool
    fitting: Literal["seconds", "minutes"]
    images: int


class FrameFormat(NamedTuple):
    """What a camera gives: channels (1 or 3, BGR) and the smallest height and width among the training images."""

    channels: int
    height_px: int
    width_px: int


class Detector(Protocol):
    """One kind of model; `inference/detectors/NAME.py` defines `SUMMARY`, `Options` (pydantic) and `Detector`.

    The two halves are told apart so that features are computed once for each image, however often a head is fitted
    to calibrate it. What a head learns by gradient from the image itself has the resampled image as its features.
    """

    minimum_images: ClassVar[int]
    folds: ClassVar[int]  # CROSS_FIT or HOLD_OUT: how held-out scores come about where nobody says

    @property
    def licences(self) -> tuple[str, ...]:
        """Return the licences of what goes into the bundle beside the images."""

    def encoder(self, frames: FrameFormat) -> nn.Module:
        """Return the frozen half: uint8 (N, H, W, C) of any N, H, W to float32 features (N, ...) of one shape."""

    def fit(self, features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Learn the other half from good images' features: it maps features (N, ...) to the anomaly map (N, h, w).

        The map is raw and unclamped, higher is more anomalous, and an image's score is its map's maximum; a head that
        gives only a score returns a map (N, 1, 1). Weights should be rounded to float16's precision, which halves the
        bundle (`rounded`, backbones/layers.py). Every random choice comes from `seed` or from torch's own generator,
        which has just been seeded with it.
        """


class Network(nn.Module):
    """Encoder and head in one graph, with the law that the score is the maximum of the anomaly map."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.eval()

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return score (N,) and anomaly map (N, h, w), float32, for uint8 frames (N, H, W, C)."""
        anomaly_map: Tensor = self.head(self.encoder(frames))
        return anomaly_map.amax(dim=(1, 2)), anomaly_map


def finite(features: Tensor) -> Tensor:
    """Return features (N, ...) as they are; raise InputError where one is no finite number, naming the images."""
    wrong = (~torch.isfinite(features)).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if wrong:
        raise InputError(
            f"features of {len(wrong)} of {len(features)} images (of image {wrong[0]} first) are not finite"
        )
    return features


def load(name: str, values: dict[str, object]) -> tuple[Detector, BaseModel]:
    """Return detector `name` built from its options, and the options with their defaults filled in."""
    module = plugins.load("inference.detectors", name)
    options = plugins.options(module, values, f"options of detector {name}")
    detector: Detector = module.Detector(options)
    return detector, options


def summary(name: str) -> Summary:
    """Return what a detector says of itself."""
    said: Summary = plugins.load("inference.detectors", name).SUMMARY
    return said
