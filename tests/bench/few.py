"""How far few good images go: `python tests/bench/few.py DATA OUT.json [--detectors A,B] [--test-every N]`.

Image AUROC of heads with their defaults on so many good images of DATA (a folder in MVTec AD's layout), drawn by three
seeds, by themselves and with eight changed copies of each (`andon train --augment`); nothing is held out or exported.
One thread. Run again to go on where it ended; prints a table of OUT.json: the median, and the least in brackets.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

import numpy as np
import torch

from config import dataset, files
from inference.images import Channels, read_image
from inference.training import detector as detectors
from inference.training.good_images import GoodImages
from inference.training.learning import encode
from inference.training.metrics import auroc
from inference.training.options import Augmentation
from inference.training.progress import unheard

COUNTS = (1, 2, 5, 10, 20, 50)
SEEDS = (0, 1, 2)
COPIES = Augmentation(shift_px=4, brightness_percent=5)
CHANNELS: Channels = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--detectors", default="patchcore,padim,dfm,spade")
    parser.add_argument("--test-every", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    for name in asked.detectors.split(","):
        few = Few(name, asked.data, asked.test_every)
        for copies in (None, COPIES):
            told = []
            for count in COUNTS:
                key = f"{name}, {'copies' if copies else 'plain'}, {count}"
                if key not in found and count <= len(few.paths):
                    found[key] = [100 * few.area(count, seed, copies) for seed in SEEDS]
                    files.write(asked.out, json.dumps(found, indent=1).encode())
                areas = found.get(key)
                told.append(f"{median(areas):.1f} ({min(areas):.1f})" if areas else "-")
            how = " with copies" if copies else ""
            print(f"| {asked.data.name} | {name}{how} | {' | '.join(told)} |", flush=True)  # noqa: T201 - a command that prints its figures


class Few:
    """A detector, and what it sees of the test images."""

    def __init__(self, name: str, data: Path, test_every: int) -> None:
        self.detector, _ = detectors.load(name, {})
        self.data, self.paths = data, dataset.training_images(data)
        samples = dataset.test_images(data)[::test_every]
        self.bad = [not sample.good for sample in samples]
        self.encoder = self.detector.encoder(GoodImages.read(data, CHANNELS, 1, unheard, self._without([0])).format)
        with torch.inference_mode():
            self.seen = torch.cat(
                [self.encoder(torch.from_numpy(read_image(sample.path, CHANNELS))[None]) for sample in samples]
            )

    def area(self, count: int, seed: int, copies: Augmentation | None) -> float:
        """Return the image AUROC of a head that has learnt from `count` images."""
        chosen = np.random.default_rng(seed).permutation(len(self.paths))[:count].tolist()
        images = GoodImages.read(self.data, CHANNELS, 1, unheard, self._without(chosen))
        features = encode(self.encoder, images, unheard, copies, seed).flatten(0, 1)
        torch.manual_seed(seed)
        head = self.detector.fit(features, seed, unheard).eval()
        with torch.inference_mode():
            scores = [float(head(one[None]).max()) for one in self.seen]
        return auroc(scores, self.bad) or 0.0

    def _without(self, chosen: list[int]) -> set[str]:
        return {path.name for index, path in enumerate(self.paths) if index not in chosen}


if __name__ == "__main__":
    main()
