"""OpenVINO on the CPU."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from config.errors import BundleError, DeviceError
from inference.engines import Maps, Place, Runtime, Scores, check_precision, first_line
from inference.images import Frame

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is Python's "not to be imported"

import openvino  # noqa: E402 - its import reports home, unless its telemetry cannot be imported


def load(model: bytes, place: Place) -> Runtime:
    """Compile the graph. Raise BundleError where it cannot be, ConfigurationError for another precision."""
    check_precision(place, ("f32", "bf16"))
    return _Compiled(model, place)


def allocate(size: int, _place: Place) -> Frame:
    """Return uint8 (size,)."""
    return np.empty(size, np.uint8)


class _Compiled:
    def __init__(self, model: bytes, place: Place) -> None:
        core = openvino.Core()
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": place.precision,  # its own default is bf16 where the CPU has it, without a word
            "INFERENCE_NUM_THREADS": place.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # the cores are shared with cameras and the decision
        }
        try:
            graph = core.read_model(model, openvino.Tensor(np.empty(0, np.uint8)))
            self._request = core.compile_model(graph, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load the graph: {first_line(error)}") from error

    def run(self, frames: Frame) -> tuple[Scores, Maps]:
        """Run uint8 (N, H, W, C) in place."""
        request = self._request
        # OpenVINO binds writable memory alone; it reads a ring's slot, which is not, and writes to none of its inputs
        memory = (ctypes.c_uint8 * frames.size).from_address(frames.ctypes.data)
        pixels = np.ctypeslib.as_array(memory).reshape(frames.shape)
        try:
            request.set_tensor("frames", openvino.Tensor(pixels, shared_memory=True))
            request.infer()
        except RuntimeError as error:
            raise DeviceError(f"inference failed on frames {frames.shape}: {first_line(error)}") from error
        return request.get_tensor("score").data, request.get_tensor("anomaly_map").data
