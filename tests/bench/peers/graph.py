"""The bundle's graph as each peer's worker runs it, on one thread of ONNX Runtime: raw bytes in, raw bytes out.

Runs in the peers' environments and imports nothing of ours.
"""

from __future__ import annotations

import argparse
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

LARGEST_BATCH = 8


def arguments() -> argparse.Namespace:
    """Return what `serving.py` tells every server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--shape", required=True, help="H,W,C")
    return parser.parse_args()


class Graph:
    """A session that has seen every batch size."""

    def __init__(self, model: str, shape: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._shape = tuple(int(side) for side in shape.split(","))
        for batch in range(1, LARGEST_BATCH + 1):
            self.infer([bytes(int(np.prod(self._shape)))] * batch)

    def infer(self, bodies: list[bytes]) -> list[bytes]:
        """Return for each frame float32 bytes: score, then anomaly map."""
        frames = np.empty((len(bodies), *self._shape), np.uint8)
        for frame, body in zip(frames, bodies, strict=True):
            frame[...] = np.frombuffer(body, np.uint8).reshape(self._shape)
        scores, maps = self._session.run(None, {"frames": frames})
        return [score.tobytes() + one.tobytes() for score, one in zip(scores, maps, strict=True)]
