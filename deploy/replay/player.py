"""Judge stored parts again from their stored pixels, in batches of bounded memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from config.errors import ImageLostError, InputError
from config.messages import Prediction, Trigger
from decision.deadlines import OpenPart, Scored
from decision.rules import judge
from deploy.replay.findings import Obstacle, PartFinding, Pixels, ViewFinding
from deploy.replay.judges import Judge, Judges, ObstacleError
from storage.query.answers import Region

if TYPE_CHECKING:
    import numpy.typing as npt

    from inference.engine import Engine
    from storage.query.answers import Part, ViewDetail

    Frame = npt.NDArray[np.uint8]

_BATCH = 8
_WAITING_PARTS = 64
_WAITING_BYTES = 128_000_000  # of pixels
_PNG = b"\x89PNG\r\n\x1a\n"

Stored = tuple["Part", str | None]  # with the digest of the recipe of then
Pictures = Callable[[str, str], bytes | None]  # of a part, by a camera; raises ImageLostError


@dataclass
class _Looked:
    """A part whose pixels are there; scores are filled in later."""

    part: Part
    judge: Judge
    frames: dict[str, tuple[Frame, Pixels]]
    scored: dict[str, Scored] = field(default_factory=dict)


def replay(stored: Iterable[Stored], pictures: Pictures, judges: Judges) -> Iterator[PartFinding]:
    """Yield what becomes of each part, in order; raise what keeps all of them from being replayed."""
    waiting: list[_Looked | PartFinding] = []
    size_bytes = 0
    for part, recipe_digest in stored:
        looked = _look(part, recipe_digest, pictures, judges)
        waiting.append(looked)
        if isinstance(looked, _Looked):
            size_bytes += sum(frame.nbytes for frame, _ in looked.frames.values())
        if len(waiting) >= _WAITING_PARTS or size_bytes >= _WAITING_BYTES:
            yield from _settle(waiting)
            waiting, size_bytes = [], 0
    yield from _settle(waiting)


def _look(part: Part, recipe_digest: str | None, pictures: Pictures, judges: Judges) -> _Looked | PartFinding:
    try:
        found = judges.of(part, recipe_digest)
        details = {detail.camera: detail for detail in part.details}
        frames = {
            camera: _frame(part, camera, details.get(camera), pictures, engine)
            for camera, engine in found.engines.items()
        }
    except ObstacleError as error:
        return _cannot(part, error)
    return _Looked(part, found, frames)


def _frame(
    part: Part, camera: str, then: ViewDetail | None, pictures: Pictures, engine: Engine
) -> tuple[Frame, Pixels]:
    """Return the pixels of a view `(H, W, C)` as they are stored, and how faithful they are."""
    try:
        content = pictures(part.part_id, camera)
    except ImageLostError as error:
        raise ObstacleError(Obstacle.IMAGE_LOST, f"{camera}: {error}") from error
    if content is None:
        raise ObstacleError(Obstacle.NO_PIXELS, camera)
    pixels = _decoded(content)
    if pixels is None:
        raise ObstacleError(Obstacle.UNREADABLE_IMAGE, f"{camera}: {len(content)} bytes that are no image")
    frame = pixels.reshape(*pixels.shape[:2], -1)
    if frame.shape[2] != engine.channels:
        told = f"{camera}: {frame.shape[2]} channels, {engine.bundle.title} takes {engine.channels}"
        raise ObstacleError(Obstacle.WRONG_FRAME, told)
    whole = then is None or then.frame_shape is None or then.frame_shape == frame.shape
    if content.startswith(_PNG):
        return frame, Pixels.EXACT if whole else Pixels.REDUCED
    return frame, Pixels.FULL if whole and then is not None and then.frame_shape is not None else Pixels.REDUCED


def _decoded(content: bytes) -> npt.NDArray[np.uint8] | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    except cv2.error:  # some damaged images raise, others return None
        return None
    return None if pixels is None or pixels.dtype != np.uint8 else np.asarray(pixels, np.uint8)


def _settle(waiting: list[_Looked | PartFinding]) -> Iterator[PartFinding]:
    """Score what waits, frames of one size and engine together, then judge part by part."""
    alike: defaultdict[tuple[int, tuple[int, ...]], list[tuple[_Looked, str]]] = defaultdict(list)
    for looked in waiting:
        if isinstance(looked, _Looked):
            for camera, (frame, _) in looked.frames.items():
                alike[id(looked.judge.engines[camera]), frame.shape].append((looked, camera))
    refused: dict[str, ObstacleError] = {}
    for views in alike.values():
        for start in range(0, len(views), _BATCH):
            _score(views[start : start + _BATCH], refused)
    for looked in waiting:
        if isinstance(looked, PartFinding):
            yield looked
        elif looked.part.part_id in refused:
            yield _cannot(looked.part, refused[looked.part.part_id])
        else:
            yield _judged(looked)


def _score(views: list[tuple[_Looked, str]], refused: dict[str, ObstacleError]) -> None:
    looked, camera = views[0]
    engine = looked.judge.engines[camera]
    try:
        scores, maps = engine.infer(np.stack([looked.frames[camera][0] for looked, camera in views]))
    except InputError as error:
        for looked, camera in views:
            refused[looked.part.part_id] = ObstacleError(Obstacle.WRONG_FRAME, f"{camera}: {error}")
        return
    for (looked, camera), score, anomaly_map in zip(views, scores, maps, strict=True):
        then = next((detail for detail in looked.part.details if detail.camera == camera), None)
        shape = then.frame_shape if then and then.frame_shape else looked.frames[camera][0].shape
        prediction = Prediction(
            frame_id=f"{looked.part.part_id}/{camera}",
            part_id=looked.part.part_id,
            camera=camera,
            score=float(score),
            map_shape=anomaly_map.shape,
            frame_shape=shape,  # so that regions are in pixels of the frame, however much its picture is reduced
            bundle_digest=engine.digest,
            worker="replay",
            batch_size=len(views),
            received_ns=0,
            started_ns=0,
            finished_ns=0,
        )
        looked.scored[camera] = Scored(prediction, anomaly_map)


def _judged(looked: _Looked) -> PartFinding:
    part, rules = looked.part, looked.judge.rules
    trigger = Trigger(
        part_id=part.part_id,
        sequence=part.sequence,
        station=part.station,
        camera=next(iter(rules.recipe.views)),
        views=tuple(rules.recipe.views),
        recipe=part.recipe,
        trigger_ns=0,
        trigger_time_ns=0,
        deadline_ns=0,
        truth=None,
    )
    verdict, _ = judge(OpenPart(trigger, dict(looked.scored)), rules, part.line, 0)
    details = {detail.camera: detail for detail in part.details}
    views = []
    for now in verdict.views:
        then, engine = details.get(now.camera), looked.judge.engines[now.camera]
        views.append(
            ViewFinding(
                camera=now.camera,
                pixels=looked.frames[now.camera][1],
                bundle_then=then.bundle_digest if then else None,
                bundle_now=engine.digest,
                score_then=then.score if then else None,
                score_now=now.score,
                tolerance=max(golden.tolerance for golden in engine.bundle.manifest.golden),
                verdict_then=then.verdict if then else part.verdict,
                verdict_now=now.verdict,
                regions_then=then.regions if then else (),
                regions_now=tuple(map(Region.model_validate, now.regions)),
            )
        )
    return _finding(part, verdict_now=verdict.verdict, views=tuple(views))


def _cannot(part: Part, error: ObstacleError) -> PartFinding:
    return _finding(part, obstacle=error.obstacle, detail=str(error))


def _finding(part: Part, **found: object) -> PartFinding:
    said = {
        "part_id": part.part_id,
        "trigger_time": part.trigger_time,
        "product": part.product,
        "recipe": part.recipe,
        "verdict_then": part.verdict,
        "reasons_then": part.reasons,
    }
    return PartFinding.model_validate(said | found)
