"""Make the demo's bundles and recipes again: `make demo-bundles`.

Good parts are rendered, a detector is learnt from them as a user would do it, and everything is signed with a key that
exists for this one time; its public half is kept as `demo.pub`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import cv2

from config import files
from deploy.logbook import ScreenProgress
from inference.bundle import Bundle
from inference.keys import SigningKey, TrustStore
from inference.training import TrainingOptions, train
from ingest.parts.rendering import render

_FOLDER = Path(__file__).parent
_PRODUCTS = ("bracket", "cap")
_SEED = 20_260_101  # not the station's: the demo judges parts that were never learnt from
_LINES, _STRIDE = 4, 13  # lines learnt from and steps between parts, so that they cover the drift of the light
_DEADLINE_MS = 800
_KEEP = """\
[keep]                  # of what a person may ask about, every pixel: `andon replay` then gives the score again
PASS = { pixels = "exact", every_parts = 20 }
REVIEW = { pixels = "exact" }
REJECT = { pixels = "exact" }
"""


def main() -> None:
    """Render, learn, write."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description="Make the demo's bundles again.")
    parser.add_argument("--images", type=int, default=240, help="good parts of each product to learn from")
    parser.add_argument("--false-rejects", type=float, default=0.005, help="rate to calibrate for")
    arguments = parser.parse_args()
    progress = ScreenProgress()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = SigningKey.load(folder / "keys")
        for job, product in enumerate(_PRODUCTS, start=1):
            images = folder / product
            images.mkdir()
            for number in range(arguments.images):
                pixels = render(product, _SEED + number % _LINES, number * _STRIDE).pixels
                cv2.imwrite(str(images / f"{number:04d}.png"), pixels)
                progress(f"render {product}", number + 1, arguments.images)
            path = _FOLDER / f"{product}.andon"
            asked = TrainingOptions(
                images=images,
                output=path,
                name=product,
                alpha=arguments.false_rejects,
                threads=2,
                data_licence="Apache-2.0 (rendered by Andon)",
            )
            train(asked, progress, key)
            bundle = Bundle.open(path, TrustStore.load(folder / "keys"))
            files.write(_FOLDER / f"{product}.toml", _recipe(product, job, bundle).encode())
        public = next((folder / "keys").glob("*.pub")).read_bytes()
        files.write(_FOLDER / "demo.pub", public)


def _recipe(product: str, job: int, bundle: Bundle) -> str:
    calibration = bundle.manifest.calibration
    return (
        "# Written by `make demo-bundles`.\n"
        f"product = {json.dumps(product)}\n"
        f"job = {job}\n"
        f"deadline_ms = {_DEADLINE_MS}\n\n"
        f"{_KEEP}\n"
        "[views.front]\n"
        f"bundle = {json.dumps(f'{product}.andon')}\n"
        f"bundle_digest = {json.dumps(bundle.digest)}\n"
        f"review_above = {calibration.review_above!r}\n"
        f"reject_above = {calibration.reject_above!r}\n"
    )


if __name__ == "__main__":
    main()
