"""Another bundle while the line runs: released, taken back, refused, a worker killed amid it; no part is a FAULT."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zmq
from live_servers import state_folder
from station_process import StationProcess, assert_whole

from config import activation, bus, recipe
from config.home import Home
from config.lessons import Lesson, Lessons, Release, State
from config.messages import Adopt, Judgement, Verdict, decode
from deploy import stations
from inference.bundle import Bundle
from inference.engine import Engine
from inference.keys import TrustStore
from ingest.parts.rendering import render

PARTS, RATE_PER_S, SEED = 240, 10, 7
LESSON = "0123456789ab"
DEMO = stations.DEMO.parent


def station_file(folder: Path) -> Path:
    """Write the demo's station with one product only, so that the other one's bundle is open nowhere."""
    for name in ("bracket.andon", "bracket.toml"):
        shutil.copy(DEMO / name, folder)
    said = (
        stations.DEMO.read_text()
        .replace('cap = "cap.toml"\n', "")
        .replace("rate_per_s = 10", f"rate_per_s = {RATE_PER_S}")
    )
    said = said.replace('products = ["bracket", "cap"]', 'products = ["bracket"]')
    said = said.replace("gate_travel_s = 2.0", "gate_travel_s = 9.0")
    slow = folder / "bracket.toml"  # a busy machine's worker is not what is tried here
    slow.write_text(slow.read_text().replace("deadline_ms = 800", "deadline_ms = 6000"))
    file = folder / "station.toml"
    file.write_text(said)
    return file


class Watching:
    """The verdicts of a running station, as decision tells them to whoever looks on."""

    def __init__(self, home: Home, station: StationProcess) -> None:
        self._station, self._home = station, home
        self._bus = bus.Bus(home.keys())
        self._socket = self._bus.connect(zmq.SUB, home.endpoint("onlookers"))
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.verdicts: list[Verdict] = []

    def until(self, done: Callable[[], object], within_s: float = 60) -> None:
        ends = time.monotonic() + within_s
        while not done():
            assert time.monotonic() < ends, "".join(self._station.screen) + self.log()
            if self._socket.poll(50):
                message, _ = decode(self._socket.recv_multipart())
                if isinstance(message, Verdict):
                    self.verdicts.append(message)

    def log(self) -> str:
        lines = (self._home.log / "andon.log").read_text().splitlines()
        return "\n".join(line for line in lines if "bundle" in line or "recipe version" in line)

    def bundle(self) -> str | None:
        return self.verdicts[-1].views[0].bundle_digest if self.verdicts else None

    def close(self) -> None:
        self._bus.close()


def lesson(home: Home, bundle: Bundle) -> Lessons:
    """Have a lesson wait for the release of a bundle, as the console leaves it."""
    lessons = Lessons(home.path, home.runtime)
    before = home.read_recipes()["bracket"]
    (lessons.path(LESSON) / "out").mkdir(parents=True)
    shutil.copy(DEMO / "cap.andon", lessons.path(LESSON) / "out" / "bundle.andon")
    release = Release(
        review_above=30.0,
        reject_above=31.0,
        by="ann",
        before=recipe.digest(recipe.content(before)),
        before_bundles={camera: view.bundle for camera, view in before.views.items()},
    )
    now = datetime.now(UTC)
    waiting = Lesson(
        id=LESSON,
        product="bracket",
        recipe="bracket",
        camera="front",
        by="ann",
        began_at=now,
        state=State.RELEASING,
        since=now,
        bundle_digest=bundle.digest,
        release=release,
    )
    (lessons.path(LESSON) / "lesson.json").write_text(waiting.model_dump_json())
    return lessons


def refused(home: Home, watching: Watching) -> str:
    """Ask for a bundle whose file is damaged; return why not."""
    before = home.read_recipes()["bracket"]
    digest = "sha256:" + 64 * "0"
    (home.path / "bundles").mkdir(exist_ok=True)
    (home.path / "bundles" / f"bad-{64 * '0'}.andon").write_bytes((DEMO / "cap.andon").read_bytes()[:-100])
    view = before.views["front"].model_copy(update={"bundle_digest": digest})
    content = recipe.content(before.model_copy(update={"views": {"front": view}, "version": 99}))
    wanted = Adopt(recipe="bracket", based_on=recipe.digest(recipe.content(before)), by="ann")
    asked = activation.Adopting(home, wanted, content)
    said: list[str] = []

    def answered() -> bool:
        answer = asked.answer()
        said.extend([answer.problem or ""] if answer else [])
        return bool(said)

    watching.until(answered)
    asked.close()
    return said[0]


@pytest.mark.slow
def test_bundles_change_while_the_line_runs_and_no_part_is_a_fault() -> None:
    trust = TrustStore.load(extra=stations.DEMO_KEYS)
    old, new = Bundle.open(DEMO / "bracket.andon", trust), Bundle.open(DEMO / "cap.andon", trust)
    with state_folder() as folder:
        home = Home(folder / "home")
        station = StationProcess(home.path, "--station", str(station_file(folder)), "--parts", str(PARTS))
        station.wait_running()
        watching = Watching(home, station)
        watching.until(lambda: len(watching.verdicts) > RATE_PER_S)

        assert "bundle" in refused(home, watching) or "damaged" in refused(home, watching)
        assert watching.bundle() == old.digest, [(one.reasons, one.views) for one in watching.verdicts if one.reasons]

        began = time.monotonic()
        lessons = lesson(home, new)
        watching.until(lambda: "version 2" in "".join(station.screen))
        assert station.kill("worker")
        watching.until(lambda: watching.bundle() == new.digest)
        took_s = time.monotonic() - began
        watching.until(lambda: lessons.read(LESSON).state is State.RELEASED)
        lessons.change(LESSON, lambda now: now.to(State.RETURNING, datetime.now(UTC)))
        watching.until(lambda: watching.bundle() == old.digest)
        watching.until(lambda: lessons.read(LESSON).state is State.FITTED)
        watching.until(lambda: station.process.poll() is not None)
        watching.close()
        code, summary = station.finish()
        told = [*station.screen, f"released within {took_s:.1f} s"]

    assert_whole(code, summary, PARTS, told)
    assert summary["verdicts"]["FAULT"] == 0, told
    versions = [verdict.recipe_version for verdict in sorted(watching.verdicts, key=lambda one: one.sequence)]
    changes = [number for number in range(1, len(versions)) if versions[number] != versions[number - 1]]
    assert [versions[0], *(versions[number] for number in changes)] == [1, 2, 1], "each from one part on"
    engines = {old.digest: Engine(old), new.digest: Engine(new)}
    for verdict in watching.verdicts[:: len(watching.verdicts) // 40]:
        (view,) = verdict.views
        assert verdict.verdict is not Judgement.FAULT
        assert view.bundle_digest == (new if verdict.recipe_version == 2 else old).digest
        assert view.reject_above == (31.0 if verdict.recipe_version == 2 else view.reject_above)
        if verdict.truth is None or not verdict.truth.good:
            continue  # its defect is drawn by the camera alone
        pixels = render("bracket", SEED, verdict.sequence).pixels
        score = float(engines[view.bundle_digest].run(pixels[None])[0][0])
        assert view.score is not None
        assert abs(view.score - score) < 1e-3, (verdict.sequence, view.bundle_digest)
