"""One candidate, learnt and measured in a process of its own, and what came of it kept in a folder.

`python -m inference.training.trial ASKED` (in JSON) prints JSON lines: how far it is, then the outcome. What a
candidate does to its process (memory, threads, a crash) does no harm to the others, and what was finished is not done
again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from config import dataset, files
from config.errors import AndonError, InputError, StoreError
from inference.bundle import Bundle
from inference.images import Channels
from inference.keys import TrustStore
from inference.training import TrainingOptions, train
from inference.training.candidates import DETECTORS, Candidate
from inference.training.cost import Cost, cost
from inference.training.evaluation import Evaluation, evaluate
from inference.training.progress import Progress
from inference.training.selection import Limits

State = Literal["measured", "over the limits", "failed"]
_NAME = "part"  # of a product whose folder has no name that a bundle may bear


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Asked(_Model):
    """What one trial is to do; `output` is the bundle's path, `channels` None what the image files store."""

    data: Path
    output: Path
    candidate: Candidate
    limits: Limits = Limits()
    false_rejects: float = 0.01
    seed: int = 0
    threads: int = 1
    channels: Channels | None = None


class Outcome(_Model):
    """What came of a candidate; `why` says why it is out, and the figures are None where it did not get so far."""

    key: str
    candidate: Candidate
    seed: int
    state: State
    why: str | None = None
    side_px: int | None = None
    parameters: int | None = None
    cost: Cost | None = None
    bundle_bytes: int | None = None
    evaluation: Evaluation | None = None

    @property
    def mb(self) -> float | None:
        """Return the bundle's size in megabytes."""
        return None if self.bundle_bytes is None else self.bundle_bytes / 1e6

    def beyond(self, limits: Limits) -> str | None:
        """Return why what was measured is out of these limits; None where it is not."""
        coarse = limits.too_coarse(self.side_px)
        if coarse or self.cost is None or self.mb is None or self.parameters is None:
            return coarse
        return limits.too_dear(self.cost.ms_per_image, self.mb, self.parameters)

    def within(self, limits: Limits) -> Outcome:
        """Return the outcome under these limits, which may be others than it was measured under."""
        if self.state != "measured":
            return self
        why = self.beyond(limits)
        return self.model_copy(update={"state": "over the limits", "why": why}) if why else self


def data_digest(folder: Path) -> str:
    """Return the SHA-256 over all files of an MVTec AD folder that fitting and judging look at, and their places.

    Raise InputError where there are no training or test images, or none of one kind of test image.
    """
    training, test = dataset.training_images(folder), dataset.test_images(folder)
    if len({sample.good for sample in test}) == 1:
        kind = "good" if test[0].good else "bad"
        raise InputError(f"{folder}: all test images are {kind}: without others no detector can be told from another")
    digest = hashlib.sha256()
    masks = [sample.mask for sample in test if sample.mask is not None]
    for path in (*training, *(sample.path for sample in test), *masks):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return f"sha256:{digest.hexdigest()}"


def key(asked: Asked, digest: str) -> str:
    """Return what an outcome depends on, as a SHA-256: data, candidate, seed, threads and versions.

    Of Andon the detector's own file counts, so that a detector that was changed is tried again. Limits don't: they are
    laid on what was measured.
    """
    detector = importlib.util.find_spec(f"{DETECTORS}.{asked.candidate.detector}")
    assert detector is not None and detector.origin is not None  # noqa: S101, PT018 - candidates are files that are there
    parts = {
        "data": digest,
        "asked": asked.model_dump(mode="json", exclude={"data", "output", "limits"}, exclude_none=True),
        "detector": hashlib.sha256(Path(detector.origin).read_bytes()).hexdigest(),
        "versions": {name: metadata.version(name) for name in ("andon", "torch", "onnxruntime")},
    }
    return f"sha256:{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}"


def trial(asked: Asked, digest: str, folder: Path, progress: Progress) -> Outcome:
    """Return a candidate's outcome: the one kept in `folder` if it is of this very trial, or that of a new process.

    A failure is an outcome, too, and is tried again next time, as is what was left unjudged by limits that have been
    loosened. Raise StoreError where nothing can be kept.
    """
    path = folder / f"{asked.candidate.name}.json"
    wanted = key(asked, digest)
    kept = _kept(path)
    if kept is not None and kept.key == wanted and _serves(kept, asked):
        return kept.within(asked.limits)
    found = _run(asked, wanted, folder / f"{asked.candidate.name}.log", progress)
    try:
        files.write(path, found.model_dump_json(indent=1).encode())
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    return found


