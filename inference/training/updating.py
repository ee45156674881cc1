"""Carry a bundle on with new good images, from what stands in the bundle itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from config.errors import BundleError, ConfigurationError
from inference.bundle import Bundle
from inference.training import detector as detectors
from inference.training.detector import Detector
from inference.training.progress import Progress

HEAD = "head."
HALF = "_half"  # of what is stored as float16 (export.py)


@runtime_checkable
class Updatable(Protocol):
    """A detector that learns on: what it had learnt is in its head's weights, and nothing else is needed of it."""

    def update(self, state: Mapping[str, Tensor], features: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Return what `fit` returns, learnt from further features (N, ...), N >= 0, and from an earlier head.

        `state` holds that head's weights by name, float32, as the exporter left them: one that it folded into another
        is not there.
        """


def check(detector: Detector, name: str, options: dict[str, object], parent: Bundle) -> Mapping[str, Tensor]:
    """Return the weights of the head in `parent`; raise ConfigurationError where `detector` cannot learn on from it."""
    manifest = parent.manifest
    if not isinstance(detector, Updatable):
        raise ConfigurationError(f"detector {name} cannot learn on from a bundle: train it on all images, old and new")
    # options that came after the bundle have their defaults
    defaults = {key: value for key, value in _defaults(name).items() if key not in manifest.options}
    earlier = manifest.options | defaults
    if (manifest.detector, earlier) != (name, options):
        differing = {key for key in earlier | options if earlier.get(key) != options.get(key)}
        raise ConfigurationError(
            f"{parent.title} was learnt by detector {manifest.detector} and not by {name} with other options "
            f"({', '.join(sorted(differing))}): what it learnt does not fit; train on all images, old and new"
        )
    if not manifest.held_out_scores:
        raise BundleError(
            f"{parent.title} does not hold the scores that it was calibrated by, so that no threshold can be told of "
            "old and new images: train on all images, old and new"
        )
    return weights(parent.model)


def _defaults(name: str) -> dict[str, object]:
    return detectors.load(name, {})[1].model_dump(mode="json")


def weights(model: bytes) -> Mapping[str, Tensor]:
    """Return the weights of the head that stand in an exported graph, by name, float32."""
    found = {}
    for tensor in onnx.load_from_string(model).graph.initializer:
        if tensor.name.startswith(HEAD):
            values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            found[tensor.name.removeprefix(HEAD).removesuffix(HALF)] = values.to(torch.float32)
    return found
