"""Replay of parts that were judged, pictured and stored by the rooms' own code, on a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import sqlalchemy
from live_servers import Servers
from sqlalchemy import text

from config.messages import Fidelity, Loss, Prediction, Reason, Trigger, encode
from config.recipe import Keep, Recipe, ViewRecipe
from decision.deadlines import OpenPart, Scored
from decision.rules import Rules, judge
from deploy import cli
from inference.bundle import Bundle
from inference.engine import Engine
from inference.keys import TrustStore
from ingest.evidence import Judged, pictures
from storage import intake
from storage.incoming import Incoming
from storage.library import BundleFile, Library
from storage.rows import rows

FRAME = (60, 80, 1)
SECOND_NS = 1_000_000_000
BEGAN_NS = 1_795_000_000 * SECOND_NS
CAMERAS = ("top", "side")


def frame(brightness: int, number: int) -> np.ndarray:
    """Return a noisy grey frame whose brightest spot says how it is judged."""
    pixels = np.random.default_rng(number).integers(0, 60, FRAME, dtype=np.uint8)
    pixels[20:26, 30:40] = brightness
    return pixels


class Line:
    """A station's rooms in one process: what it judges goes into the database as on the line."""

    def __init__(self, url: str, folder: Path, bundle: Path, trust: TrustStore) -> None:
        self.url = url
        self.folder = folder
        self.engine = Engine(Bundle.open(bundle, trust))
        self.bundle = bundle
        self.library = Library(url, folder)
        self.sequence = 0
        self._database = sqlalchemy.create_engine(url)

    def recipe(self, **changes: object) -> Recipe:
        roi = np.full((60, 80), 255, np.uint8)
        roi[:, 60:] = 0
        cv2.imwrite(str(self.folder / "roi.png"), roi)
        view = ViewRecipe(
            bundle=self.bundle,
            bundle_digest=self.engine.digest,
            review_above=0.5,
            reject_above=0.7,
            roi=self.folder / "roi.png",
        )
        return Recipe.model_validate({"product": "cap", "job": 1, "views": dict.fromkeys(CAMERAS, view), **changes})

    def register(self, wanted: Recipe) -> None:
        bundle = self.engine.bundle
        self.library.register("tester", {"cap": wanted}, {bundle.digest: BundleFile("brightness", self.bundle)})

    def judge(
        self,
        wanted: Recipe | None,
        brightness: int,
        fidelity: Fidelity = Fidelity.EXACT,
        *,
        lost: Reason | None = None,
        late: bool = False,
        pictured: tuple[str, ...] = CAMERAS,
    ) -> str:
        """Let a part through; return its id."""
        number, self.sequence = self.sequence, self.sequence + 1
        part_id = f"st-r1-{number:08}"
        trigger = Trigger(
            part_id=part_id,
            sequence=number,
            station="st",
            camera="top",
            views=CAMERAS,
            recipe="cap",
            trigger_ns=0,
            trigger_time_ns=BEGAN_NS + number * SECOND_NS,
            deadline_ns=100,
        )
        frames = {camera: frame(brightness, 2 * number + place) for place, camera in enumerate(CAMERAS)}
        part = OpenPart(trigger)
        for camera, pixels in frames.items():
            part.answers[camera] = self._scored(part_id, camera, pixels)
        if lost:
            part.answers["top"] = Loss(part_id=part_id, camera="top", reason=lost)
        verdict, maps = judge(part, Rules.load(wanted) if wanted else None, "1", 101 if late else 50)
        self._store(verdict, maps)
        for camera in pictured:
            for header, content in pictures(Judged(None, frames[camera], verdict, camera, fidelity, live=False), 40):
                self._store(header, [content])
        return part_id

    def change(self, statement: str, part: str) -> None:
        """Change what is stored of a part."""
        with self._database.begin() as connection:
            assert connection.execute(text(f"{statement} part_id = :part"), {"part": part}).rowcount > 0, statement

    def close(self) -> None:
        self._database.dispose()

    def _scored(self, part_id: str, camera: str, pixels: np.ndarray) -> Scored:
        scores, maps = self.engine.infer(pixels[None])
        prediction = Prediction(
            frame_id=f"{part_id}/{camera}",
            part_id=part_id,
            camera=camera,
            score=float(scores[0]),
            map_shape=maps[0].shape,
            frame_shape=FRAME,
            bundle_digest=self.engine.digest,
            worker="w",
            batch_size=1,
            received_ns=1,
            started_ns=2,
            finished_ns=3,
        )
        return Scored(prediction, maps[0])

    def _store(self, message: Any, payload: list[bytes]) -> None:
        found = Incoming()
        found.add(rows([bytes(one) for one in encode(message, payload)], self.sequence))
        with self._database.connect() as connection, connection.begin():
            intake.take(connection, found)


