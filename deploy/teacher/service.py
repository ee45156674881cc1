"""The teacher's process: it starts the works that lessons wait for, renews their wishes, and says what died.

    console --lesson.json--> teacher --starts--> work (collect, check, fit, shadow): a process of its own, nice 19
                                └--wishes.json--> cameras

It holds nothing that lessons do not say: whatever is killed, the next teacher goes on from their folders. Collecting
and shadowing are begun again; a fit that died is told as one, for somebody may want to know why first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from config.errors import ConfigurationError, InputError
from config.extras import UNDER_WAY, Fetching, Step
from config.lessons import WORKING, Lesson, Lessons, State
from config.log import Condition, logger
from config.service import Service
from config.wishes import Wish, Wishes
from deploy.child import die_with_parent, meaning

if TYPE_CHECKING:
    from config.home import Home

_EVERY_NS = 250_000_000
_RENEW_NS = 5_000_000_000
_WISH_NS = 20_000_000_000
_MORE = 50  # parts wished for beyond what is needed: some are shed
_AGAIN_NS = 5_000_000_000  # a work that died and is begun again
_PATIENCE_NS = 2_000_000_000  # after SIGTERM
_DETECTORS_S = 24 * 3600
_ALONE = frozenset({State.CHECKING, State.FITTING})  # one at a time: each takes a core
_CONTINUED = frozenset({State.COLLECTING, State.SHADOW})
_WORDS = {
    State.COLLECTING: "collect",
    State.CHECKING: "check",
    State.FITTING: "fit",
    State.SHADOW: "shadow",
}


@dataclass
class _Work:
    """A process at work for one attempt of a lesson."""

    lesson: Lesson
    process: subprocess.Popen[bytes]
    told_to_stop_ns: int | None = None


class Teacher(Service):
    """The service that has lessons worked on."""

    def __init__(self, home: Home) -> None:
        super().__init__("teacher", home)
        self._lessons = Lessons(home.path, home.runtime)
        self._wishes = Wishes(home.runtime)
        self._works: dict[str, _Work] = {}  # by lesson
        self._not_before_ns: dict[str, int] = {}
        self._every_ns = self._renew_ns = 0
        self._detectors: subprocess.Popen[bytes] | None = None
        self._fetching = Fetching(home.path)
        self._fetch: subprocess.Popen[bytes] | None = None
        self._wished: frozenset[str] = frozenset()
        self._disk = Condition("lessons_unwritable", self.counters)

    def open(self) -> None:
        """Tell of works that died with the teacher before."""
        for lesson in self._lessons.all():
            if lesson.state in _ALONE:
                self._fail(lesson, f"the process ended while {lesson.state.lower()}: killed, or the station stopped")

    def tick(self, now_ns: int) -> None:
        """Look four times a second for what is to be done."""
        if now_ns < self._every_ns:
            return
        self._every_ns = now_ns + _EVERY_NS
        try:
            lessons = [lesson for lesson in self._lessons.all() if lesson.state in WORKING]
            self._reap(now_ns)
            self._look_for_fetch()
            self._stop_others({(lesson.id, lesson.attempt) for lesson in lessons}, now_ns)
            if lessons and self._detectors is None and self._detectors_are_old():
                self._detectors = self._start("detectors")
            for lesson in reversed(lessons):  # who came first is served first
                self._begin(lesson, now_ns)
            self._wish(lessons, now_ns)
        except OSError as error:
            self._disk.occur(error=str(error))
        else:
            self._disk.end()

    def close(self) -> None:
        """End the works."""
        for process in (self._detectors, self._fetch):
            if process is not None:
                process.kill()
        for work in self._works.values():
            work.process.terminate()
        for work in self._works.values():
            try:
                work.process.wait(0.5)
            except subprocess.TimeoutExpired:
                work.process.kill()

    def _begin(self, lesson: Lesson, now_ns: int) -> None:
        if lesson.id in self._works or now_ns < self._not_before_ns.get(lesson.id, 0):
            return
        if lesson.state in _ALONE and any(work.lesson.state in _ALONE for work in self._works.values()):
            return
        what = _WORDS[lesson.state]
        process = self._start(what, "--lesson", lesson.id)
        self.counters[f"{what}_begun"] += 1
        logger().info("work begun", lesson=lesson.id, what=what, attempt=lesson.attempt, pid=process.pid)
        self._works[lesson.id] = _Work(lesson, process)

    def _look_for_fetch(self) -> None:
        """Fetch what learning needs once somebody wants it; one that was cut short is begun again."""
        if self._fetch is not None:
            code = self._fetch.poll()
            if code is None:
                return
            self._fetch = None
            self._lessons.detectors.unlink(missing_ok=True)  # there is more to learn with now
            logger().info("fetch ended", how=meaning(code))
        else:
            code = 0
        wanted = self._fetching.read()
        if wanted is None or wanted.step not in UNDER_WAY:
            return
        if code:
            self._fetching.tell(wanted.model_copy(update={"step": Step.FAILED, "detail": meaning(code)}))
        else:
            self.counters["fetches_begun"] += 1
            self._fetch = self._start("fetch")

    def _detectors_are_old(self) -> bool:
        """Tell whether it is to be found out anew what there is to learn with: options and weights come and go."""
        try:
            return time.time() - self._lessons.detectors.stat().st_mtime > _DETECTORS_S
        except FileNotFoundError:
            return True

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "deploy.teacher.work", *words, "--home", str(self.home.path)]
        single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env={key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"} | single,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no threads here
        )

    def _reap(self, now_ns: int) -> None:
        if self._detectors is not None:
            self._detectors.poll()
        for lesson_id, work in list(self._works.items()):
            code = work.process.poll()
            if code is None:
                continue
            del self._works[lesson_id]
            if code == 0 or work.told_to_stop_ns is not None:
                continue
            self.counters["works_died"] += 1
            logger().warning("work ended", lesson=lesson_id, how=meaning(code))
            if work.lesson.state in _CONTINUED:
                self._not_before_ns[lesson_id] = now_ns + _AGAIN_NS
            else:
                self._fail(work.lesson, f"the process ended while {work.lesson.state.lower()}: {meaning(code)}")

    def _stop_others(self, wanted: set[tuple[str, int]], now_ns: int) -> None:
        for lesson_id, work in self._works.items():
            if (lesson_id, work.lesson.attempt) in wanted:
                continue
            if work.told_to_stop_ns is None:
                work.told_to_stop_ns = now_ns
                work.process.terminate()
            elif now_ns - work.told_to_stop_ns > _PATIENCE_NS:
                work.process.kill()

    def _fail(self, lesson: Lesson, why: str) -> None:
        """Tell why the work of a lesson's attempt ended, unless somebody wants something else by now."""

        def failed(now: Lesson) -> Lesson:
            if now.attempt != lesson.attempt or now.state is not lesson.state:
                return now
            return now.to(State.FAILED, datetime.now(UTC), detail=why)

        try:
            self._lessons.change(lesson.id, failed)
        except (InputError, ConfigurationError) as error:  # it was removed meanwhile, or is damaged
            logger().warning("lesson cannot be told that its work ended", lesson=lesson.id, error=str(error))

    def _wish(self, lessons: list[Lesson], now_ns: int) -> None:
        """Have the cameras keep what lessons need; renewed for as long as they do."""
        wishes = [_wish(lesson, now_ns) for lesson in lessons if lesson.state in _CONTINUED]
        names = frozenset(wish.name for wish in wishes)
        if names == self._wished and now_ns < self._renew_ns:
            return
        self._wishes.write(wishes)
        self._wished, self._renew_ns = names, now_ns + _RENEW_NS
        self.detail = f"{len(self._works)} at work" if self._works else ""


def _wish(lesson: Lesson, now_ns: int) -> Wish:
    collecting = lesson.state is State.COLLECTING
    wanted = lesson.collecting if collecting else lesson.shadowing
    return Wish(
        name=f"{lesson.id}-{lesson.attempt}",
        camera=lesson.camera,
        recipe=lesson.recipe,
        verdicts=lesson.collecting.verdicts if collecting else frozenset({"PASS", "REVIEW", "REJECT"}),
        every_parts=wanted.every_parts,
        most=(lesson.collecting.count if collecting else lesson.shadowing.most) + _MORE,
        until_ns=now_ns + _WISH_NS,
    )
