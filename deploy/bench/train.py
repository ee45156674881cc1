"""PatchCore's fit and score beside a plain reading of the paper, on rendered parts, in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploy.bench.report import Report, Target
from inference.detectors.patchcore import Detector, NearestNeighbour, Options
from inference.engine import Session
from inference.training.backbones.layers import rounded
from inference.training.coreset import greedy_coreset
from inference.training.detector import FrameFormat, Network
from inference.training.export import to_onnx
from inference.training.progress import unheard
from ingest.parts.rendering import render

_T = TypeVar("_T")
_PRODUCT, _PARTS, _STRIDE = "bracket", 60, 13
_PLAIN_STEPS = 200  # each takes as long as any other: the rest is reckoned
_NEIGHBOURS = 9
_BLUR_SIGMA, _BLUR_SIDE = 4.0, 33
_ROUNDS = 5
_BATCHES = (1, 16)


def run() -> Report:
    """Measure by CPU time of one thread: speed-ups of fit on the same features, and of score; and what each takes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return _measured()
    finally:
        torch.set_num_threads(threads)


def _measured() -> Report:
    options = Options()
    frames = np.stack([render(_PRODUCT, 0, number * _STRIDE).pixels for number in range(_PARTS)])
    height_px, width_px = frames.shape[1:3]
    encoder = Detector(options).encoder(FrameFormat(3, height_px, width_px)).eval()
    features_s, features = _timed(lambda: torch.cat([encoder(torch.from_numpy(frame)[None]) for frame in frames]))
    vectors = features.reshape(-1, features.shape[-1])
    generator = torch.Generator().manual_seed(0)
    start = generator.get_state()
    coreset_s, taken = _timed(lambda: greedy_coreset(vectors, options.bank, generator, unheard))
    generator.set_state(start)
    steps_s, plainly = _timed(lambda: _plain_greedy(vectors, _PLAIN_STEPS, generator))
    plain_s = steps_s * len(taken) / len(plainly)
    ours = Network(encoder, NearestNeighbour(vectors[taken]))
    naive = Network(encoder, _Plain(vectors[taken], height_px, width_px))
    sessions = [Session(to_onnx(network, 3), 3) for network in (ours, naive)]
    figures = {
        "features_s": features_s,
        "coreset_s": coreset_s,
        "plain_coreset_s": plain_s,
        "fit_speedup": plain_s / coreset_s,
        "fit_with_features_speedup": (features_s + plain_s) / (features_s + coreset_s),
        "first_members_in_common": len(set(taken[: len(plainly)].tolist()) & set(plainly.tolist())) / len(plainly),
    }
    for batch in _BATCHES:
        ours_ms, naive_ms = _in_turns([partial(session.infer, frames[:batch]) for session in sessions], batch)
        figures |= {
            f"score_batch_{batch}_ms": median(ours_ms),
            f"plain_score_batch_{batch}_ms": median(naive_ms),
            f"score_speedup_batch_{batch}": median(one / other for one, other in zip(naive_ms, ours_ms, strict=True)),
        }
    figures["score_speedup"] = min(figures[f"score_speedup_batch_{batch}"] for batch in _BATCHES)
    targets = (Target("fit_speedup", 10.0, at_least=True), Target("score_speedup", 3.0, at_least=True))
    note = (
        f"CPU time, one thread; {_PARTS} parts of {height_px}x{width_px} px, {len(vectors)} patch features, a bank of "
        f"{len(taken)}; the plain one: backbone, features and bank alike, one centre at a time over all features "
        f"({len(plainly)} of them measured), all distances, re-weighting, a dense 33x33 blur at the frame's size"
    )
    return Report("train", figures, targets, (note,))


class _Plain(nn.Module):
    """The paper's score and map as they are usually written down (Roth et al., 2022, 3.3; Anomalib 2.7)."""

    def __init__(self, bank: Tensor, height_px: int, width_px: int) -> None:
        super().__init__()
        self.register_buffer("bank", rounded(bank))
        self.size_px = (height_px, width_px)
        offsets = torch.arange(_BLUR_SIDE) - _BLUR_SIDE // 2
        bell = torch.exp(-(offsets**2) / (2 * _BLUR_SIGMA**2))
        self.register_buffer("blur", (torch.outer(bell, bell) / bell.sum() ** 2)[None, None])

    def forward(self, features: Tensor) -> Tensor:
        """Return the smoothed anomaly map (N, H, W) of features (N, h, w, C), weighted by its worst patch."""
        count, height, width, channels = features.shape
        patches = features.reshape(-1, channels)
        bank = self.get_buffer("bank")
        distances, members = torch.topk(_distances(patches, bank), 1, largest=False)
        flat = distances.reshape(count, -1)
        score, worst = flat.max(dim=1)
        worst = worst + torch.arange(count) * flat.shape[1]
        nearest = bank[members[worst, 0]]
        around = torch.topk(_distances(nearest, bank), _NEIGHBOURS, largest=False).indices
        to_around = torch.linalg.vector_norm(bank[around] - patches[worst][:, None, :], dim=2)
        weights = 1.0 - torch.exp(score) / torch.exp(to_around).sum(dim=1)
        coarse = (flat * weights[:, None]).reshape(count, 1, height, width)
        fine = functional.interpolate(coarse, self.size_px, mode="bilinear")
        edge = _BLUR_SIDE // 2
        return functional.conv2d(functional.pad(fine, (edge,) * 4, mode="reflect"), self.get_buffer("blur"))[:, 0]


def _distances(patches: Tensor, bank: Tensor) -> Tensor:
    norms = (patches**2).sum(dim=1, keepdim=True) - 2.0 * patches @ bank.T + (bank**2).sum(dim=1)[None, :]
    return norms.clamp(min=0.0).sqrt()


def _plain_greedy(vectors: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Take one centre at a time, each by a pass over all vectors."""
    taken = [int(torch.randint(len(vectors), (1,), generator=generator))]
    distances = torch.full((len(vectors),), torch.inf)
    while len(taken) < size:
        centre = vectors[taken[-1]]
        distances = torch.minimum(distances, torch.linalg.vector_norm(vectors - centre, dim=1))
        taken.append(int(distances.argmax()))
    return torch.tensor(taken)


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    began_s = time.process_time()
    result = work()
    return time.process_time() - began_s, result


def _in_turns(works: list[Callable[[], object]], batch: int) -> list[list[float]]:
    """Return each work's CPU milliseconds a frame, round by round."""
    for work in works:
        work()
    taken_ms: list[list[float]] = [[] for _ in works]
    for _ in range(_ROUNDS):
        for work, times_ms in zip(works, taken_ms, strict=True):
            times_ms.append(_timed(work)[0] * 1e3 / batch)
    return taken_ms
