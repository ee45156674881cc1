"""Training images that a person should look at: unlike the others, or all too like another."""

from __future__ import annotations

import base64
import json
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
    """Write `suspects.html`, which stands alone, and `suspects.json` with its pictures beside; return the page's path.

    Raise StoreError where they cannot be written.
    """
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("inference.training", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    outlying, unusual = (
        [(one, encode_png(np.hstack(_views(one, suspects, channels)))) for one in shown]
        for shown in (suspects.outlying[:SHOWN], suspects.unusual)
    )
    alike = [
        (pair, encode_png(np.hstack([_view(path, channels) for path in pair[:2]]))) for pair in suspects.alike[:SHOWN]
    ]
    page = pages.get_template("suspects.html").render(
        name=name,
        suspects=suspects,
        outlying=[(one, _embedded(png)) for one, png in outlying],
        unusual=[(one, _embedded(png)) for one, png in unusual],
        alike=[(pair, _embedded(png)) for pair, png in alike],
    )
    path = folder / "suspects.html"
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for kind, found in (("outlying", outlying), ("unusual", unusual), ("alike", alike)):
            for number, (_, png) in enumerate(found):
                files.write(folder / "pictures" / f"{kind}-{number}.png", png)
        files.write(folder / "suspects.json", json.dumps(_facts(suspects)).encode())
        files.write(path, page.encode())
    except OSError as error:
        raise StoreError(f"{path}: the report cannot be written: {error.strerror}") from error
    return path


def _facts(suspects: Suspects) -> dict[str, object]:
    """Return what was found in plain values; an image that has a picture names it."""

    def picture(kind: str, number: int) -> str | None:
        return f"{kind}-{number}.png" if number < SHOWN else None

    def scored(kind: str, found: Sequence[Outlying]) -> list[dict[str, object]]:
        return [
            {"image": one.path.name, "score": one.score, "picture": picture(kind, number)}
            for number, one in enumerate(found)
        ]

    return {
        "images": suspects.images,
        "checked": suspects.checked,
        "limit": suspects.limit,
        "review_above": suspects.review_above,
        "review_above_without": suspects.review_above_without,
        "outlying": scored("outlying", suspects.outlying),
        "unusual": scored("unusual", suspects.unusual),
        "alike": [
            {
                "image": pair.second.name,
                "like": pair.first.name,
                "similarity": pair.similarity,
                "picture": picture("alike", number),
            }
            for number, pair in enumerate(suspects.alike)
        ],
    }


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


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
