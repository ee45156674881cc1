"""Pretrained networks that turn images into features, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from config.errors import ConfigurationError
from inference.training.backbones import efficientnet, resnet, timm_models, vit, weights
from inference.training.backbones.layers import State


class Backbone(Protocol):
    """A frozen network; `channels` has one number for each tap.

    Weights are rounded to what float16 can hold, so that a bundle can store them in half the bytes and still give the
    very same scores.
    """

    channels: tuple[int, ...]

    def __call__(self, bgr: Tensor) -> list[Tensor]:
        """Return a feature map (N, C, h, w) for each tap, of BGR (N, 3, size_px, size_px), values 0..255."""

    def load(self, state: State) -> None:
        """Take published weights; raise KeyError or RuntimeError where they are of another network."""


class Kind(NamedTuple):
    """How a backbone is built from taps and the images' side, which taps there are, and which are usual.

    `usual` are a fine and a coarse one of the middle, where textures are parts and not yet classes; `deep` are the last
    ones of its last three stages, which say most of an image as a whole.
    """

    build: Callable[[Sequence[int], int], Backbone]
    taps: range
    usual: tuple[int, ...]
    deep: tuple[int, ...]
    multiple_px: int  # the images' side must be one of it


def _lite(plan: efficientnet.Plan) -> Callable[[Sequence[int], int], Backbone]:
    return lambda taps, _: efficientnet.EfficientNetLite(plan, taps)


def _resnet(plan: resnet.Plan) -> Callable[[Sequence[int], int], Backbone]:
    return lambda taps, _: resnet.ResNet(plan, taps)


def _vit(plan: vit.Plan) -> Callable[[Sequence[int], int], Backbone]:
    return lambda taps, size_px: vit.VisionTransformer(plan, taps, size_px)


KINDS: Mapping[str, Kind] = {
    "efficientnet-lite0": Kind(_lite(efficientnet.LITE0), range(16), (4, 10), (10, 14, 15), 16),
    "efficientnet-lite1": Kind(_lite(efficientnet.LITE1), range(21), (6, 14), (14, 19, 20), 16),
    "efficientnet-lite2": Kind(_lite(efficientnet.LITE2), range(21), (6, 14), (14, 19, 20), 16),
    "resnet18": Kind(_resnet(resnet.RESNET18), range(1, 5), (2, 3), (2, 3, 4), 32),
    "wide-resnet50-2": Kind(_resnet(resnet.WIDE_RESNET50_2), range(1, 5), (2, 3), (2, 3, 4), 32),
    "dinov2-vits14": Kind(_vit(vit.VIT_S14), range(12), (5, 8), (9, 10, 11), 14),
    "dinov2-vits14-registers": Kind(_vit(vit.VIT_S14_REGISTERS), range(12), (5, 8), (9, 10, 11), 14),
    "dinov2-vitb14": Kind(_vit(vit.VIT_B14), range(12), (5, 8), (9, 10, 11), 14),
}


def load(name: str, taps: Sequence[int], size_px: int) -> Backbone:
    """Return a backbone with its published weights; `taps` empty are the usual ones.

    Raise ConfigurationError for a name, taps or a size that it does not have, and where its weights are absent.
    """
    backbone = build(name, taps, size_px)
    _fill(backbone, name, weights.state(name))
    return backbone


def build(name: str, taps: Sequence[int], size_px: int) -> Backbone:
    """Return a backbone without weights; raises as `load` does for what it does not have."""
    if name.startswith(weights.TIMM):
        return timm_models.TimmBackbone(name.removeprefix(weights.TIMM), tuple(taps) or timm_models.USUAL)
    kind = KINDS.get(name)
    if kind is None:
        raise ConfigurationError(f"backbone {name!r} is unknown: {', '.join(KINDS)}, or {weights.TIMM}NAME")
    chosen = tuple(taps) or kind.usual
    if list(chosen) != sorted(set(chosen)) or not set(chosen) <= set(kind.taps):
        raise ConfigurationError(f"taps of {name} are {kind.taps[0]} to {kind.taps[-1]}, rising, not {list(chosen)}")
    if size_px % kind.multiple_px:
        raise ConfigurationError(f"size_px = {size_px}: {name} needs a multiple of {kind.multiple_px}")
    return kind.build(chosen, size_px)


def deep(name: str) -> tuple[int, ...]:
    """Return the taps that suit one feature for a whole image; none for a backbone that is unknown."""
    if name.startswith(weights.TIMM):
        return timm_models.USUAL
    kind = KINDS.get(name)
    return kind.deep if kind else ()


def _fill(backbone: Backbone, name: str, state: State) -> None:
    try:
        backbone.load(state)
    except (KeyError, RuntimeError) as error:
        raise ConfigurationError(f"the weights of {name} do not fit it: {error}") from error
