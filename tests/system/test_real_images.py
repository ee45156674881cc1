"""Real parts through the whole station: what is stored is what `andon evaluate` says, image by image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_servers import LiveServer, state_folder
from station_process import ANDON, StationProcess, assert_whole

from config.home import Home
from deploy.servers import Postgres
from storage.answers import Filter
from storage.query import QueryService

DATA = Path(os.environ.get("ANDON_DATA", Path(__file__).parents[3] / "shared" / "data"))
PARTS = 100  # every test image once: 60 good and 40 with defects

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not (DATA / "transistor").is_dir(), reason=f"NO REAL IMAGES: {DATA / 'transistor'} is not there (ANDON_DATA)"
    ),
]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with state_folder() as folder:
        yield folder / "home"
        shutil.rmtree(Home(folder / "home").runtime, ignore_errors=True)


@pytest.mark.timeout(600)
def test_the_line_and_the_evaluation_say_the_same_of_every_transistor(home):
    images = DATA / "transistor"
    station = StationProcess(home, "--images", str(images), "--parts", str(PARTS))
    station.wait_running(500)
    code, summary = station.finish(300)
    assert_whole(code, summary, PARTS, station.screen)
    assert summary["verdicts"]["FAULT"] == 0, summary
    assert (summary["truth"]["good"], summary["truth"]["bad"]) == (60, 40)

    bundle = next((home / "bundles").glob("*.andon"))
    told = subprocess.run(
        [*ANDON, "evaluate", "--bundle", str(bundle), "--data", str(images), "--json"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    evaluation = json.loads(told.stdout)
    offline = {
        str(Path(image["path"]).resolve().relative_to(images.resolve())): image for image in evaluation["images"]
    }

    postgres = LiveServer(Postgres(home))
    postgres.start()
    try:
        query = QueryService(postgres.url)
        run = Home(home).read_run().run_id
        stored = {part.truth_source: part for part in query.parts(Filter(run=run), limit=PARTS).parts}
        query.close()
    finally:
        postgres.kill()
    assert stored.keys() == offline.keys()
    scale = max(abs(image["score"]) for image in offline.values())
    for source, part in stored.items():
        assert part.score is not None
        assert abs(part.score - offline[source]["score"]) <= 1e-4 * scale, source
        assert part.verdict == offline[source]["verdict"], source

    assert evaluation["image_auroc"] >= 0.99, evaluation["image_auroc"]
    assert evaluation["false_rejects"]["events"] == summary["truth"]["false_reject"]
    assert evaluation["escapes"]["events"] == summary["truth"]["escape"]
