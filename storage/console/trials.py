"""What-if: the last hours' parts, loaded once, and judged again by one draft of a recipe after another.

One thread does all of it, at the lowest priority that a thread may have beside the line, and few wait for it. What is
loaded is bounded in parts and bytes (`storage/query/recent.py`), and two loads are kept at most.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from config.errors import ConfigurationError, InputError, ServiceError, StoreError
from config.messages import Judgement
from config.recipe import Recipe
from storage.console.context import Hindsight, Judging
from storage.library import Library
from storage.query.recent import Recent, RecentPart, RecentParts

LONGEST_HOURS = 72
SHOWN = 60  # parts that change
_KEPT = 2
_FRESH_S = 900.0
_MOST_WAITING = 8
_NICE = 10

Made = TypeVar("Made")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Loaded(_Answer):
    """Which parts were judged again; `complete`: all that there are of those hours."""

    recipe: str
    hours: int
    parts: int
    complete: bool
    newest: datetime | None
    oldest: datetime | None
    maps: int  # views whose anomaly map was kept


class Score(_Answer):
    """A view's score, as it is drawn in a histogram; `good` is what is known of the part."""

    score: float
    good: bool | None


class Scores(_Answer):
    """The scores of the loaded parts, by camera."""

    loaded: Loaded
    views: dict[str, list[Score]]


class Known(_Answer):
    """Parts of which people or the line know whether they are good, and what was made of them.

    A false reject is a good part that got REJECT or REVIEW, an escape a bad one that got PASS.
    """

    good: int = 0
    bad: int = 0
    false_rejects: int = 0
    good_reviews: int = 0  # of the false rejects, those that got REVIEW
    escapes: int = 0
    untold: int = 0


class Move(_Answer):
    """So many parts that had one verdict would have had another; None: that cannot be told."""

    before: Judgement
    after: Judgement | None
    parts: int


class Changed(_Answer):
    """A part that would have had another verdict; `picture` is the address of a small picture, if one was kept."""

    part_id: str
    sequence: int
    trigger_time: datetime
    score: float | None
    before: Judgement
    after: Judgement
    good: bool | None
    picture: str | None


class Trial(_Answer):
    """What a draft would have made of the loaded parts; `untold` counts why it cannot be told of some."""

    loaded: Loaded
    before: dict[Judgement, int]
    after: dict[Judgement, int]
    moves: tuple[Move, ...]
    untold: dict[str, int]
    known_before: Known
    known_after: Known
    changed: tuple[Changed, ...]  # the first of them: what is known to be wrong, then the newest
    changed_parts: int
    took_ms: float


@dataclass(frozen=True)
class _Kept:
    recent: Recent
    hindsight: Hindsight
    loaded: Loaded
    at_s: float


