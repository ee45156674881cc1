"""One work of a lesson, in a process of its own: `python -m deploy.teacher.work fit --home DIR --lesson ID`.

Or, of no lesson: `detectors`, what there is to learn with here, for the page to show; `fetch`, what learning needs.

What it imports (torch, onnxruntime) and what it takes is gone when it ends. It changes the lesson only while nobody
else has: another attempt is another process's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from config import files, log
from config.errors import AndonError, InputError
from config.extras import Fetching
from config.home import Home
from config.lessons import Lesson, Lessons, Progress, State

if TYPE_CHECKING:
    from collections.abc import Callable

_TELL_NS = 250_000_000


class Job:
    """The work in hand: its lesson as it was when it began, and how it tells how far it is."""

    def __init__(self, home: Home, lesson_id: str) -> None:
        """Take up a lesson; raise InputError where there is none."""
        self.home = home
        self.lessons = Lessons(home.path, home.runtime)
        self.lesson = self.lessons.read(lesson_id)
        self.out = self.lessons.path(lesson_id) / "out"
        self.counters: Counter[str] = Counter()
        self._ended = threading.Event()
        self._stage = ""
        self._told_ns = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ended.set())

    def wait(self, seconds: float) -> bool:
        """Wait a moment; False once the work is to end."""
        return not self._ended.wait(seconds)

    def tell(self, stage: str, done: int, total: int) -> None:
        """Say how far the work is, four times a second at most; end a work that is not wanted any more."""
        if self._ended.is_set():
            raise KeyboardInterrupt
        now_ns = time.monotonic_ns()
        if stage == self._stage and done < total and now_ns - self._told_ns < _TELL_NS:
            return
        self._stage, self._told_ns = stage, now_ns
        self.lessons.tell(self.lesson.id, Progress(attempt=self.lesson.attempt, stage=stage, done=done, total=total))

    def shed(self, parts: int) -> None:
        """Count parts that were wanted and whose pixels gave way to the line."""
        if parts:
            self.lessons.change(self.lesson.id, lambda now: now.model_copy(update={"shed": now.shed + parts}))

    def finish(self, state: State, **changes: object) -> None:
        """Take the lesson to another state, unless somebody wants something else by now."""

        def finished(now: Lesson) -> Lesson:
            if now.attempt != self.lesson.attempt or now.state is not self.lesson.state:
                return now
            return now.to(state, datetime.now(UTC), **changes)

        self.lessons.change(self.lesson.id, finished)


def main() -> int:
    """Do one work; whatever keeps it from being done is what the lesson says then."""
    parser = argparse.ArgumentParser(prog="python -m deploy.teacher.work", description="One work of a lesson.")
    parser.add_argument("what", choices=("collect", "check", "fit", "shadow", "detectors", "fetch"))
    parser.add_argument("--home", type=Path, required=True, help="the station's state folder")
    parser.add_argument("--lesson", default="", metavar="ID")
    arguments = parser.parse_args()
    log.configure("teacher")
    os.nice(19)
    home = Home(arguments.home)
    if arguments.what == "detectors":
        _tell_detectors(Lessons(home.path, home.runtime).detectors)
        return 0
    if arguments.what == "fetch":
        _fetch(Fetching(home.path))
        return 0
    job = Job(home, arguments.lesson)
    job.tell("start", 0, 1)
    try:
        _work(arguments.what)(job)
    except KeyboardInterrupt:
        return 0
    except AndonError as error:
        _fail(job, str(error))
    except OSError as error:
        _fail(job, f"the disk does not take it: {error}")
    except MemoryError:
        _fail(job, "there is not enough memory for it: fewer or smaller images, or other options")
    return 0


def _fail(job: Job, why: str) -> None:
    log.logger().warning("work failed", lesson=job.lesson.id, work=job.lesson.state, error=why)
    with contextlib.suppress(InputError):  # the lesson was removed meanwhile
        job.finish(State.FAILED, detail=why)


def _work(what: str) -> Callable[[Job], None]:
    """Return what does a work; each imports what it alone needs."""
    if what == "collect":
        from deploy.teacher.collecting import collect  # noqa: PLC0415 - as the docstring says

        return collect
    if what == "shadow":
        from deploy.teacher.shadowing import shadow  # noqa: PLC0415 - as the docstring says

        return shadow
    from deploy.teacher.fitting import check, fit  # noqa: PLC0415 - as the docstring says

    return check if what == "check" else fit


def _tell_detectors(path: Path) -> None:
    from deploy.catalogue import known  # noqa: PLC0415 - torch takes seconds to load

    found = known()
    files.write(path, json.dumps({"detectors": found}).encode())


def _fetch(fetching: Fetching) -> None:
    from deploy.teacher.fetching import fetch  # noqa: PLC0415 - as the docstring says

    wanted = fetching.read()
    if wanted is not None:
        fetch(fetching, wanted)


if __name__ == "__main__":
    raise SystemExit(main())
