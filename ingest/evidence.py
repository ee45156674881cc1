"""JPEGs of a judged part, made from the pixels that the grabber still holds, in a thread of their own."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from config.errors import InputError
from config.mailbox import Mailbox
from config.messages import Evidence, Judgement

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from config.messages import Region, Slot, Verdict

    Pixels = npt.NDArray[np.uint8]

_CROP_MARGIN = 0.25  # of the region's side, so that a person sees what is around the defect
_CROP_LEAST_PX = 32
_CROPS_MOST = 16
_QUALITY = 90


@dataclass(frozen=True)
class Judged:
    """A frame whose part has its verdict; `slot` is to be freed afterwards."""

    slot: Slot | None
    pixels: Pixels
    verdict: Verdict
    camera: str
    live: bool


@dataclass(frozen=True)
class Finished:
    """The JPEGs of one frame, each with its header."""

    slot: Slot | None
    pictures: list[tuple[Evidence, bytes]]


class EvidenceMaker:
    """Encode crops and reduced images beside the loop; results come through `mailbox`."""

    def __init__(self, image_side_px: int) -> None:
        self.mailbox: Mailbox[Finished] = Mailbox()
        self._side_px = image_side_px
        self._jobs: queue.SimpleQueue[Judged | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, job: Judged) -> None:
        """Encode a frame; its pixels must stay as they are until its `Finished` is drained."""
        self._jobs.put(job)

    def close(self) -> None:
        """End the thread after the frame in hand."""
        self._jobs.put(None)
        self._thread.join(timeout=0.5)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self.mailbox.put(Finished(job.slot, pictures(job, self._side_px)))


def pictures(job: Judged, image_side_px: int) -> list[tuple[Evidence, bytes]]:
    """Return what is kept of a frame: one reduced image and a crop for every defect, unless the part passed."""
    found = []
    reduced = _reduce(job.pixels, image_side_px)
    if job.live:
        found.append(_picture(job, "live", None, reduced))
    if job.verdict.verdict is not Judgement.PASS:
        found.append(_picture(job, "image", None, reduced))
    regions = next((view.regions for view in job.verdict.views if view.camera == job.camera), ())
    for number, region in enumerate(regions[:_CROPS_MOST]):
        found.append(_picture(job, "crop", number, _crop(job.pixels, region)))
    return found


def _picture(job: Judged, purpose: str, region: int | None, pixels: Pixels) -> tuple[Evidence, bytes]:
    encoded, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise InputError(
            f"{job.verdict.part_id}/{job.camera}: pixels of shape {pixels.shape} cannot be encoded as JPEG"
        )
    height_px, width_px = pixels.shape[:2]
    header = Evidence.model_validate(
        {
            "part_id": job.verdict.part_id,
            "trigger_time_ns": job.verdict.trigger_time_ns,
            "camera": job.camera,
            "purpose": purpose,
            "region": region,
            "width_px": width_px,
            "height_px": height_px,
        }
    )
    return header, jpeg.tobytes()


def _reduce(pixels: Pixels, side_px: int) -> Pixels:
    height_px, width_px = pixels.shape[:2]
    scale = side_px / max(height_px, width_px)
    if scale >= 1:
        return pixels
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]  # uint8 in, uint8 out


def _crop(pixels: Pixels, region: Region) -> Pixels:
    height_px, width_px = pixels.shape[:2]
    margin_px = round(_CROP_MARGIN * max(region.width_px, region.height_px, _CROP_LEAST_PX))
    left, top = max(0, region.x_px - margin_px), max(0, region.y_px - margin_px)
    right = min(width_px, region.x_px + region.width_px + margin_px)
    bottom = min(height_px, region.y_px + region.height_px + margin_px)
    return pixels[top:bottom, left:right]
