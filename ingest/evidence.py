"""Pictures of a judged part, made from the pixels that the grabber still holds, in a thread of their own."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from config.errors import InputError
from config.mailbox import Mailbox
from config.messages import Evidence, Fidelity, Purpose

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from config.messages import Region, Slot, Verdict

    Pixels = npt.NDArray[np.uint8]

_CROP_MARGIN = 0.25  # of the region's side, so that a person sees what is around the defect
_CROP_LEAST_PX = 32
_CROPS_MOST = 16
_JPEG = (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 90))
# Measured on rendered parts (3.1 ms and 0.49 of the bytes at 320 x 320 colour): the dictionary search of the other
# strategies costs twice the time and finds nothing in a camera's noise.
_PNG = (
    ".png",
    (
        cv2.IMWRITE_PNG_COMPRESSION,
        1,
        cv2.IMWRITE_PNG_STRATEGY,
        cv2.IMWRITE_PNG_STRATEGY_RLE,
        cv2.IMWRITE_PNG_FILTER,
        cv2.IMWRITE_PNG_FILTER_SUB,
    ),
)


@dataclass(frozen=True)
class Judged:
    """A frame whose part has its verdict; `slot` is to be freed afterwards."""

    slot: Slot | None
    pixels: Pixels
    verdict: Verdict
    camera: str
    fidelity: Fidelity
    live: bool


@dataclass(frozen=True)
class Finished:
    """The pictures of one frame, each with its header."""

    slot: Slot | None
    pictures: list[tuple[Evidence, bytes]]
    failure: str = ""  # why there are none


class EvidenceMaker:
    """Encode images and crops beside the loop; results come through `mailbox`."""

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

    def withdraw(self) -> Judged | None:
        """Take back the frame that has waited longest; None if none waits."""
        try:
            return self._jobs.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the thread after the frame in hand."""
        self._jobs.put(None)
        self._thread.join(timeout=0.5)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                finished = Finished(job.slot, pictures(job, self._side_px))
            except (InputError, cv2.error) as error:  # one picture that cannot be encoded is not the end of the others
                finished = Finished(job.slot, [], failure=str(error))
            self.mailbox.put(finished)


def pictures(job: Judged, image_side_px: int) -> list[tuple[Evidence, bytes]]:
    """Return what is kept of a frame: an image as faithful as its job says, and a crop for every defect."""
    found = []
    reduced = _reduce(job.pixels, image_side_px) if job.live or job.fidelity is Fidelity.REDUCED else job.pixels
    if job.live:
        found.append(_picture(job, "live", None, reduced))
    if job.fidelity is Fidelity.NONE:
        return found
    if job.fidelity is Fidelity.REDUCED:
        found.append(_picture(job, "image", None, reduced))
    else:
        found.append(_picture(job, "image", None, job.pixels, exact=job.fidelity is Fidelity.EXACT))
    regions = next((view.regions for view in job.verdict.views if view.camera == job.camera), ())
    for number, region in enumerate(regions[:_CROPS_MOST]):
        found.append(_picture(job, "crop", number, _crop(job.pixels, region)))
    return found


def _picture(
    job: Judged, purpose: Purpose, region: int | None, pixels: Pixels, *, exact: bool = False
) -> tuple[Evidence, bytes]:
    suffix, options = _PNG if exact else _JPEG
    encoded, content = cv2.imencode(suffix, pixels, options)
    if not encoded:
        raise InputError(
            f"{job.verdict.part_id}/{job.camera}: pixels of shape {pixels.shape} cannot be encoded as {suffix[1:]}"
        )
    height_px, width_px = pixels.shape[:2]
    header = Evidence(
        part_id=job.verdict.part_id,
        trigger_time_ns=job.verdict.trigger_time_ns,
        camera=job.camera,
        purpose=purpose,
        region=region,
        encoding="png" if exact else "jpeg",
        width_px=width_px,
        height_px=height_px,
    )
    return header, content.tobytes()


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
