"""Judge parts by a bundle that does not count yet, beside the one that does: replay, as parts come.

Only parts that are among the sampled ones count, whatever else was kept of others (rejects, as a rule): else the shares
that people read would be those of what was kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from sqlalchemy import create_engine
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.pool import NullPool

from config.errors import InputError, StoreError
from config.lessons import State
from config.log import Condition
from config.messages import Judgement, Prediction
from decision.deadlines import Scored
from decision.rules import Rules, judge_view
from deploy.replay.judges import rebased
from deploy.teacher.fresh import Fresh
from deploy.teacher.stored import BEFORE_CAMERAS_KNOW, opened, stored
from inference.engine import Engine
from storage.addresses import database_url
from storage.failures import translated
from storage.schema import shadow as table
from storage.shadows import Shadows

if TYPE_CHECKING:
    from config.recipe import Recipe
    from deploy.teacher.work import Job
    from inference.bundle import Bundle
    from storage.query.answers import Part

_LOOK_S = 1.0
_CONNECT = {"connect_timeout": 3, "application_name": "andon shadow", "options": "-c statement_timeout=10000"}
_JUDGED = frozenset({Judgement.PASS, Judgement.REVIEW, Judgement.REJECT})


class Candidate:
    """The bundle with the rules that it would be released with: the recipe's own, and its calibration's thresholds."""

    def __init__(self, bundle: Bundle, recipe: Recipe, camera: str) -> None:
        self._engine = Engine(bundle)
        self._engine.check_golden()
        view = rebased(recipe.views[camera], bundle, keep_thresholds=False)
        self._rules = Rules.load(recipe.model_copy(update={"views": {camera: view}, "reject_views": 1}))
        self._camera = camera

    def judge(self, part: Part, content: bytes) -> tuple[float | None, Judgement]:
        """Return score and verdict of a view; raise InputError for pixels that the bundle does not take."""
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise InputError(f"{part.part_id}: its image does not decode")
        frame = np.asarray(pixels, np.uint8).reshape(*pixels.shape[:2], -1)
        scores, maps = self._engine.infer(frame[None])
        prediction = Prediction(
            frame_id=f"{part.part_id}/{self._camera}",
            part_id=part.part_id,
            camera=self._camera,
            score=float(scores[0]),
            map_shape=maps[0].shape,
            frame_shape=frame.shape,
            bundle_digest=self._engine.digest,
            worker="shadow",
            batch_size=1,
            received_ns=0,
            started_ns=0,
            finished_ns=0,
        )
        rules, camera = self._rules, self._camera
        view = judge_view(
            camera,
            Scored(prediction, maps[0]),
            rules.recipe.views[camera],
            rules.limits[camera],
            rules.zones[camera],
        )
        return view.score, view.verdict


def shadow(job: Job) -> None:
    """Judge sampled parts as they are stored, until enough have been compared."""
    lesson = job.lesson
    bundle = opened(job.out / "bundle.andon")
    if bundle.digest != lesson.bundle_digest:
        raise InputError(f"lesson {lesson.id}: its bundle is {bundle.digest}, fitted was {lesson.bundle_digest}")
    recipe = job.home.read_recipes()[lesson.recipe]
    candidate = Candidate(bundle, recipe, lesson.camera)
    wanted = lesson.shadowing
    since = lesson.shadow_since or lesson.since
    fresh = Fresh(
        stored(job.home),
        recipe=lesson.recipe,
        camera=lesson.camera,
        verdicts=_JUDGED,
        every_parts=wanted.every_parts,
        since=since + BEFORE_CAMERAS_KNOW,
    )
    shadows = Shadows(database_url())
    engine = create_engine(database_url(), poolclass=NullPool, connect_args=_CONNECT)
    away = Condition("shadow_waits", job.counters)
    compared = 0
    while True:
        try:
            compared = shadows.compared(bundle.digest, lesson.camera, since).parts
            job.tell("shadow", compared, wanted.most)
            if compared >= wanted.most:
                break
            rows = _judged(job, candidate, fresh, compared)
            if rows:
                with translated(), engine.begin() as connection:
                    connection.execute(insert(table).on_conflict_do_nothing(), rows)
        except StoreError as error:
            away.occur(error=str(error))
        else:
            away.end()
        if not job.wait(_LOOK_S):
            break
    job.shed(fresh.shed)
    if compared >= wanted.most:
        job.finish(State.FITTED, detail=f"{compared} parts compared")


def _judged(job: Job, candidate: Candidate, fresh: Fresh, compared: int) -> list[dict[str, object]]:
    """Judge what has come, up to as many as are wanted; return the rows of the table."""
    lesson = job.lesson
    rows: list[dict[str, object]] = []
    for part, content in fresh.look():
        score, verdict = candidate.judge(part, content)
        rows.append(
            {
                "bundle_digest": lesson.bundle_digest,
                "part_id": part.part_id,
                "camera": lesson.camera,
                "trigger_time": part.trigger_time,
                "score": score,
                "verdict": verdict,
                "exact": True,
            }
        )
        job.tell("shadow", compared + len(rows), lesson.shadowing.most)
        if compared + len(rows) >= lesson.shadowing.most:
            break
    return rows
