"""Training images that a person should look at: unlike the others, or all too like another."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import jinja2
import numpy as np

from config import files
from config.errors import StoreError
from inference.engine import Maps
from inference.images import Channels, Frame, encode_png, read_image

SHOWN = 24  # of each kind
UNUSUAL = 6  # shown besides: a faint defect may lie within the limit
SIDE_PX = 320
_TINY = 1e-9


class Outlying(NamedTuple):
    """A good image and its held-out score: too far out it is mislabelled, damaged, or a rare way to be good."""

    path: Path
    score: float
    anomaly_map: Maps | None  # of the highest scores only


class Pair(NamedTuple):
    """Two good images that show the same, and the correlation of their details."""

    first: Path
    second: Path
    similarity: float


class Suspects(NamedTuple):
    """What was found among `images` good images, of which `checked` have a held-out score.

    `outlying` are those scored above `limit`, the worst first, and `unusual` the next ones, which is no fault; there is
    no limit where too few were checked.
    `review_above` is the threshold that comes of all scores, `review_above_without` that without the outlying ones.
    """

    images: int
    checked: int
    limit: float | None
    outlying: tuple[Outlying, ...]
    unusual: tuple[Outlying, ...]
    alike: tuple[Pair, ...]
    review_above: float
    review_above_without: float

    @property
    def clean(self) -> bool:
        """Tell whether nothing was found."""
        return not self.outlying and not self.alike


def write(folder: Path, suspects: Suspects, name: str, channels: Channels) -> Path:
    """Write `suspects.html`, which stands alone, with pictures; raise StoreError where that fails."""
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("inference.training", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = pages.get_template("suspects.html").render(
        name=name,
        suspects=suspects,
        outlying=_pictures(suspects.outlying[:SHOWN], suspects, channels),
        unusual=_pictures(suspects.unusual, suspects, channels),
        alike=[
            (pair, _embedded(_beside([_view(path, channels) for path in pair[:2]]))) for pair in suspects.alike[:SHOWN]
        ],
    )
    path = folder / "suspects.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write(path, page.encode())
    except OSError as error:
        raise StoreError(f"{path}: the report cannot be written: {error.strerror}") from error
    return path


def _pictures(shown: Sequence[Outlying], suspects: Suspects, channels: Channels) -> list[tuple[Outlying, str]]:
    return [(one, _embedded(_beside(_views(one, suspects, channels)))) for one in shown]


def _views(one: Outlying, suspects: Suspects, channels: Channels) -> Sequence[Frame]:
    picture_bgr = _view(one.path, channels)
    if one.anomaly_map is None:
        return [picture_bgr]
    high = max(one.score, _TINY)
    low = min(suspects.review_above_without / 2, high / 2)
    heat = np.clip((one.anomaly_map - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    size_px = picture_bgr.shape[1::-1]
    heat_bgr = cv2.applyColorMap(cv2.resize(heat, size_px, interpolation=cv2.INTER_LINEAR), cv2.COLORMAP_INFERNO)
    return [picture_bgr, np.asarray(cv2.addWeighted(picture_bgr, 0.5, heat_bgr, 0.5, 0), np.uint8)]


def _view(path: Path, channels: Channels) -> Frame:
    """Return the image, uint8 (SIDE_PX, w, 3)."""
    frame = read_image(path, channels)
    colour_bgr = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if channels == 1 else frame
    width_px = max(1, round(frame.shape[1] * SIDE_PX / frame.shape[0]))
    return np.asarray(cv2.resize(colour_bgr, (width_px, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _beside(views: Sequence[Frame]) -> bytes:
    return encode_png(np.hstack(views))


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
