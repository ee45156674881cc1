"""A camera that plays a folder of images as parts: any folder, or the test images of the MVTec AD layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from config import dataset, imagefile
from config.errors import ConfigurationError, InputError
from config.log import Condition
from config.messages import Reason, Truth
from config.schedule import Schedule
from ingest.camera import Exposure, TriggerLine

_SEEDS = 1 << 64
_MEASURED = 1000  # images whose headers are read; later ones that are larger travel outside the ring
_LARGEST_PX = 1 << 30  # what OpenCV decodes at most


class Options(BaseModel):
    """`[camera.options]` of the station file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: Path = Field(description="absolute path of the folder")
    order: Literal["shuffled", "name"] | None = Field(
        default=None, description="default: shuffled where there are classes, else by name"
    )
    seed: int | None = Field(default=None, description="of the shuffle; default: the simulation's")
    channels: Literal[1, 3] = Field(default=3, description="1 is mono, 3 is BGR; must be what the bundle takes")

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError("must be an absolute path: a daemon's working folder is not yours")
        return path


class Camera:
    """Play the images one after another, and again from the first when the line has more parts than images."""

    def __init__(self, options: Options, name: str, line: TriggerLine) -> None:
        self._options = options
        self._name = name
        self._line = line
        self._samples: list[tuple[Path, str | None]] = []
        self._unreadable = Condition("unreadable_image", Counter())

    def open(self) -> int:
        """List the folder and return the bytes of its largest frame.

        Up to 1000 headers, evenly spread, are read for that: where a larger image hides among more, it is no fault.
        Raise ConfigurationError where there is no folder or no image in it.
        """
        simulation = self._line.simulation()
        folder = self._options.path
        labelled = (folder / "test").is_dir()
        try:
            if labelled:
                self._samples = [(sample.path, sample.kind) for sample in dataset.test_images(folder)]
            else:
                self._samples = [(path, None) for path in dataset.images(folder)]
        except InputError as error:
            raise ConfigurationError(f"camera {self._name}: {error}") from error
        if not self._samples:
            raise ConfigurationError(
                f"camera {self._name}: {folder}: no images in it; they lie there or in {folder}/test/good and "
                f"{folder}/test/DEFECT, and end in {', '.join(sorted(dataset.SUFFIXES))}"
            )
        if self._options.order == "shuffled" or (self._options.order is None and labelled):
            seed = simulation.seed if self._options.seed is None else self._options.seed
            order = np.random.default_rng(seed % _SEEDS).permutation(len(self._samples))
            self._samples = [self._samples[index] for index in order]
        return self._largest_bytes()

    def exposures(self, first: int) -> Iterator[Exposure]:
        """Yield part after part from number `first` on."""
        return self._line.play(first, self._picture, self.truth)

    def close(self) -> None:
        """End the exposures."""
        self._line.close()

    def _picture(self, sequence: int, _schedule: Schedule) -> npt.NDArray[np.uint8] | Reason:
        path, _ = self._samples[sequence % len(self._samples)]
        try:
            pixels = read(path, self._options.channels)
        except InputError as error:
            self._unreadable.occur(error=str(error))
            return Reason.UNREADABLE_FRAME
        self._unreadable.end()
        return pixels

    def truth(self, sequence: int, _schedule: Schedule) -> Truth | None:
        """Return what a part is in truth; None where the folder does not say."""
        path, kind = self._samples[sequence % len(self._samples)]
        if kind is None:
            return None
        good = kind == dataset.GOOD
        source = path.relative_to(self._options.path).as_posix()
        return Truth(good=good, defect=None if good else kind, source=source)

    def _largest_bytes(self) -> int:
        stride = -(-len(self._samples) // _MEASURED)
        return max(self._frame_bytes(path) for path, _ in self._samples[::stride])

    def _frame_bytes(self, path: Path) -> int:
        size_px = imagefile.size_px(path)
        if size_px is None:  # a format whose header is not read here, or no image at all
            try:
                return read(path, self._options.channels).nbytes
            except InputError:
                return 1
        pixels = size_px[0] * size_px[1]
        return pixels * self._options.channels if pixels <= _LARGEST_PX else 1


def read(path: Path, channels: Literal[1, 3]) -> npt.NDArray[np.uint8]:
    """Decode an image as `config/dataset.py` says: `(H, W, channels)`; raise InputError for one that is not whole."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    fault = imagefile.damage(data)
    if fault:
        raise InputError(f"{path}: {fault}")
    colour = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE  # noqa: PLR2004 - one of two literals
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), colour | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:  # some damaged files raise, others return None
        raise InputError(f"{path}: cannot be decoded: {error.err}") from error
    if pixels is None:
        raise InputError(f"{path}: not an image that can be decoded")
    return np.asarray(pixels, np.uint8).reshape(*pixels.shape[:2], channels)
