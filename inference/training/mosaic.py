"""Colours from a Bayer mosaic, inside the graph: one byte a pixel crosses the line, and three are inspected."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.messages import PixelFormat

# where red stands among the first two rows and columns; blue stands diagonally opposite
_RED = {
    PixelFormat.BAYER_RGGB8: (0, 0),
    PixelFormat.BAYER_GRBG8: (0, 1),
    PixelFormat.BAYER_GBRG8: (1, 0),
    PixelFormat.BAYER_BGGR8: (1, 1),
}


MOSAICS = frozenset(_RED)


class Demosaic(nn.Module):
    """Interpolate uint8 mosaics (N, H, W, 1) to uint8 BGR (N, H, W, 3), H and W at least 2, bilinearly.

    Each colour that a pixel has not is the mean of the two or four nearest that have it, halves rounded up, as OpenCV's
    plain demosaicing does; at the edge the mosaic is mirrored.
    """

    def __init__(self, pattern: PixelFormat) -> None:
        super().__init__()
        self.red_row, self.red_column = _RED[pattern]

    def forward(self, frames: Tensor) -> Tensor:
        """Return BGR (N, H, W, 3)."""
        height_px, width_px = frames.shape[1:3]
        mosaic = functional.pad(frames.permute(0, 3, 1, 2).to(torch.float32), (1, 1, 1, 1), mode="reflect")
        centre = mosaic[:, :, 1:-1, 1:-1]
        beside = (mosaic[:, :, 1:-1, :-2] + mosaic[:, :, 1:-1, 2:]) * 0.5
        above = (mosaic[:, :, :-2, 1:-1] + mosaic[:, :, 2:, 1:-1]) * 0.5
        around = (beside + above) * 0.5
        rows = (mosaic[:, :, :-2] + mosaic[:, :, 2:]) * 0.5
        diagonal = (rows[:, :, :, :-2] + rows[:, :, :, 2:]) * 0.5
        of_red_row = ((torch.arange(height_px) % 2) == self.red_row)[:, None]
        of_red_column = ((torch.arange(width_px) % 2) == self.red_column)[None, :]
        red = torch.where(
            of_red_row, torch.where(of_red_column, centre, beside), torch.where(of_red_column, above, diagonal)
        )
        green = torch.where(of_red_row == of_red_column, around, centre)
        blue = torch.where(
            of_red_row, torch.where(of_red_column, diagonal, above), torch.where(of_red_column, beside, centre)
        )
        bgr = torch.cat([blue, green, red], dim=1).permute(0, 2, 3, 1)
        return torch.floor(bgr + 0.5).to(torch.uint8)
