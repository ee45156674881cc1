# ruff: noqa: T201 - a command that prints its figures
"""The figures of docs/performance.md, Detectors.

python tests/bench/detectors.py figures DATA [EVERY]   train on every EVERY-th good image, evaluate, time
python tests/bench/detectors.py variants DATA          what each choice of PatchCore's is worth, three seeds
python tests/bench/detectors.py fast DATA [EVERY]      the options for speed: three bundles, their time and memory
python tests/bench/detectors.py resident BUNDLE KEYS   (used by `fast`: what a bundle adds to a fresh process)
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper
from pydantic import JsonValue
from torch import Tensor
from torch.nn import functional

from config import dataset
from inference.bundle import Bundle
from inference.detectors.patchcore import Detector, NearestNeighbour, Options
from inference.engine import Engine, Session
from inference.images import Frame, read_image
from inference.keys import SigningKey, TrustStore
from inference.training import TrainingOptions, evaluate, train
from inference.training.coreset import greedy_coreset
from inference.training.detector import FrameFormat, Network
from inference.training.export import OPSET, to_onnx
from inference.training.features import Grid
from inference.training.metrics import auroc
from inference.training.progress import unheard

SEEDS = (0, 1, 2)
FAST: dict[str, JsonValue] = {"size_px": 160, "taps": [4, 8], "stride_px": 16}
REPEATS = 15


def figures(data: Path, every: int) -> None:
    """Print accuracy, fit time, size and speed of a bundle trained with the defaults."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "good").mkdir()
        for path in dataset.training_images(data)[::every]:
            (folder / "good" / path.name).symlink_to(path.absolute())
        started_s = time.process_time()
        output = train(
            TrainingOptions(images=folder / "good", output=folder / "x.andon", name=data.name),
            unheard,
            SigningKey.load(folder),
        )
        cpu_s = time.process_time() - started_s
        bundle = Bundle.open(output, TrustStore.load(folder))
        print(
            f"{data.name}: {bundle.manifest.images} images, {cpu_s:.1f} s CPU to train, {output.stat().st_size} bytes"
        )
        print(bundle.manifest.calibration)
        result = evaluate(bundle, data)
        print(result.model_dump_json(exclude={"images"}))
        startup_s = time.process_time()
        engine = Engine(bundle)
        engine.check_golden()
        engine.warm((1, 2, 4, 8))
        print(f"load, golden frames, warm 1 2 4 8: {time.process_time() - startup_s:.2f} s CPU")
        frame = read_image(dataset.test_images(data)[0].path, bundle.manifest.channels)
        for batch in (1, 16):
            frames = np.stack([frame] * batch)
            print(f"batch {batch} of {frame.shape}: {_cpu_ms(engine, frames) / batch:.1f} ms CPU a frame")
    detector = Detector(Options())
    shape = (2048, 2448, 3)
    encoder = detector.encoder(FrameFormat(shape[2], shape[0], shape[1]))
    head = NearestNeighbour(torch.randn(2000, 152, generator=torch.Generator().manual_seed(0)))
    session = Session(to_onnx(Network(encoder, head), 3), 3)
    print(f"batch 1 of {shape}: {_cpu_ms(session, np.zeros((1, *shape), np.uint8)):.1f} ms CPU a frame")