@pytest.fixture
def line(
    servers: Servers, tmp_path: Path, write_brightness: Any, trust: TrustStore, monkeypatch: Any
) -> Iterator[Line]:
    url = servers.database()
    monkeypatch.setenv("ANDON_DATABASE_URL", url)
    monkeypatch.setenv("ANDON_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("ANDON_HOME", str(tmp_path / "home"))
    made = Line(url, tmp_path, write_brightness(), trust)
    yield made
    made.close()
    servers.drop(url)


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], dict[str, Any]]]:
    def run(*words: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Return exit code, findings by part, and summary."""
        capsys.readouterr()
        code = cli.main(["replay", "--json", *words])
        said = [json.loads(told) for told in capsys.readouterr().out.splitlines()]
        return code, {one["part"]["part_id"]: one["part"] for one in said[:-1]}, said[-1]["summary"]

    return run


def test_exact_pixels_give_the_same_to_the_last_bit(line, replay, capsys):
    wanted = line.recipe()
    line.register(wanted)
    ids = [line.judge(wanted, brightness) for brightness in (100, 150, 200, 250) * 3]
    (line.folder / "roi.png").unlink()
    line.bundle.unlink()
    code, parts, summary = replay("--run", "r1")
    assert code == 0, summary
    assert list(parts) == ids[::-1], "newest first"
    assert [parts[one]["verdict_now"] for one in ids[:4]] == ["PASS", "REVIEW", "REJECT", "REJECT"]
    assert all(part["exact"] and not part["differs"] for part in parts.values())
    assert {view["difference"] for part in parts.values() for view in part["views"]} == {0.0}
    assert (summary["exact"]["parts"], summary["exact"]["same"], summary["as_then"]) == (12, 12, True)
    assert summary["exact"]["verdicts"] == {"PASS->PASS": 3, "REVIEW->REVIEW": 3, "REJECT->REJECT": 6}
    assert cli.main(["replay", ids[3]]) == 0
    told = capsys.readouterr().out
    assert f"{ids[3]}  REJECT -> REJECT  same: side " in told
    assert "exact pixels   1: 1 the same" in told


def test_a_score_that_is_not_what_the_pixels_give_fails_the_replay(line, replay):
    wanted = line.recipe()
    line.register(wanted)
    sound, scored, judged, boxed = (line.judge(wanted, brightness) for brightness in (250, 250, 250, 200))
    line.change("UPDATE view SET score = score + 0.01 WHERE camera = 'side' AND", scored)
    line.change("UPDATE verdict SET verdict = 'PASS' WHERE", judged)
    line.change("UPDATE defect SET x_px = x_px + 1 WHERE", boxed)
    code, parts, summary = replay("--station", "st")
    assert code == 1
    assert {one for one, part in parts.items() if part["differs"]} == {scored, judged, boxed}
    assert not parts[sound]["differs"]
    assert (summary["exact"]["scores_differ"], summary["exact"]["regions_differ"]) == (1, 1)
    assert summary["exact"]["verdicts"]["PASS->REJECT"] == 1
    assert summary["exact"]["largest_difference_part"] == scored
    assert summary["exact"]["largest_difference"] == pytest.approx(0.01)
    assert replay("--part-id", sound)[0] == 0


def test_fewer_pixels_are_approximate_and_what_cannot_be_replayed_says_why(line, replay):
    wanted = line.recipe()
    line.register(wanted)
    expected = {
        line.judge(wanted, 250, Fidelity.REDUCED): "reduced JPEG",
        line.judge(wanted, 250, Fidelity.FULL): "full-size JPEG",
        line.judge(wanted, 250, Fidelity.NONE): "no pixels kept",
        line.judge(wanted, 250, pictured=("top",)): "no pixels kept",
        line.judge(None, 250): "recipe unknown",
        line.judge(line.recipe(version=2), 250): "recipe unknown",
    }
    unreadable = line.judge(wanted, 250)
    line.change("UPDATE image SET content = 'no image' WHERE purpose = 'image' AND", unreadable)
    code, parts, summary = replay("--run", "r1")
    assert code == 0, "an approximation may differ"
    for part_id, told in expected.items():
        found = parts[part_id]
        assert found["exact"] is False
        assert told in {found["obstacle"], *(view["pixels"] for view in found["views"])}, found
        assert bool(found["detail"]) is (found["obstacle"] is not None)
    assert parts[unreadable]["obstacle"] == "image unreadable"
    assert summary["approximate"]["parts"] == 2
    assert 0 < summary["approximate"]["largest_difference"] < 0.5
    assert summary["exact"]["parts"] == 0
    assert summary["not_replayable"] == {"no pixels kept": 2, "recipe unknown": 2, "image unreadable": 1}


def test_faults_are_told_apart_with_what_they_would_have_been(line, replay):
    wanted = line.recipe()
    line.register(wanted)
    line.judge(wanted, 100, lost=Reason.LATE)
    late = line.judge(wanted, 250, late=True)
    line.judge(wanted, 250, Fidelity.FULL, lost=Reason.LATE)
    code, parts, summary = replay("--verdict", "fault")
    assert code == 0
    assert len(parts) == 3
    assert summary["faults_exact"] == {"PASS": 1, "REJECT": 1}
    assert summary["faults_approximate"] == {"REJECT": 1}
    assert summary["exact"]["parts"] == summary["approximate"]["parts"] == 0
    line.change("UPDATE view SET score = 0.1 WHERE camera = 'top' AND", late)
    code, _, summary = replay("--verdict", "fault")
    assert (code, summary["exact"]["scores_differ"]) == (1, 1), "a score that was not used is one all the same"


def test_another_bundle_or_recipe_tells_every_difference_and_does_not_fail(
    line, replay, write_brightness, trust, capsys
):
    wanted = line.recipe(keep={"PASS": Keep(pixels=Fidelity.EXACT)})
    line.register(wanted)
    ids = [line.judge(wanted, brightness) for brightness in (100, 150, 200)]
    calibration = line.engine.bundle.manifest.calibration
    strict = calibration.model_copy(update={"review_above": 0.3, "reject_above": 0.35})
    path = write_brightness(calibration=strict, name="strict").rename(line.folder / "strict.andon")
    code, parts, summary = replay("--run", "r1", "--with-bundle", str(path))
    assert code == 0
    assert [parts[one]["verdict_now"] for one in ids] == ["REJECT", "REJECT", "REJECT"]
    assert {view["bundle_now"] for part in parts.values() for view in part["views"]} == {
        Bundle.open(path, trust).digest
    }
    assert (summary["as_then"], summary["exact"]["same"]) == (False, 1)
    assert summary["exact"]["verdicts"] == {"PASS->REJECT": 1, "REVIEW->REJECT": 1, "REJECT->REJECT": 1}

    file = line.folder / "lenient.toml"
    views = "".join(
        f'[views.{camera}]\nbundle = "{line.bundle}"\nreview_above = 0.7\nreject_above = 0.9\n' for camera in CAMERAS
    )
    file.write_text(f'product = "cap"\njob = 1\n{views}')
    write_brightness()
    code, parts, summary = replay("--run", "r1", "--with-recipe", str(file))
    assert (code, [parts[one]["verdict_now"] for one in ids]) == (0, ["PASS", "PASS", "REVIEW"])
    file.write_text(f'product = "lid"\njob = 1\n{views}')
    assert replay("--run", "r1", "--with-recipe", str(file))[2]["not_replayable"] == {"another product's recipe": 3}
    file.write_text(f'product = "cap"\njob = 1\n{views}bundle_digest = "sha256:other"\n')
    assert cli.main(["replay", "--with-recipe", str(file), "--with-bundle", str(path)]) == 78
    assert "views.side wants sha256:other" in capsys.readouterr().err


def test_a_bundle_that_is_not_trusted_is_refused_part_by_part(line, replay, monkeypatch, tmp_path):
    wanted = line.recipe()
    line.register(wanted)
    line.judge(wanted, 250)
    monkeypatch.setenv("ANDON_KEYS", str(tmp_path / "none"))
    _, parts, summary = replay("--run", "r1")
    assert summary["not_replayable"] == {"bundle refused": 1}
    assert "not trusted" in parts["st-r1-00000000"]["detail"]
    code, _, summary = replay("--run", "r1", "--trust", str(tmp_path / "keys" / "signing.pub"))
    assert (code, summary["exact"]["same"]) == (0, 1)


def test_what_is_not_there_is_told(line, capsys):
    line.register(line.recipe())
    assert cli.main(["replay", "st-r1-00000404"]) == 2
    assert "there is no part st-r1-00000404" in capsys.readouterr().err
    assert cli.main(["replay", "--run", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["parts"] == 0
    assert cli.main(["replay", "--with-bundle", str(line.folder / "none.andon")]) == 2
