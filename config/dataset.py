"""Folders of images: the MVTec AD layout, or any folder of good images.

    DIR/train/good/*                    good images to learn from
    DIR/test/good/*  DIR/test/DEFECT/*  images whose truth is known
    DIR/ground_truth/DEFECT/STEM_mask.png   white where the defect is

Who decodes them, line or bench, decodes alike: three channels as `cv2.IMREAD_COLOR`, one as `cv2.IMREAD_GRAYSCALE`,
both with `cv2.IMREAD_IGNORE_ORIENTATION`, so that the same file gives the same pixels everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from config.errors import InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp"})
GOOD = "good"


class Sample(NamedTuple):
    """A test image: its class is `good` or the kind of defect; the mask is there where the layout has one."""

    path: Path
    kind: str
    mask: Path | None

    @property
    def good(self) -> bool:
        """Tell whether nothing is wrong with the part."""
        return self.kind == GOOD


def images(folder: Path) -> list[Path]:
    """Return the image files that lie directly in `folder`, by name; raise InputError where there is no folder."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def training_images(folder: Path) -> list[Path]:
    """Return the good images of an MVTec AD folder, or of a plain folder; raise InputError where there are none."""
    layout = folder / "train" / GOOD
    source = layout if layout.is_dir() else folder
    found = images(source)
    if not found:
        raise InputError(f"{source}: no images ({', '.join(sorted(SUFFIXES))}); either they lie there or in {layout}")
    return found


def test_images(folder: Path) -> list[Sample]:
    """Return the test images of an MVTec AD folder, by class and name; raise InputError where there are none."""
    root = folder / "test"
    if not root.is_dir():
        raise InputError(f"{folder}: no 'test' folder in it; test images lie in {root}/good and {root}/DEFECT")
    samples = []
    for kind in sorted(path for path in root.iterdir() if path.is_dir()):
        for path in images(kind):
            mask = folder / "ground_truth" / kind.name / f"{path.stem}_mask.png"
            samples.append(Sample(path, kind.name, mask if mask.is_file() else None))
    if not samples:
        raise InputError(f"{root}: no images in it; test images lie in {root}/good and {root}/DEFECT")
    return samples
