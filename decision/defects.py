"""The defects of a view: connected regions of its anomaly map, each judged by the limits of every zone it touches.

A region grows at `review_above` and is judged by its peak: that is the hysteresis between the two thresholds. Each cell
is compared with the limits of its own zone, so a region may reach over several zones. It is not given to one of them:
in every zone that it touches it counts by that zone's minimum area (against the area of the whole region) and rejects
by that zone's threshold (against its peak in that zone), and the worst of these answers is the region's. Any rule that
gives a region to one zone, by its area or its peak, lets a part pass because a defect grew into a laxer zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from config.messages import Region
from config.recipe import Limits
from decision.zones import Cells

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Defect:
    """A region that counts."""

    region: Region
    counts_in: frozenset[int]  # indices of the limits by which it counts
    rejects_by: frozenset[int]  # those of them by which it rejects


def find(
    anomaly_map: Map, cells: Cells, limits: Sequence[Limits], frame_shape: tuple[int, int, int]
) -> tuple[Defect, ...]:
    """Return the 8-connected regions of `anomaly_map` `(h, w)` that count, in frame pixels, worst first."""
    thresholds = np.array([one.review_above for one in limits])
    above = thresholds[0] if cells.limits is None else thresholds[cells.limits]
    over = anomaly_map > above  # float64 beside float32: a threshold that was rounded would be another one
    if cells.inspected is not None:
        over &= cells.inspected
    if not over.any():
        return ()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(over.astype(np.uint8), connectivity=8)
    peaks = np.full((count, len(limits)), -np.inf, np.float32)
    of_region = np.asarray(labels[over], np.intp)
    of_limits = np.zeros_like(of_region) if cells.limits is None else cells.limits[over]
    np.maximum.at(peaks, (of_region, of_limits), anomaly_map[over])
    found = []
    for label in range(1, count):
        region = _region(stats[label], float(peaks[label].max()), anomaly_map.shape, frame_shape)
        counts_in = frozenset(
            index
            for index, one in enumerate(limits)
            if peaks[label, index] > -np.inf and region.area_px >= one.minimum_area_px
        )
        if counts_in:
            # float: a float32 would round the threshold that it is compared with
            rejects = (index for index in counts_in if float(peaks[label, index]) > limits[index].reject_above)
            found.append(Defect(region, counts_in, frozenset(rejects)))
    return tuple(sorted(found, key=lambda defect: (not defect.rejects_by, -defect.region.score)))


def somewhere(score: float, limits: Sequence[Limits], frame_shape: tuple[int, int, int]) -> tuple[Defect, ...]:
    """Return the whole frame as a defect, if a score of which no map says where it is exceeds any limit."""
    counts_in = frozenset(index for index, one in enumerate(limits) if score > one.review_above)
    if not counts_in:
        return ()
    height, width = frame_shape[:2]
    region = Region(x_px=0, y_px=0, width_px=width, height_px=height, area_px=height * width, score=score)
    return (Defect(region, counts_in, frozenset(index for index in counts_in if score > limits[index].reject_above)),)


def _region(
    stats: npt.NDArray[np.int32], peak: float, map_shape: tuple[int, ...], frame_shape: tuple[int, int, int]
) -> Region:
    left, top, across, down, cells = (int(value) for value in stats)
    rows, columns = map_shape
    height, width = frame_shape[:2]
    x_px, y_px = left * width // columns, top * height // rows
    return Region(
        x_px=x_px,
        y_px=y_px,
        width_px=max(1, (left + across) * width // columns - x_px),
        height_px=max(1, (top + down) * height // rows - y_px),
        area_px=max(1, round(cells * (height / rows) * (width / columns))),
        score=peak,
    )
