"""MVTec AD's transistors, learnt and judged by the whole station, and measured by `andon evaluate`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_servers import LiveServer, state_folder
from station_process import ANDON, StationProcess, assert_whole

from config.home import Home
from deploy.servers import Postgres
from inference.bundle import Bundle
from inference.engine import Engine
from inference.images import read_image
from inference.keys import TrustStore
from inference.training import Evaluation
from storage.query.answers import PartLine
from storage.query.filters import Filter
from storage.query.service import QueryService

DATA = Path(os.environ.get("ANDON_DATA") or Path(__file__).parents[3] / "shared" / "data")
IMAGES = DATA / "transistor"
SETS = [3, pytest.param(1, marks=pytest.mark.slow)]  # every third image tells in a third of the time

pytestmark = [
    pytest.mark.data,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not IMAGES.is_dir(), reason=f"NO REAL IMAGES: {IMAGES} is not there (set ANDON_DATA)"),
]


@pytest.fixture(scope="module", params=SETS)
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give all images, or copies of some of every kind."""
    if request.param == 1:
        return IMAGES
    folder = tmp_path_factory.mktemp("images")
    for kind in sorted(path for pattern in ("train/*", "test/*", "ground_truth/*") for path in IMAGES.glob(pattern)):
        some = folder / kind.relative_to(IMAGES)
        some.mkdir(parents=True)
        for path in sorted(kind.iterdir())[:: request.param]:
            shutil.copy(path, some)
    return folder


def count(images: Path, pattern: str) -> int:
    return len(list(images.glob(pattern)))


@pytest.fixture(scope="module")
def home(images) -> Iterator[Path]:  # noqa: ARG001 - a new one for each set
    with state_folder() as folder:
        yield folder / "home"
        shutil.rmtree(Home(folder / "home").runtime, ignore_errors=True)


@pytest.fixture(scope="module")
def summary(images, home) -> dict[str, Any]:
    """Learn from the good images, then stream every test image through all processes."""
    parts = count(images, "test/*/*")
    station = StationProcess(home, "--images", str(images), "--parts", str(parts))
    station.wait_running(500)
    code, found = station.finish(300)
    assert_whole(code, found, parts, station.screen)
    return found


@pytest.fixture(scope="module")
def stored(home, summary) -> dict[str | None, PartLine]:
    """Give what the database holds of the run, by image."""
    postgres = LiveServer(Postgres(home))
    postgres.start()
    try:
        query = QueryService(postgres.url)
        parts = query.parts(Filter(run=Home(home).read_run().run_id), limit=summary["recorded"]).parts
        query.close()
    finally:
        postgres.kill()
    return {part.truth_source: part for part in parts}


@pytest.fixture(scope="module")
def bundle_path(home, summary) -> Path:
    assert summary["recorded"]
    return next((home / "bundles").glob("*.andon"))


@pytest.fixture(scope="module")
def evaluation(images, bundle_path) -> Evaluation:
    told = subprocess.run(
        [*ANDON, "evaluate", "--bundle", str(bundle_path), "--data", str(images), "--json"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return Evaluation.model_validate_json(told.stdout)


def test_the_line_and_the_evaluation_say_the_same_of_every_image(images, summary, stored, evaluation):
    offline = {str(image.path.resolve().relative_to(images.resolve())): image for image in evaluation.images}
    assert stored.keys() == offline.keys()
    scale = max(abs(image.score) for image in offline.values())
    for source, image in offline.items():
        score = stored[source].score
        assert score is not None
        assert abs(score - image.score) <= 1e-4 * scale, source
        assert stored[source].verdict == image.verdict, source
    assert summary["verdicts"]["FAULT"] == 0
    truth = summary["truth"]
    good = count(images, "test/good/*")
    assert (truth["good"], truth["bad"]) == (good, len(offline) - good)
    assert (truth["false_reject"], truth["escape"]) == (evaluation.false_rejects.events, evaluation.escapes.events)


def test_transistors_are_told_apart(evaluation):
    assert evaluation.image_auroc >= 0.995
    assert evaluation.pixel_auroc >= 0.97


def test_the_calibrated_threshold_keeps_what_it_states(images, bundle_path, evaluation):
    calibration = Bundle.open(bundle_path, TrustStore.load()).manifest.calibration
    assert calibration.more_images == 473 - count(images, "train/good/*")
    assert evaluation.false_rejects.low <= calibration.alpha_upper
    assert evaluation.escapes.rate <= 0.15


def test_a_batch_of_real_frames_scores_like_each_alone(bundle_path, evaluation):
    some = evaluation.images[::2][:15]
    engine = Engine(Bundle.open(bundle_path, TrustStore.load()))
    scores, _ = engine.infer(np.stack([read_image(image.path, 3) for image in some]))
    alone = np.array([image.score for image in some])
    assert len(some) == 15
    assert np.abs(scores - alone).max() <= 1e-4 * alone.max()
