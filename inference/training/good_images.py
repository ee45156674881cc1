"""The good images that a detector is learnt from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from config import dataset
from config.errors import InputError
from inference.images import Channels, Frame, read_image, stored_channels
from inference.training.detector import FrameFormat
from inference.training.leaks import Alike, alike, detail
from inference.training.progress import Progress

NAMED_FAULTS = 5  # how many bad files an error names


class GoodImages:
    """Good images on disk, decoded when they are asked for; each of them was decoded once before.

    `digest` is the SHA-256 over the decoded pixels, whatever the files are called and wherever they lie; `alike` are
    the images that show what another shows.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        channels: Channels,
        shapes_px: Sequence[tuple[int, int]],
        digest: str,
        alike: Sequence[Alike],
    ) -> None:
        self.paths, self.channels, self.shapes_px, self.digest, self.alike = paths, channels, shapes_px, digest, alike

    @classmethod
    def read(
        cls,
        folder: Path,
        channels: Channels | None,
        minimum: int,
        progress: Progress,
        left_out: Collection[str] = (),
        hint: str = "",
    ) -> GoodImages:
        """Check every image of `folder`; raise InputError for too few, for damaged ones (by name), for mixed colours.

        `channels` is what the camera will give; None takes what the files store, which must then be alike. Images whose
        names are in `left_out` are not used; each must be there. `hint` tells what to do about too few.
        """
        paths = _wanted(folder, dataset.training_images(folder), left_out)
        if len(paths) < minimum:
            raise InputError(f"{folder}: {len(paths)} good images, and at least {minimum} are needed{hint}")
        channels = channels or _common_channels(folder, paths)
        shapes_px, details, faults, digest = [], [], [], hashlib.sha256()
        for index, path in enumerate(paths):
            try:
                frame = read_image(path, channels)
            except InputError as error:
                faults.append(str(error))
            else:
                shapes_px.append((frame.shape[0], frame.shape[1]))
                details.append(detail(frame))
                digest.update(repr(frame.shape).encode())
                digest.update(frame.data)
            progress("read", index + 1, len(paths))
        _raise_faults(folder, faults)
        return cls(paths, channels, shapes_px, f"sha256:{digest.hexdigest()}", alike(details))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Frame:
        return read_image(self.paths[index], self.channels)

    @property
    def format(self) -> FrameFormat:
        """Return channels and the smallest height and width."""
        return FrameFormat(
            self.channels, min(height for height, _ in self.shapes_px), min(width for _, width in self.shapes_px)
        )

    @property
    def usual_shape_px(self) -> tuple[int, int]:
        """Return the height and width that most images have."""
        return Counter(self.shapes_px).most_common(1)[0][0]


def _wanted(folder: Path, paths: Sequence[Path], left_out: Collection[str]) -> list[Path]:
    if absent := sorted(set(left_out) - {path.name for path in paths}):
        raise InputError(f"{folder}: there is no image {', '.join(absent)} that could be left out")
    return [path for path in paths if path.name not in left_out]


def _common_channels(folder: Path, paths: Sequence[Path]) -> Channels:
    kinds: dict[Channels, list[Path]] = {1: [], 3: []}
    faults = []
    for path in paths:
        try:
            kinds[stored_channels(path)].append(path)
        except InputError as error:
            faults.append(str(error))
    _raise_faults(folder, faults)
    if kinds[1] and kinds[3]:
        raise InputError(
            f"{folder}: {len(kinds[1])} grey images (as {kinds[1][0].name}) and {len(kinds[3])} in colour "
            f"(as {kinds[3][0].name}): a camera gives one kind; say which with channels = 1 or 3"
        )
    return 1 if kinds[1] else 3


def _raise_faults(folder: Path, faults: Sequence[str]) -> None:
    if faults:
        more = f"; and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
        raise InputError(f"{folder}: {len(faults)} images cannot be used: {'; '.join(faults[:NAMED_FAULTS])}{more}")
