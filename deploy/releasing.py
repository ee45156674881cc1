"""A lesson's bundle comes into force: the recipe's next version, taken while nobody judges, whole or not at all.

The workers have loaded the bundles that they judge by, so cameras, workers and decision stage are stopped and started
again, some seconds; servers, storage and console go on. Parts that come meanwhile get their verdict, FAULT, and the
gate rests at reject. What does not come up again is taken back, and what was in force before judges on.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from config import files, recipe
from config.errors import AndonError, ConfigurationError, InputError, ServiceError, StoreError
from config.lessons import SWITCHING, Lesson, Lessons, Release, State
from decision.rules import Rules
from deploy import registry, stations
from inference.bundle import Bundle
from inference.keys import TrustStore

if TYPE_CHECKING:
    from pathlib import Path

    from config.home import Home
    from config.recipe import Recipe
    from deploy.logbook import Logbook
    from deploy.supervisor import Supervisor

_LOOK_NS = 500_000_000


class Releasing:
    """Do what lessons wait for that wait for another version of their recipe."""

    def __init__(
        self, supervisor: Supervisor, home: Home, judging: list[str], ready_within_s: float, url: str, logbook: Logbook
    ) -> None:
        """`judging` names the processes that are started anew with a version, which must be ready in time."""
        self._supervisor = supervisor
        self._home = home
        self._judging = judging
        self._ready_within_s = ready_within_s
        self._url = url
        self._logbook = logbook
        self._lessons = Lessons(home.path, home.runtime)
        self._due_ns = 0

    def look(self, now_ns: int) -> None:
        """Look twice a second whether something is to be released, and do it."""
        if now_ns < self._due_ns:
            return
        for lesson in self._lessons.all():
            if lesson.state in SWITCHING:
                self._switch(lesson)
        self._due_ns = time.monotonic_ns() + _LOOK_NS

    def _switch(self, lesson: Lesson) -> None:
        release = lesson.release
        try:
            if release is None:
                raise InputError(f"lesson {lesson.id}: says nothing of what is to be released")
            if self._home.read_station().workers.listen is not None:
                raise InputError(
                    "workers of other machines have loaded their own files: put the bundle there and into the recipe's "
                    "file, and start station and workers again"
                )
            before = self._home.read_recipes()[lesson.recipe]
            wanted = self._new(lesson, release, before) if lesson.state is State.RELEASING else self._old(release)
            self._logbook.say(f"{lesson.recipe}: version {wanted.version} comes into force, by {release.by}")
            self._put(lesson.recipe, wanted, before)
        except (AndonError, OSError, KeyError) as error:
            self._logbook.say(f"lesson {lesson.id}: not in force: {error}", "warning")
            back = State.FITTED if lesson.state is State.RELEASING else State.RELEASED
            self._settle(lesson, back, detail=f"not in force: {error}")
            return
        if lesson.state is State.RELEASING:
            update = release.model_copy(update={"version": wanted.version})
            self._settle(lesson, State.RELEASED, release=update)
        else:
            self._settle(lesson, State.FITTED, detail=f"version {wanted.version} is in force again", release=None)

    def _new(self, lesson: Lesson, release: Release, before: Recipe) -> Recipe:
        """Return the recipe's next version, its bundle in the station's folder; raise for what is wrong with it."""
        kept = self._kept(lesson)
        view = before.views[lesson.camera].model_copy(
            update={
                "bundle": kept,
                "bundle_digest": lesson.bundle_digest,
                "review_above": release.review_above,
                "reject_above": release.reject_above,
                "zones": tuple(
                    zone.model_copy(update={"review_above": None, "reject_above": None})
                    for zone in before.views[lesson.camera].zones
                ),
            }
        )
        versions = self._home.versions()
        highest = max([before.version, *versions.known(lesson.recipe).values()])
        views = {**before.views, lesson.camera: view}
        wanted = before.model_copy(update={"views": views, "version": highest + 1})
        found = versions.copy(wanted)
        Rules.load(found)
        return found

    def _kept(self, lesson: Lesson) -> Path:
        """Return where the station keeps the lesson's bundle; raise BundleError unless it is the one that was tried."""
        made = self._lessons.path(lesson.id) / "out" / "bundle.andon"
        bundle = Bundle.open(made, TrustStore.load(extra=stations.DEMO_KEYS))
        if bundle.digest != lesson.bundle_digest:
            raise InputError(f"{made}: is {bundle.digest}, the lesson's is {lesson.bundle_digest}")
        path = self._home.path / "bundles" / f"{bundle.manifest.name}-{bundle.digest.removeprefix('sha256:')}.andon"
        path.parent.mkdir(exist_ok=True)
        files.write(path, made.read_bytes())
        return path

    def _old(self, release: Release) -> Recipe:
        found = self._home.versions().recipe(release.before)
        views = {
            camera: view.model_copy(update={"bundle": release.before_bundles[camera]})
            for camera, view in found.views.items()
        }
        return found.model_copy(update={"views": views})

    def _put(self, name: str, wanted: Recipe, before: Recipe) -> None:
        """Judge by `wanted`; raise what kept it from it, once the station judges by `before` again."""
        versions = self._home.versions()
        of_file = self._home.read_station().read_recipes()[name]
        instead_of = recipe.digest(recipe.content(of_file))
        self._supervisor.pause(self._judging)
        try:
            versions.adopt(name, wanted, instead_of)
            self._supervisor.resume(self._judging, self._ready_within_s)
        except (ConfigurationError, ServiceError, OSError):
            self._supervisor.pause(self._judging)
            versions.adopt(name, before, instead_of)
            self._supervisor.resume(self._judging, self._ready_within_s)
            raise
        try:
            registry.register(self._home, self._url)
        except StoreError as error:  # as at the next start; until then a replay has to wait
            self._logbook.say(f"the library has to wait for a bundle: {error}", "warning")

    def _settle(self, lesson: Lesson, state: State, **changes: object) -> None:
        self._lessons.change(lesson.id, lambda now: now.to(state, datetime.now(UTC), **changes))
