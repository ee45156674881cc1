"""An evaluation as people read it: figures, tables, and pictures of what was judged wrong."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import jinja2
import numpy as np

from config import dataset, files
from config.errors import StoreError
from inference.bundle import Bundle
from inference.engine import Engine, Maps
from inference.images import Channels, Frame, encode_png, read_image, read_mask
from inference.training import figures
from inference.training.evaluation import Evaluation, Judged, Rate

SHOWN = 6  # pictures of each kind
SIDE_PX = 320
_OUTLINE_BGR = (255, 255, 255)


class Picture(NamedTuple):
    """A part and its anomaly map, side by side, and what it says below."""

    name: str
    image: Judged
    png: bytes


class Section(NamedTuple):
    """Pictures under a title."""

    title: str
    pictures: tuple[Picture, ...]


def write(folder: Path, evaluation: Evaluation, bundle: Bundle) -> tuple[Path, Path]:
    """Write `report.html`, which stands alone, and `report.md` with its pictures beside; return both paths.

    Raise StoreError where they cannot be written.
    """
    sections = tuple(_sections(evaluation, bundle))
    drawn = {"scores.svg": figures.svg(figures.scores(evaluation))}
    if evaluation.image_auroc is not None:
        drawn["roc.svg"] = figures.svg(figures.roc(evaluation))
    names = ("report.html", "report.md")
    found = templates()
    said = {
        name: found.get_template(name).render(
            evaluation=evaluation, manifest=bundle.manifest, sections=sections, figures=drawn
        )
        for name in names
    }
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for section in sections:
            for picture in section.pictures:
                files.write(folder / "pictures" / picture.name, picture.png)
        for name, content in (*drawn.items(), *((name, text.encode()) for name, text in said.items())):
            files.write(folder / name, content)
    except OSError as error:
        raise StoreError(f"{folder}: the report cannot be written: {error.strerror}") from error
    return folder / names[0], folder / names[1]


def templates() -> jinja2.Environment:
    """Return the templates of this folder, with the filters that write shares, rates and pictures."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("inference.training", "."),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"share": _share, "rate": _rate, "embedded": _embedded}
    return found


def _sections(evaluation: Evaluation, bundle: Bundle) -> Iterator[Section]:
    good = sorted((image for image in evaluation.images if image.good), key=lambda image: -image.score)
    bad = sorted((image for image in evaluation.images if not image.good), key=lambda image: image.score)
    false, escaped = [image for image in good if image.verdict != "PASS"], [i for i in bad if i.verdict == "PASS"]
    engine = Engine(bundle)
    for worst, nearest, title, otherwise in (
        (false, good, "Worst false rejects", "No false rejects; the good parts nearest to one"),
        (escaped, bad, "Worst escapes", "No escapes; the bad parts nearest to one"),
    ):
        shown = (worst or nearest)[:SHOWN]
        if shown:
            kind = "good" if nearest is good else "bad"
            pictures = _pictures(shown, f"{kind}-", evaluation, engine)
            yield Section(title if worst else otherwise, tuple(pictures))


def _pictures(shown: Sequence[Judged], prefix: str, evaluation: Evaluation, engine: Engine) -> Iterator[Picture]:
    channels = engine.bundle.manifest.channels
    masks = {image.path: _mask(image.path, image.kind) for image in shown}
    for number, image in enumerate(shown):
        frame = read_image(image.path, channels)
        _, maps = engine.infer(frame[None])
        mask = masks[image.path]
        picture = _picture(frame, maps[0], None if mask is None else read_mask(mask), evaluation, channels)
        yield Picture(f"{prefix}{number}.png", image, encode_png(picture))


def _mask(path: Path, kind: str) -> Path | None:
    mask = path.parents[2] / "ground_truth" / kind / f"{path.stem}_mask.png"
    return mask if kind != dataset.GOOD and mask.is_file() else None


def _picture(
    frame: Frame, anomaly_map: Maps, mask: np.ndarray | None, evaluation: Evaluation, channels: Channels
) -> Frame:
    """Return part and overlaid map side by side, uint8 (h, 2 w, 3); the map's colours end at the reject threshold."""
    colour = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if channels == 1 else frame
    scale = SIDE_PX / max(colour.shape[:2])
    size_px = (max(1, round(colour.shape[1] * scale)), max(1, round(colour.shape[0] * scale)))
    part_bgr = cv2.resize(colour, size_px, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    low, high = evaluation.review_above / 2, max(evaluation.reject_above, evaluation.review_above + 1e-9)
    heat = np.clip((anomaly_map - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    heat_bgr = cv2.applyColorMap(cv2.resize(heat, size_px, interpolation=cv2.INTER_LINEAR), cv2.COLORMAP_INFERNO)
    overlaid_bgr = cv2.addWeighted(part_bgr, 0.5, heat_bgr, 0.5, 0)
    if mask is not None:
        small = cv2.resize(mask.astype(np.uint8), size_px, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for picture_bgr in (part_bgr, overlaid_bgr):
            cv2.drawContours(picture_bgr, outlines, -1, _OUTLINE_BGR, 1)
    return np.asarray(np.hstack([part_bgr, overlaid_bgr]), np.uint8)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _rate(rate: Rate) -> str:
    if not rate.parts:
        return "none tested"
    return f"{rate.events} of {rate.parts} ({100 * rate.low:.1f}–{100 * rate.high:.1f} %)"  # noqa: RUF001 - a range


def _embedded(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
