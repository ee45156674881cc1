"""Why not just classify? `python tests/bench/study.py DATA OUT [--every N] [--groups FILE COLUMN] [--draws N]`.

A supervised classifier (logistic regression on the pooled features of the frozen backbone) against detectors that
learnt good images alone, as the number of labelled defects grows, on types of defect that were among the labels and on
types that were not (one type left out at a time). In each draw half of the test images is judged; the labelled defects
come from the other half. Images of one group (a column of a CSV file beside `file`) stay in one half: the same part is
never on both sides. Writes study.svg, study.md and study.json; features and scores are kept in OUT, so that it is cheap
to run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from config import dataset, files
from inference.images import read_image, stored_channels
from inference.training import detector, figures
from inference.training.detector import FrameFormat
from inference.training.features import PooledOptions
from inference.training.metrics import auroc
from inference.training.progress import unheard

LABELS = (0, 1, 2, 5, 10, 20, math.inf)
DETECTORS = ("patchcore", "mahalanobis", "dn2")
CLASSIFIER = "classifier"
SEEN, UNSEEN = "seen types", "unseen types"


class Data(NamedTuple):
    """Pooled features (N, C) of good training and of test images, detectors' scores (N,), and what the test shows."""

    good: NDArray[np.float32]
    test: NDArray[np.float32]
    scores: dict[str, NDArray[np.float32]]
    kinds: NDArray[np.str_]
    groups: NDArray[np.str_]


class Drawn(NamedTuple):
    """The AUROC of one method in one draw."""

    method: str
    types: str
    labels: float
    area: float


def main() -> None:
    """Compute or read features and scores, draw, and write the figure and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=1, help="learn from every N-th good image")
    parser.add_argument("--groups", nargs=2, metavar=("FILE", "COLUMN"), help="CSV: which images show the same part")
    parser.add_argument("--draws", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    found = prepare(asked.data, asked.out / f"features-{asked.every}.npz", asked.every, asked.groups)
    drawn = [one for seed in range(asked.draws) for one in draw(found, seed)]
    write(asked.out, asked.data.name, found, drawn, asked.draws)


def prepare(folder: Path, cache: Path, every: int, groups: tuple[str, str] | None) -> Data:
    """Return features and scores, from `cache` where they were computed before; each image its own group by default."""
    training = dataset.training_images(folder)[::every]
    samples = dataset.test_images(folder)
    of_image = np.array([f"{sample.kind}/{sample.path.name}" for sample in samples])
    if groups:
        with Path(groups[0]).open(encoding="utf-8", newline="") as file:
            named = {row["file"]: row[groups[1]] for row in csv.DictReader(file)}
        of_image = np.array([named[sample.path.name] for sample in samples])
    if not cache.is_file():
        np.savez(cache, **compute(training, [sample.path for sample in samples]))  # type: ignore[arg-type] # numpy's stub
    with np.load(cache) as kept:
        scores = {name: kept[name] for name in DETECTORS}
        return Data(kept["good"], kept["test"], scores, np.array([sample.kind for sample in samples]), of_image)


def compute(training: list[Path], test: list[Path]) -> dict[str, NDArray[np.float32]]:
    """Return pooled features of good and of test images, and each detector's scores of the test images."""
    channels = stored_channels(training[0])
    frames = [torch.from_numpy(read_image(path, channels))[None] for path in (*training, *test)]
    frame_format = FrameFormat(channels, min(f.shape[1] for f in frames), min(f.shape[2] for f in frames))
    found = {}
    with torch.inference_mode():
        pooled = PooledOptions().encoder()
        features = torch.cat([pooled(frame) for frame in frames]).numpy()
        found["good"], found["test"] = features[: len(training)], features[len(training) :]
    for name in DETECTORS:
        built, _ = detector.load(name, {})
        encoder = built.encoder(frame_format)
        with torch.inference_mode():
            encoded = torch.cat([encoder(frame) for frame in frames])
        torch.manual_seed(0)
        head = built.fit(encoded[: len(training)].clone(), 0, unheard)
        with torch.inference_mode():
            maps = torch.cat([head(one[None]) for one in encoded[len(training) :]])
        found[name] = maps.amax(dim=(1, 2)).numpy()
        sys.stderr.write(f"{name}: learnt from {len(training)}, judged {len(test)}\n")
    return found


def draw(data: Data, seed: int) -> Iterator[Drawn]:
    """Yield every method's AUROC on one half of the test images, labels being drawn from the other half."""
    rng = np.random.default_rng(seed)
    pool = halves(data.groups, rng)
    bad = data.kinds != dataset.GOOD
    order = rng.permutation(np.flatnonzero(pool & bad))
    left_out = [np.flatnonzero(data.kinds == kind) for kind in sorted(set(data.kinds[bad & ~pool]))]
    good = np.flatnonzero(~pool & ~bad)
    every_bad = np.flatnonzero(~pool & bad)

    def area(scores: NDArray[np.float32], judged: NDArray[np.int64]) -> float:
        chosen = np.concatenate([good, judged])
        found = auroc(scores[chosen], bad[chosen])
        assert found is not None
        return found

    for name, scores in data.scores.items():
        apart = [area(scores, np.setdiff1d(kind, np.flatnonzero(pool))) for kind in left_out]
        yield Drawn(name, SEEN, 0, area(scores, every_bad))
        yield Drawn(name, UNSEEN, 0, float(np.mean(apart)))
    for labels in LABELS:
        yield Drawn(CLASSIFIER, SEEN, labels, area(classified(data, _first(order, labels)), every_bad))
        apart = []
        for kind in left_out:
            labelled = _first(np.setdiff1d(order, kind, assume_unique=True), labels)
            apart.append(area(classified(data, labelled), np.setdiff1d(kind, np.flatnonzero(pool))))
        yield Drawn(CLASSIFIER, UNSEEN, labels, float(np.mean(apart)))


