"""Bring frames of any size to the size that a network wants, alike in torch and in ONNX."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Resample(nn.Module):
    """Resample uint8 frames (N, H, W, C), C = 1 or 3, to float32 (N, C, height_px, width_px), values 0..255.

    Each axis is resampled by area: an output pixel is the mean of the input under it; where the output is the finer
    one, this is linear interpolation. `pool_px` (rows, columns) is a whole number of pixels that are summed to cells
    first, which makes big frames cheap; it must not exceed the shrinking factor of the smallest frame (see `pool_for`).
    The result then differs from the plain area mean only in how a cell that lies under two output pixels is shared.

    Built from sums, MatMul and comparisons alone: `Resize` differs from engine to engine, this does not.
    """

    def __init__(self, height_px: int, width_px: int, pool_px: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.height_px, self.width_px = height_px, width_px
        self.pool_px = pool_px

    def forward(self, frames: Tensor) -> Tensor:
        """Return float32 (N, C, height_px, width_px) for uint8 (N, H, W, C)."""
        count, height_px, width_px, channels = frames.shape
        pool_y_px, pool_x_px = self.pool_px
        # rows first, as they lie in memory: nothing is transposed at full size
        rows = functional.pad(frames.reshape(count, height_px, width_px * channels), (0, 0, 0, -height_px % pool_y_px))
        sums = rows.reshape(count, -1, pool_y_px, width_px * channels).to(torch.float32).sum(dim=2)
        planes = sums.reshape(count, -1, width_px, channels).permute(0, 3, 1, 2)
        planes = functional.pad(planes, (0, -width_px % pool_x_px))
        cells = planes.reshape(count, channels, planes.shape[2], -1, pool_x_px).sum(dim=4)
        vertical = area_weights(height_px, cells.shape[2], self.height_px, pool_y_px)
        horizontal = area_weights(width_px, cells.shape[3], self.width_px, pool_x_px)
        return vertical @ cells @ horizontal.T


def area_weights(size_px: int, cells: int, out: int, pool_px: int) -> Tensor:
    """Return the (out, cells) matrix that resamples an axis of `size_px` pixels, given as sums of `pool_px` each.

    Weight (i, j) is the share of cell j in the box under output pixel i, over the cell's pixels: the last cell may hold
    fewer than the others.
    """
    size = torch.full((1, 1), size_px, dtype=torch.float32)  # a tensor: the exporter rounds arithmetic on sizes
    step = size * (1.0 / out)
    half = torch.clamp(step, min=float(pool_px)) * 0.5
    centre = (torch.arange(out, dtype=torch.float32) + 0.5)[:, None] * step
    left = torch.arange(cells, dtype=torch.float32)[None, :] * pool_px
    right = torch.minimum(left + pool_px, size)
    overlap = torch.minimum(right, centre + half) - torch.maximum(left, centre - half)
    overlap = torch.clamp(overlap, min=0.0)
    return overlap / overlap.sum(dim=1, keepdim=True) / (right - left)


def pool_for(size_px: int, out: int) -> int:
    """Return the largest number of pixels to a cell that leaves at least `out` cells of an axis of `size_px` pixels."""
    return max(1, size_px // out)