def _kept(path: Path) -> Outcome | None:
    try:
        return Outcome.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None  # never done, or by a version that kept something else


def _serves(kept: Outcome, asked: Asked) -> bool:
    if kept.state == "measured":
        return asked.output.is_file()
    return kept.state == "over the limits" and kept.beyond(asked.limits) is not None


def _failed(asked: Asked, wanted: str, why: str) -> Outcome:
    return Outcome(key=wanted, candidate=asked.candidate, seed=asked.seed, state="failed", why=why)


def _run(asked: Asked, wanted: str, log: Path, progress: Progress) -> Outcome:
    path = os.pathsep.join(path for path in sys.path if path)
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "inference.training.trial", asked.model_dump_json()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": path},
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - a pipe is asked for above
        last = b""
        for line in process.stdout:
            last = line
            if line.startswith(b"["):
                stage, done, total = json.loads(line)
                progress(f"{asked.candidate.name}: {stage}", done, total)
    try:
        return Outcome.model_validate_json(last).model_copy(update={"key": wanted})
    except ValidationError:
        return _failed(asked, wanted, _end(process.returncode, log))


def _end(code: int, log: Path) -> str:
    """Return how a process without an outcome ended."""
    if code < 0:
        return f"its process was killed by signal {-code}, as it happens where memory runs out; see {log}"
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{said[-1] if said else f'its process ended with {code}'}; see {log}"


def _measure(asked: Asked, progress: Progress) -> Outcome:
    """Learn, measure the cost, and judge the test images unless a limit is broken before."""
    from inference.training import detector  # noqa: PLC0415 - torch is of the trial's own process

    candidate = asked.candidate
    _, options = detector.load(candidate.detector, dict(candidate.options))
    side_px = getattr(options, "size_px", None)
    found = Outcome(key="", candidate=candidate, seed=asked.seed, state="over the limits", side_px=side_px)
    if why := asked.limits.too_coarse(side_px):
        return found.model_copy(update={"why": why})
    name = re.sub(r"[^A-Za-z0-9._-]", "-", asked.data.resolve().name).lstrip("._-")[:64]
    wanted = TrainingOptions(
        images=asked.data,
        output=asked.output,
        name=name or _NAME,
        detector=candidate.detector,
        options=candidate.options,
        alpha=asked.false_rejects,
        seed=asked.seed,
        threads=asked.threads,
        channels=asked.channels,
    )
    bundle = Bundle.open(train(wanted, progress), TrustStore.load())
    progress("cost", 0, 1)
    figures: dict[str, object] = {
        "parameters": _parameters(bundle.model),
        "cost": cost(bundle, asked.threads),
        "bundle_bytes": bundle.size_bytes,
    }
    progress("cost", 1, 1)
    found = found.model_copy(update=figures)
    if why := found.beyond(asked.limits):
        return found.model_copy(update={"why": why})
    evaluation = evaluate(bundle, asked.data, progress=progress, threads=asked.threads)
    judged = {"state": "measured", "evaluation": evaluation.model_copy(update={"cost": found.cost})}
    return found.model_copy(update=judged)


def _parameters(model: bytes) -> int:
    """Return how many numbers a graph holds: weights, and what a memory remembers."""
    import onnx  # noqa: PLC0415 - belongs to an extra, and to the trial's own process

    def held() -> Iterator[int]:
        real = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
        for values in onnx.load_from_string(model).graph.initializer:
            if values.data_type in real:
                yield math.prod(values.dims)

    return sum(held())


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _main() -> None:
    asked = Asked.model_validate_json(sys.argv[1])

    def progress(stage: str, done: int, total: int) -> None:
        _tell(json.dumps([stage, done, total]))

    try:
        outcome = _measure(asked, progress)
    except AndonError as error:
        outcome = _failed(asked, "", str(error))
    _tell(outcome.model_dump_json())


if __name__ == "__main__":
    _main()
