"""The engine: a bundle's graph on the device and in the precision that were asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from config.errors import BundleError, InputError
from inference import engines
from inference.bundle import Bundle
from inference.engines import Maps, Precision, Scores
from inference.images import Channels, Frame

__all__ = ["Engine", "Maps", "Precision", "Scores", "Session"]

RANK = 4  # (N, H, W, C)
PARITY = 0.01  # of the room between good parts and the review threshold


class Session:
    """A graph that is loaded: uint8 (N, H, W, C) to scores (N,) and anomaly maps (N, h, w)."""

    def __init__(
        self,
        model: bytes,
        channels: Channels,
        threads: int = 1,
        device: str = "cpu",
        precision: Precision = "f32",
        *,
        largest_batch: tuple[int, int, int, int] | None = None,
        cache: Path | None = None,
    ) -> None:
        """Load the graph on `device`: cpu, cuda:N, tensorrt:N or openvino:cpu.

        Raise DeviceError where it would run elsewhere, BundleError where it cannot be loaded, ConfigurationError for an
        unknown device or a precision that it has not, MissingExtraError where its engine is not installed.
        """
        self.channels = channels
        self.precision = precision
        engine, place = engines.of(device)
        self._runtime = engine.load(
            model, replace(place, threads=threads, precision=precision, largest_batch=largest_batch, cache=cache)
        )

    def run(self, frames: Frame) -> tuple[Scores, Maps]:
        """Return scores (N,) and anomaly maps (N, h, w), float32, of uint8 frames (N, H, W, C), N ≥ 1.

        Contiguous frames are not copied, wherever they are; scores and maps are good until the next run. Raise
        InputError for another dtype or shape, DeviceError where the device fails.
        """
        if frames.dtype != np.uint8 or frames.ndim != RANK or frames.shape[3] != self.channels or not frames.size:
            raise InputError(f"frames are {frames.dtype} {frames.shape}: uint8 (N, H, W, {self.channels}) was trained")
        return self._runtime.run(np.ascontiguousarray(frames))

    def infer(self, frames: Frame) -> tuple[Scores, Maps]:
        """Return as `run` does scores and maps that stay good."""
        scores, maps = self.run(frames)
        return scores.copy(), maps.copy()


class Engine(Session):
    """A bundle that can be run."""

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 1,
        device: str = "cpu",
        precision: Precision = "f32",
        *,
        largest_batch: int = 1,
        cache: Path | None = None,
    ) -> None:
        """Load the bundle's graph; raises as `Session` does, BundleError with the bundle's name.

        `largest_batch`, in frames, and `cache`, a folder, serve engines that plan ahead: TensorRT.
        """
        manifest = bundle.manifest
        try:
            super().__init__(
                bundle.model,
                manifest.channels,
                threads,
                device,
                precision,
                largest_batch=(largest_batch, manifest.frame_height_px, manifest.frame_width_px, manifest.channels),
                cache=cache / bundle.digest.removeprefix("sha256:") if cache else None,
            )
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
            self.run(np.zeros((bucket, height_px, width_px, self.channels), np.uint8))

    def check_golden(self) -> None:
        """Run the golden frames; raise BundleError where a score is not the one that was sealed.

        A precision below f32 may differ by PARITY of the room that lies between the median of good parts and the
        review threshold: as much as moves few verdicts.
        """
        manifest = self.bundle.manifest
        room = manifest.calibration.review_above - manifest.calibration.held_out_median
        allowed = 0.0 if self.precision == "f32" else PARITY * room
        for index, (frame, golden) in enumerate(zip(self.bundle.golden_frames, manifest.golden, strict=True)):
            score = float(self.run(frame[None])[0][0])
            tolerance = max(golden.tolerance, allowed)
            if not abs(score - golden.score) <= tolerance:
                raise BundleError(
                    f"{self.bundle.title}: golden frame {index} scores {score:.6g} on this machine"
                    f"{'' if self.precision == 'f32' else f' in {self.precision}'} and "
                    f"{golden.score:.6g} ± {tolerance:.2g} when it was sealed"
                )