def variants(data: Path) -> None:
    """Print the image AUROC of PatchCore with one choice changed at a time."""
    paths = dataset.training_images(data)
    samples = dataset.test_images(data)
    frames = [read_image(path, 3) for path in [*paths, *(sample.path for sample in samples)]]
    bad = [not sample.good for sample in samples]
    encoder = Detector(Options()).encoder(FrameFormat(3, *frames[0].shape[:2]))
    resample, patches = encoder.children()
    assert isinstance(patches, Grid)

    def blocks() -> Iterator[list[Tensor]]:
        for frame in frames:
            yield patches.backbone(resample(torch.from_numpy(frame)[None]))

    with torch.inference_mode():
        raw = [torch.cat(block) for block in zip(*blocks(), strict=True)]
    average: Callable[[Tensor], Tensor] = lambda block: functional.avg_pool2d(block, 3, 1, 1)  # noqa: E731 - one of three
    plain: Callable[[Tensor], Tensor] = lambda block: block  # noqa: E731 - one of three
    unit: Callable[[Tensor], Tensor] = lambda block: functional.normalize(average(block), dim=1)  # noqa: E731 - one of three
    for title, local, side, bank, greedy, neighbours in (
        ("as built", average, 28, 2000, True, 0),
        ("re-weighted score, 9 neighbours", average, 28, 2000, True, 9),
        ("bank of 1 %", average, 28, 0, True, 0),
        ("bank of 4000", average, 28, 4000, True, 0),
        ("random bank of 2000", average, 28, 2000, False, 0),
        ("random bank of 8000", average, 28, 8000, False, 0),
        ("random bank of 1 %", average, 28, 0, False, 0),
        ("coarse grid (stride 16)", average, 14, 2000, True, 0),
        ("coarse grid, bank of 1 %", average, 14, 0, True, 0),
        ("blocks scaled to unit length", unit, 28, 2000, True, 0),
        ("without 3x3 averaging", plain, 28, 2000, True, 0),
        ("without 3x3 averaging, bank of 1 %, re-weighted", plain, 28, 0, True, 9),
    ):
        grids = [
            functional.interpolate(local(b), (side, side), mode="bilinear", antialias=b.shape[-1] > side) for b in raw
        ]
        features = torch.cat(grids, dim=1).permute(0, 2, 3, 1)
        good = features[: len(paths)].reshape(-1, features.shape[-1])
        size = min(len(good), bank or len(good) // 100)
        areas = []
        for seed in SEEDS:
            generator = torch.Generator().manual_seed(seed)
            taken = (
                greedy_coreset(good, size, generator, unheard)
                if greedy
                else torch.randperm(len(good), generator=generator)[:size]
            )
            head = NearestNeighbour(good[taken], neighbours)
            scores = [float(head(one[None]).max()) for one in features[len(paths) :]]
            areas.append(100 * (auroc(scores, bad) or 0.0))
        print(f"{title}: bank {size}, image AUROC " + " / ".join(f"{area:.2f}" for area in areas), flush=True)


def fast(data: Path, every: int) -> None:
    """Print image AUROC, time a frame and resident memory of bundles trained with the options for speed."""
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "good").mkdir()
            for path in dataset.training_images(data)[::every]:
                (folder / "good" / path.name).symlink_to(path.absolute())
            started_s = time.process_time()
            asked = TrainingOptions(
                images=folder / "good", output=folder / "x.andon", name=data.name, options=FAST, seed=seed
            )
            output = train(asked, unheard, SigningKey.load(folder))
            trained_s = time.process_time() - started_s
            bundle = Bundle.open(output, TrustStore.load(folder))
            result = evaluate(bundle, data)
            frame = read_image(dataset.test_images(data)[0].path, bundle.manifest.channels)
            engine = Engine(bundle)
            each_ms = [_cpu_ms(engine, np.stack([frame] * batch)) / batch for batch in (1, 16)]
            print(
                f"{data.name}, seed {seed}: image AUROC {result.image_auroc}, pixel AUROC {result.pixel_auroc}, "
                f"{each_ms[0]:.2f} / {each_ms[1]:.2f} ms CPU a frame of {frame.shape} at batch 1 / 16, "
                f"{trained_s:.1f} s CPU to train, {output.stat().st_size} bytes",
                flush=True,
            )
            subprocess.run([sys.executable, __file__, "resident", str(output), str(folder)], check=True)


def resident(bundle_path: Path, trust: Path) -> None:
    """Print what a bundle adds to this process: session, weights and activations, after and at the peak of runs."""
    bundle = Bundle.open(bundle_path, TrustStore.load(trust))
    shape = (1, bundle.manifest.frame_height_px, bundle.manifest.frame_width_px, bundle.manifest.channels)
    frames = np.zeros(shape, np.uint8)
    imported = _memory_mb()["VmRSS"]
    identity = helper.make_node("ReduceMax", ["frames"], ["score"])
    inside = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", "h", "w", "c"])
    outside = helper.make_tensor_value_info("score", TensorProto.UINT8, None)
    graph = helper.make_graph([identity], "nothing", [inside], [outside])
    nothing = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    empty = Session(nothing.SerializeToString(), bundle.manifest.channels)
    before = _memory_mb()["VmRSS"]
    session = Session(bundle.model, bundle.manifest.channels)
    loaded = _memory_mb()["VmRSS"]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    for _ in range(REPEATS):
        session.infer(frames)
    after = _memory_mb()
    print(
        f"resident MB: the bundle's session adds {loaded - before:.1f} loaded, {after['VmRSS'] - before:.1f} after "
        f"{REPEATS} runs, {after['VmHWM'] - before:.1f} at their peak; the runtime with an empty graph adds "
        f"{before - imported:.1f} to the process; whole process {after['VmRSS']:.1f}"
    )
    del empty


def _memory_mb() -> dict[str, float]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[0] in {"VmRSS:", "VmHWM:"}}


def _cpu_ms(session: Session, frames: Frame) -> float:
    """Return the least CPU time of several runs: what others do on the machine counts little."""
    times = []
    for _ in range(REPEATS):
        started_s = time.process_time()
        session.infer(frames)
        times.append(time.process_time() - started_s)
    return min(times) * 1e3


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] in {"figures", "fast"}:
        {"figures": figures, "fast": fast}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    elif sys.argv[1] == "resident":
        resident(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        variants(Path(sys.argv[2]))
