"""What a single change moves: `python tests/bench/changes.py patchcore|classical DATA OUT.json [--every N] ...`.

Image AUROC of a head on all good images (each N-th), with nothing held out or exported: PatchCore's defaults with one
option changed at a time, or each classical operator alone. DATA is a folder in MVTec AD's layout, one thread, seed 0.
Run again to go on where it ended; prints a table of OUT.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from config import dataset, files
from inference.images import read_image
from inference.training import detector as detectors
from inference.training.good_images import GoodImages
from inference.training.learning import encode
from inference.training.metrics import auroc
from inference.training.progress import unheard

SEED = 0
PATCHCORE: dict[str, dict[str, object]] = {
    "defaults: Lite0, taps 4 and 10, 224 px, stride 8, bank 2000": {},
    "size: 160 px": {"size_px": 160},
    "size: 320 px": {"size_px": 320},
    "backbone: Lite1": {"backbone": "efficientnet-lite1"},
    "backbone: Lite2": {"backbone": "efficientnet-lite2"},
    "layers: tap 4 alone": {"taps": [4]},
    "layers: tap 10 alone": {"taps": [10]},
    "layers: taps 4, 10 and 14": {"taps": [4, 10, 14]},
    "grid: stride 16": {"stride_px": 16},
    "bank: 500": {"bank": 500},
    "even light": {"even_light": True},
    "neighbours: each for itself": {"around": 1},
}
OPERATORS = (
    "sobel", "laplacian", "top_hat", "black_hat", "lbp", "histogram", "otsu", "glcm", "autocorrelation",
    "fourier_notch", "canny", "skeleton", "template",
)  # fmt: skip
CLASSICAL: dict[str, dict[str, object]] = {
    "defaults: sobel, laplacian, top_hat, black_hat": {},
    **{name: {"operators": [{"operator": name}]} for name in OPERATORS},
}
CHANGES = {"patchcore": PATCHCORE, "classical": CLASSICAL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=CHANGES)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--test-every", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, float]] = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    for change, options in CHANGES[asked.detector].items():
        if change not in found:
            began_s = time.process_time()
            area = measured(asked.detector, options, asked.data, asked.every, asked.test_every)
            found[change] = {"auroc_pc": 100 * area, "cpu_s": time.process_time() - began_s}
            files.write(asked.out, json.dumps(found, indent=1).encode())
        print(f"| {change} | {found[change]['auroc_pc']:.1f} |", flush=True)  # noqa: T201 - a command that prints its figures


def measured(name: str, options: dict[str, object], data: Path, every: int, test_every: int) -> float:
    """Return the image AUROC of a detector with these options."""
    detector, _ = detectors.load(name, options)
    paths = dataset.training_images(data)
    left_out = {path.name for index, path in enumerate(paths) if index % every}
    images = GoodImages.read(data, None, 1, unheard, left_out)
    torch.manual_seed(SEED)
    encoder = detector.encoder(images.format)
    features = encode(encoder, images, unheard)
    head = detector.fit(features.flatten(0, 1), SEED, unheard).eval()
    samples = dataset.test_images(data)[::test_every]
    with torch.inference_mode():
        scores = [
            float(head(encoder(torch.from_numpy(read_image(sample.path, images.channels))[None])).max())
            for sample in samples
        ]
    return auroc(scores, [not sample.good for sample in samples]) or 0.0


if __name__ == "__main__":
    main()
