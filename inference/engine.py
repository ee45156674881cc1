"""The engine: a bundle's graph in ONNX Runtime, on the device that was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config.errors import BundleError, ConfigurationError, DeviceError, InputError, MissingExtraError
from inference.bundle import Bundle
from inference.images import Channels, Frame

Scores = NDArray[np.float32]
Maps = NDArray[np.float32]

RANK = 4  # (N, H, W, C)


class Session:
    """A graph in ONNX Runtime: uint8 (N, H, W, C) to scores (N,) and anomaly maps (N, h, w)."""

    def __init__(self, model: bytes, channels: Channels, threads: int = 1, device: str = "cpu") -> None:
        """Load the graph on `device`, `cpu` or `cuda:N`.

        Raise DeviceError where it would run elsewhere, BundleError where it cannot be loaded, ConfigurationError for an
        unknown device or two ONNX Runtimes, MissingExtraError for none.
        """
        self._runtime = _runtime()
        self.channels = channels
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # measured faster on shared cores
        options.log_severity_level = 3  # errors only: warnings of the CUDA provider tell of copies, not of faults
        self._errors = _vendor_errors(self._runtime)
        provider, settings = _provider(device)
        if provider not in self._runtime.get_available_providers():
            raise DeviceError(f"device {device!r}: this ONNX Runtime has no {provider}; install the 'gpu' extra")
        try:
            self._session = self._runtime.InferenceSession(model, options, providers=[(provider, settings)])
        except self._errors as error:
            raise BundleError(f"ONNX Runtime cannot load the graph: {_first_line(error)}") from error
        got = self._session.get_providers()
        if got[0] != provider:  # ONNX Runtime falls back to the CPU without a word
            raise DeviceError(f"device {device!r}: {provider} could not start; the graph would run on {', '.join(got)}")

    def infer(self, frames: Frame) -> tuple[Scores, Maps]:
        """Return scores (N,) and anomaly maps (N, h, w), float32, of uint8 frames (N, H, W, C), N ≥ 1.

        Raise InputError for another dtype or shape, DeviceError where the device fails.
        """
        if frames.dtype != np.uint8 or frames.ndim != RANK or frames.shape[3] != self.channels or not frames.size:
            raise InputError(f"frames are {frames.dtype} {frames.shape}: uint8 (N, H, W, {self.channels}) was trained")
        try:
            scores, maps = self._session.run(None, {"frames": np.ascontiguousarray(frames)})
        except self._errors as error:
            raise DeviceError(f"inference failed on frames {frames.shape}: {_first_line(error)}") from error
        return scores, maps


class Engine(Session):
    """A bundle that can be run."""

    def __init__(self, bundle: Bundle, threads: int = 1, device: str = "cpu") -> None:
        """Load the bundle's graph; raises as `Session` does, BundleError with the bundle's name."""
        try:
            super().__init__(bundle.model, bundle.manifest.channels, threads, device)
        except BundleError as error:
            raise BundleError(f"{bundle.title}: {error}") from error
        self.bundle = bundle

    @property
    def digest(self) -> str:
        """Return the bundle's identity, `sha256:…`."""
        return self.bundle.digest

    def warm(self, buckets: Iterable[int], frame_px: tuple[int, int] | None = None) -> None:
        """Run each batch size once: a new shape stalls its first run. `frame_px` is (height, width), or as trained."""
        manifest = self.bundle.manifest
        height_px, width_px = frame_px or (manifest.frame_height_px, manifest.frame_width_px)
        for bucket in buckets:
            self.infer(np.zeros((bucket, height_px, width_px, self.channels), np.uint8))

    def check_golden(self) -> None:
        """Run the golden frames; raise BundleError where a score is not the one that was sealed."""
        for index, (frame, golden) in enumerate(
            zip(self.bundle.golden_frames, self.bundle.manifest.golden, strict=True)
        ):
            score = float(self.infer(frame[None])[0][0])
            if not abs(score - golden.score) <= golden.tolerance:
                raise BundleError(
                    f"{self.bundle.title}: golden frame {index} scores {score:.6g} on this machine and "
                    f"{golden.score:.6g} ± {golden.tolerance:.2g} when it was sealed"
                )


def _runtime() -> Any:  # noqa: ANN401 - ONNX Runtime ships no types
    """Import ONNX Runtime with its telemetry off."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it reports home otherwise, on Linux too
    both = ("onnxruntime", "onnxruntime-gpu")
    if all(_installed(name) for name in both):
        raise ConfigurationError(f"{' and '.join(both)} overwrite each other: uninstall both, then install one extra")
    try:
        import onnxruntime  # noqa: PLC0415 - takes a while, and its telemetry must be off first
    except ImportError as error:
        raise MissingExtraError("inference", "cpu", error) from error
    return onnxruntime


def _provider(device: str) -> tuple[str, dict[str, str]]:
    """Return ONNX Runtime's name and settings for a device."""
    if device == "cpu":
        return "CPUExecutionProvider", {}
    kind, _, number = device.partition(":")
    if kind == "cuda" and number.isdecimal():
        # TF32 rounds scores to three digits: golden frames would not agree with the CPU's
        return "CUDAExecutionProvider", {"device_id": number, "use_tf32": "0"}
    raise ConfigurationError(f"device {device!r} is unknown: cpu, or cuda:N as in cuda:0")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _vendor_errors(runtime: Any) -> tuple[type[Exception], ...]:  # noqa: ANN401 - ONNX Runtime ships no types
    state = runtime.capi.onnxruntime_pybind11_state
    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    return (*(getattr(state, name) for name in names), RuntimeError)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