class Trials:
    """Answers of one console; its methods are for the threads that answer requests, and wait for the worker's."""

    def __init__(self, recent: RecentParts, library: Library, judging: Judging) -> None:
        self._recent = recent
        self._library = library
        self._judging = judging
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()  # the worker's own
        self._waiting = threading.Semaphore(_MOST_WAITING)
        self._worker = ThreadPoolExecutor(1, "trials", initializer=_step_down)

    def scores(self, recipe: str, hours: int, *, anew: bool) -> Scores:
        """Return the scores of the last parts; `anew`: load them again."""
        return self._do(lambda: self._scores(self._load(recipe, hours, anew=anew)))

    def judge(self, recipe: str, hours: int, draft: Recipe) -> Trial:
        """Return what `draft` would have done; raise ConfigurationError where nobody can judge by it."""
        return self._do(lambda: self._judge(self._load(recipe, hours, anew=False), draft))

    def _do(self, work: Callable[[], Made]) -> Made:
        if not self._waiting.acquire(blocking=False):
            raise ServiceError("too many people try recipes at this moment: try again")
        try:
            return self._worker.submit(work).result()
        finally:
            self._waiting.release()

    # From here on: the worker's thread.

    def _load(self, recipe: str, hours: int, *, anew: bool) -> _Kept:
        key = (recipe, hours)
        kept = self._kept.pop(key, None)
        if kept is None or anew or time.monotonic() - kept.at_s > _FRESH_S:
            kept = None  # what is old goes before what is new comes
            while len(self._kept) >= _KEPT:
                self._kept.popitem(last=False)
            kept = self._loaded(recipe, hours)
        self._kept[key] = kept
        return kept

    def _loaded(self, recipe: str, hours: int) -> _Kept:
        recent = self._recent.load(recipe, datetime.now(UTC) - timedelta(hours=hours))
        parts = recent.parts
        maps = sum(view.anomaly_map is not None for part in parts for view in part.views)
        newest, oldest = (parts[0].trigger_time, parts[-1].trigger_time) if parts else (None, None)
        loaded = Loaded(
            recipe=recipe,
            hours=hours,
            parts=len(parts),
            complete=recent.complete,
            newest=newest,
            oldest=oldest,
            maps=maps,
        )
        return _Kept(recent, self._judging.recall(parts, self._then), loaded, time.monotonic())

    def _then(self, digest: str) -> Recipe | None:
        try:
            return self._library.recipe(digest)
        except (InputError, StoreError, ConfigurationError):
            return None

    def _scores(self, kept: _Kept) -> Scores:
        views: dict[str, list[Score]] = {}
        for part in kept.recent.parts:
            for view in part.views:
                if view.score is not None:
                    views.setdefault(view.camera, []).append(Score(score=view.score, good=part.good))
        return Scores(loaded=kept.loaded, views=views)

    def _judge(self, kept: _Kept, draft: Recipe) -> Trial:
        began_ns = time.perf_counter_ns()
        parts = kept.recent.parts
        told = kept.hindsight.judge(draft)
        moves = Counter((part.verdict, one.verdict) for part, one in zip(parts, told, strict=True))
        changed = [
            (part, one.verdict)
            for part, one in zip(parts, told, strict=True)
            if one.verdict not in {None, part.verdict} and one.verdict is not None
        ]
        changed.sort(key=lambda pair: not _wrong(pair[0].good, pair[1]))
        after = Counter(one.verdict for one in told if one.verdict is not None)
        return Trial(
            loaded=kept.loaded,
            before={judgement: sum(part.verdict is judgement for part in parts) for judgement in Judgement},
            after={judgement: after[judgement] for judgement in Judgement},
            moves=tuple(Move(before=was, after=now, parts=count) for (was, now), count in moves.most_common()),
            untold=dict(Counter(one.why for one in told if one.why is not None)),
            known_before=_known(parts, [part.verdict for part in parts]),
            known_after=_known(parts, [one.verdict for one in told]),
            changed=tuple(_changed(part, now) for part, now in changed[:SHOWN]),
            changed_parts=len(changed),
            took_ms=(time.perf_counter_ns() - began_ns) / 1e6,
        )


def _step_down() -> None:
    """Let the worker's thread be the last to run (setpriority(2) is for one thread on Linux)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _wrong(good: bool | None, verdict: Judgement) -> bool:  # noqa: FBT001 - what is known of a part, or None
    if good is None:
        return False
    return (verdict in {Judgement.REJECT, Judgement.REVIEW}) if good else verdict is Judgement.PASS


def _known(parts: tuple[RecentPart, ...], verdicts: list[Judgement] | list[Judgement | None]) -> Known:
    count: Counter[str] = Counter()
    for part, verdict in zip(parts, verdicts, strict=True):
        if part.good is None:
            continue
        count["good" if part.good else "bad"] += 1
        if verdict is None:
            count["untold"] += 1
        elif _wrong(part.good, verdict):
            count["false_rejects" if part.good else "escapes"] += 1
            count["good_reviews"] += verdict is Judgement.REVIEW
    return Known(**count)


def _changed(part: RecentPart, verdict: Judgement) -> Changed:
    scores = [view.score for view in part.views if view.score is not None]
    picture = None if part.picture is None else f"/api/images/{part.part_id}/{part.picture}/image?side_px=128"
    return Changed(
        part_id=part.part_id,
        sequence=part.sequence,
        trigger_time=part.trigger_time,
        score=max(scores, default=None),
        before=part.verdict,
        after=verdict,
        good=part.good,
        picture=picture,
    )
