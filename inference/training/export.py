"""From a torch network to an ONNX graph that is proven to give the same scores."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from config.errors import BundleError
from inference.engine import Session
from inference.images import Channels, Frame
from inference.training.progress import Progress

OPSET = 18
PROVEN_BATCHES = (1, 3, 16)
TOLERANCE = 1e-4  # of the largest score
WEIGHTS_WORTH_SHRINKING = 64


def to_onnx(network: nn.Module, channels: int) -> bytes:
    """Return the ONNX graph: `frames` uint8 (N, H, W, channels) to `score` (N,) and `anomaly_map` (N, h, w) float32.

    N, H and W are free. Weights that float16 holds exactly are stored so, and widened again when the graph is loaded.
    """
    example = torch.zeros((2, 96, 80, channels), dtype=torch.uint8)
    dim = torch.export.Dim
    shapes = {"frames": {0: dim("n", min=1), 1: dim("height_px", min=8), 2: dim("width_px", min=8)}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision, which we don't use, is absent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["frames"],
            output_names=["score", "anomaly_map"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None  # noqa: S101 - tells mypy what dynamo=True means
    model = program.model_proto
    _shrink(model.graph)
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.graph.ClearField("value_info")
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _shrink(graph: onnx.GraphProto) -> None:
    """Store initialisers as float16 with a Cast behind them where no value changes by it."""
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < WEIGHTS_WORTH_SHRINKING or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    for position, cast in enumerate(casts):
        graph.node.insert(position, cast)


class Proof(NamedTuple):
    """What the graph gave: each frame's score, the scale of scores, the largest difference, and the map's shape."""

    scores: tuple[float, ...]
    scale: float
    difference: float
    map_shape: tuple[int, int]


def prove(model: bytes, network: nn.Module, channels: Channels, frames: Sequence[Frame], progress: Progress) -> Proof:
    """Compare the graph in ONNX Runtime with the torch network on frames (H, W, C) as the camera gives them.

    Scores and maps must agree within TOLERANCE of the largest score for each frame by itself, and for each alone
    against the same one in batches of 3 and of 16. Raise BundleError where they do not, or where a score is not its
    map's maximum.
    """
    session = Session(model, channels)
    expected = []
    with torch.inference_mode():
        for frame in frames:
            score, anomaly_map = network(torch.from_numpy(frame)[None])
            expected.append((score.numpy(), anomaly_map.numpy()))
    scale = max(float(np.abs(score).max()) for score, _ in expected)
    worst = 0.0
    for done, (frame, (score, anomaly_map)) in enumerate(zip(frames, expected, strict=True)):
        for batch in PROVEN_BATCHES:
            # the other places of the batch hold the frame in other guises, so that a mix-up shows
            scores, maps = session.infer(np.stack([np.roll(frame, 7 * place, axis=1) for place in range(batch)]))
            if scores.shape != (batch,) or not np.array_equal(scores, maps.max(axis=(1, 2))):
                raise BundleError("the exported graph's score is not the maximum of its anomaly map")
            worst = max(worst, float(np.abs(scores[:1] - score).max()), float(np.abs(maps[:1] - anomaly_map).max()))
            if not worst <= TOLERANCE * scale:
                raise BundleError(
                    f"the exported graph differs from the trained network by {worst:.3g} at batch {batch} on a frame "
                    f"of {frame.shape}; {TOLERANCE * scale:.3g} is the most that is accepted: no bundle is written"
                )
        progress("prove", done + 1, len(frames))
    height, width = expected[0][1].shape[1:]
    return Proof(tuple(float(score[0]) for score, _ in expected), scale, worst, (height, width))
