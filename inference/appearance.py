"""What images look like: brightness and focus of some images a second, so that light and lenses can be seen to drift.

Nine tiles of 64 x 64 pixels, in rows and columns across the frame, stand for it: the work is the same for any frame.

    brightness   mean gray value, 0 to 255; of a mosaic or a colour image, of all its values
    focus        variance of the Laplacian (Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR
                 2000) of the green channel, or of the pixels of one colour of a mosaic; it grows with contrast and
                 noise, too, so it tells how one camera's images of one product change, and nothing else
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from config.messages import Appearance, PixelFormat

Pixels = npt.NDArray[np.uint8]

_TILES = 3  # in a row, and in a column
_TILE_PX = 64
_APART_NS = 250_000_000  # between two images of a camera that are looked at
_EVERY_NS = 10_000_000_000  # between two messages
_GREEN = 1


def appearance(pixels: Pixels, pixel_format: PixelFormat) -> tuple[float, float]:
    """Return brightness and focus of a frame, uint8 `(H, W, C)`."""
    mosaic = pixel_format not in {PixelFormat.MONO8, PixelFormat.BGR8}
    brightness, squares, sums, count = 0.0, 0.0, 0.0, 0
    channels = pixels.shape[2]
    for tile in _tiles(pixels):
        brightness += sum(cv2.mean(tile)[:channels]) / channels
        plane = tile[::2, ::2, 0] if mosaic else tile[..., min(_GREEN, channels - 1)]
        mean, deviation = (one.item() for one in cv2.meanStdDev(cv2.Laplacian(np.ascontiguousarray(plane), cv2.CV_16S)))
        squares += (deviation**2 + mean**2) * plane.size
        sums += mean * plane.size
        count += plane.size
    return brightness / _TILES**2, max(0.0, squares / count - (sums / count) ** 2)


class Looks:
    """Look at an image of each camera now and then, and sum up what is seen until it is told."""

    def __init__(self, service: str, station: str) -> None:
        """Tell it of `station`, as `service`."""
        self._said = {"service": service, "station": station}
        self._looked_ns: dict[str, int] = {}  # by camera
        self._sums: dict[tuple[str, str], list[float]] = {}  # by camera and product: frames and the sums of a message
        self._told_ns = 0

    def due(self, camera: str, now_ns: int) -> bool:
        """Tell whether it is time to look at an image of a camera."""
        return now_ns - self._looked_ns.get(camera, -_APART_NS) >= _APART_NS

    def take(self, camera: str, product: str, seen: tuple[float, float], now_ns: int) -> None:
        """Add what was seen of an image: its brightness and its focus."""
        self._looked_ns[camera] = now_ns
        sums = self._sums.setdefault((camera, product), [0.0] * 5)
        brightness, focus = seen
        for index, value in enumerate((1.0, brightness, brightness**2, focus, focus**2)):
            sums[index] += value

    def tell(self, now_ns: int, time_ns: int, *, at_once: bool = False) -> list[Appearance]:
        """Return what has not been told, every ten seconds or `at_once`."""
        if now_ns - self._told_ns < _EVERY_NS and not at_once:
            return []
        told = [
            Appearance(
                **self._said,
                camera=camera,
                product=product,
                time_ns=time_ns,
                frames=int(frames),
                brightness_sum=brightness_sum,
                brightness_squares=brightness_squares,
                focus_sum=focus_sum,
                focus_squares=focus_squares,
            )
            for (camera, product), (
                frames,
                brightness_sum,
                brightness_squares,
                focus_sum,
                focus_squares,
            ) in self._sums.items()
        ]
        self._sums.clear()
        self._told_ns = now_ns
        return told


def _tiles(pixels: Pixels) -> Iterator[Pixels]:
    """Yield the tiles of a frame, whole ones wherever it is large enough; each begins at even places."""
    height_px, width_px = pixels.shape[:2]
    for row in range(_TILES):
        top = _start(row, height_px)
        for column in range(_TILES):
            left = _start(column, width_px)
            yield pixels[top : top + _TILE_PX, left : left + _TILE_PX]


def _start(number: int, length_px: int) -> int:
    """Return where a tile begins whose middle is that of a third of the length."""
    middle = (2 * number + 1) * length_px // (2 * _TILES)
    return max(0, min(middle - _TILE_PX // 2, length_px - _TILE_PX)) // 2 * 2