def halves(groups: NDArray[np.str_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which images are in the half that labels come from: whole groups, half of them."""
    names = rng.permutation(np.unique(groups))
    return np.isin(groups, names[: len(names) // 2])


def classified(data: Data, labelled: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the scores (N,) of all test images by a classifier that was shown all good and these bad images.

    Logistic regression on standardised features, both kinds of equal weight, with a penalty of half the squared
    weights; without a bad image it knows nothing, and all scores are equal.
    """
    if not len(labelled):
        return np.zeros(len(data.test), np.float32)
    centre, spread = data.good.mean(axis=0), data.good.std(axis=0) + 1e-6
    shown = torch.from_numpy((np.concatenate([data.good, data.test[labelled]]) - centre) / spread)
    truth = torch.cat([torch.zeros(len(data.good)), torch.ones(len(labelled))])
    weight = torch.where(truth > 0, len(truth) / (2 * len(labelled)), len(truth) / (2 * len(data.good)))
    torch.manual_seed(0)
    layer = nn.Linear(shown.shape[1], 1)
    nn.init.zeros_(layer.weight)
    descent = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        descent.zero_grad()
        wrong = functional.binary_cross_entropy_with_logits(layer(shown)[:, 0], truth, weight, reduction="sum")
        total: torch.Tensor = wrong + 0.5 * layer.weight.square().sum()
        total.backward()
        return total

    descent.step(loss)
    with torch.inference_mode():
        return layer(torch.from_numpy((data.test - centre) / spread))[:, 0].numpy()


def write(folder: Path, name: str, data: Data, drawn: list[Drawn], draws: int) -> None:
    """Write the figure, the table and all figures."""
    labels = int((data.kinds != dataset.GOOD).sum())
    table = {
        (method, types, count): [d.area for d in drawn if d[:3] == (method, types, count)]
        for method, types, count in sorted({d[:3] for d in drawn})
    }
    files.write(folder / "study.svg", figures.svg(_figure(table)))
    files.write(folder / "study.json", json.dumps([d._asdict() for d in drawn]).encode())
    told = (
        f"{name}: {len(data.good)} good images to learn from, {labels} defects in {len(set(data.kinds)) - 1} types and "
        f"{int((data.kinds == dataset.GOOD).sum())} good ones to judge, {len(set(data.groups))} groups, {draws} draws "
        "(seeds from 0): mean image AUROC in %, and where 95 % of the draws lie."
    )
    lines = [
        told,
        "",
        "| method | labelled defects | seen types | unseen types |",
        "|---|---|---|---|",
    ]
    for method in (*DETECTORS, CLASSIFIER):
        for count in LABELS if method == CLASSIFIER else (0,):
            cells = [_cell(table[method, types, count]) for types in (SEEN, UNSEEN)]
            lines.append(f"| {method} | {'all of the half' if math.isinf(count) else count} | {' | '.join(cells)} |")
    files.write(folder / "study.md", ("\n".join(lines) + "\n").encode())
    sys.stdout.write("\n".join(lines) + "\n")


def _first(order: NDArray[np.int64], labels: float) -> NDArray[np.int64]:
    return order if math.isinf(labels) else order[: int(labels)]


def _cell(areas: list[float]) -> str:
    low, high = np.percentile(areas, [2.5, 97.5])
    return f"{100 * np.mean(areas):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _figure(table: dict[tuple[str, str, float], list[float]]) -> Figure:
    figure, axes = figures.new(7.0, 4.2)
    places = np.arange(len(LABELS))
    for types, style in ((SEEN, "-"), (UNSEEN, "--")):
        areas = [table[CLASSIFIER, types, count] for count in LABELS]
        middle = [100 * float(np.mean(one)) for one in areas]
        low, high = zip(*(np.percentile(one, [2.5, 97.5]) * 100 for one in areas), strict=True)
        axes.plot(places, middle, style, marker="o", color=figures.COLOURS[1], label=f"classifier, {types}")
        axes.fill_between(places, low, high, color=figures.COLOURS[1], alpha=0.12, linewidth=0)
        for name, colour in zip(DETECTORS, (figures.COLOURS[0], *figures.COLOURS[2:]), strict=False):
            level = 100 * float(np.mean(table[name, types, 0]))
            axes.plot(places, [level] * len(places), style, color=colour, linewidth=1, label=f"{name}, {types}")
    axes.set_xticks(places, ["all" if math.isinf(count) else str(int(count)) for count in LABELS])
    axes.set(xlabel="labelled defects shown to the classifier", ylabel="image AUROC, %")
    axes.legend(fontsize="x-small", frameon=False, loc="lower right", ncols=2)
    return figure


if __name__ == "__main__":
    main()
