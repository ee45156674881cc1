"""Bring frames of any size to the size that a network wants, alike in torch and in ONNX."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BANDS = 16


class Resample(nn.Module):
    """Resample uint8 frames (N, H, W, C), C = 1 or 3, to float32 (N, C, height_px, width_px), values 0..255.

    Each axis is resampled by area: an output pixel is the mean of the input under it; where the output is the finer
    one, this is linear interpolation.

    An axis is cut into bands of output pixels, and each band is a product with the few input lines that lie under it:
    a sixteenth of the work of a whole matrix, which is nearly all zeros. Lines are gathered as bytes, before they grow
    to floats. Built from Gather, MatMul and comparisons alone: `Resize` differs from engine to engine, this does not.
    """

    def __init__(self, height_px: int, width_px: int) -> None:
        super().__init__()
        self.height_px, self.width_px = height_px, width_px

    def forward(self, frames: Tensor) -> Tensor:
        """Return float32 (N, C, height_px, width_px) for uint8 (N, H, W, C)."""
        count, height_px, width_px, channels = frames.shape
        # rows first, as they lie in memory: nothing is transposed at full size
        rows, weights = band_weights(height_px, self.height_px)
        lines = frames.reshape(count, height_px, width_px * channels).index_select(1, rows).to(torch.float32)
        narrow = weights @ lines.reshape(count, len(weights), -1, width_px * channels)
        upright = narrow.reshape(count, self.height_px, width_px, channels).permute(0, 2, 3, 1)
        columns, weights = band_weights(width_px, self.width_px)
        lines = upright.reshape(count, width_px, channels * self.height_px).index_select(1, columns)
        small = weights @ lines.reshape(count, len(weights), -1, channels * self.height_px)
        return small.reshape(count, self.width_px, channels, self.height_px).permute(0, 2, 3, 1)


def band_weights(size_px: int, out: int) -> tuple[Tensor, Tensor]:
    """Return how to resample an axis of `size_px` pixels in B bands: int64 (B * k,) and float32 (B, out / B, k).

    The first are the k input pixels under each band, the second the weight of each for each of the band's outputs: the
    share that it has in the box under it.
    """
    bands = math.gcd(out, BANDS)
    size = torch.full((1, 1, 1), size_px, dtype=torch.float32)  # a tensor: the exporter rounds arithmetic on sizes
    step = size * (1.0 / out)
    centre = (torch.arange(out, dtype=torch.float32) + 0.5).reshape(bands, out // bands, 1) * step
    half = torch.clamp(step, min=1.0) * 0.5
    first = torch.clamp(torch.floor(centre[:, :1] - half), min=0.0)
    # a band's boxes span at most size / bands + 1 pixels, and one more at either end is touched
    left = first + torch.arange(size_px // bands + 3, dtype=torch.float32)
    overlap = torch.minimum(torch.minimum(left + 1.0, size), centre + half) - torch.maximum(left, centre - half)
    overlap = torch.clamp(overlap, min=0.0)
    pixels = torch.minimum(left, size - 1.0).reshape(-1).to(torch.int64)  # those beyond the edge weigh nothing
    return pixels, overlap / overlap.sum(dim=2, keepdim=True)


def area_weights(size: int, out: int) -> Tensor:
    """Return the float32 (out, size) matrix that resamples an axis as `Resample` does."""
    pixels, weights = band_weights(size, out)
    whole = torch.zeros((out, size))
    places = pixels.reshape(weights.shape[0], 1, weights.shape[2]).expand(weights.shape)
    return whole.scatter_add_(1, places.reshape(out, -1), weights.reshape(out, -1))
