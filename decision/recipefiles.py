"""The thread that looks at the recipe files while the line runs: what is edited is validated whole and handed over.

    file --settled--> read, check (successor.py), prepare --kept on disk--> Taken --> loop
                           └-- whatever is wrong --> Refused, once for each reason --> loop

Nothing of this is done in the loop. A file counts once it and its pictures have stood still for a second, so that what
an editor has only half written is not read; where it is read amid a write all the same, that is noticed and it is read
again. What is refused is looked at again every two seconds: maybe only a picture was missing.

What a person wants in force goes the same way, and gets its version here. From then on the file counts no more, until
it says something else.

    person --Adoption--> check, prepare --kept on disk--> Adopted --> loop
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from config import recipe
from config.errors import ConfigurationError
from config.log import logger
from config.mailbox import Mailbox
from config.recipe import Recipe
from config.versions import Choice, Versions
from decision import realtime, successor
from decision.rules import Rules

_LOOK_S = 0.25
_SETTLED_NS = 1_000_000_000
_AGAIN_NS = 2_000_000_000
_CLOSE_S = 0.2

_Stamp = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class Taken:
    """A new version that is on disk and ready to judge by."""

    name: str
    rules: Rules


@dataclass(frozen=True)
class Refused:
    """Why a file, as it is now, is not taken; None: nothing is wrong with it any more."""

    name: str
    why: str | None


@dataclass(frozen=True)
class Chosen:
    """What a person chose, and that is on disk; `failed` says why it is not."""

    choice: Choice
    peer: bytes
    failed: str | None = None


@dataclass(frozen=True)
class Adoption:
    """What a person wants in force in place of what has the digest `based_on`."""

    name: str
    content: bytes
    based_on: str
    by: str
    peer: bytes
    opened: frozenset[str] = frozenset()  # bundles that every worker has open for it


@dataclass(frozen=True)
class Adopted:
    """What a person wanted is on disk and ready to judge by; `failed` says why it is not."""

    wanted: Adoption
    rules: Rules | None = None
    failed: str | None = None


News = Taken | Refused | Chosen | Adopted


@dataclass
class _File:
    """What is known of one recipe file."""

    path: Path
    rules: Rules  # in force
    passed_over: str | None = None  # digest of what the file says, where a person put something else in force
    pictures: tuple[Path, ...] = ()
    stamp: _Stamp = ()
    since_ns: int = 0
    looked_at: _Stamp | None = None
    refused: str | None = None
    again_ns: int = 0


class RecipeFiles:
    """Watch the files of some recipes; all methods are for the loop's thread and none waits, but `close` (0.2 s)."""

    def __init__(
        self,
        paths: Mapping[str, Path],
        versions: Versions,
        in_force: Mapping[str, Rules],
        bundle: Callable[[str], Path | None] = lambda _: None,
    ) -> None:
        """Name the files; `versions` is written by this thread alone; `bundle` finds a file of the station's folder."""
        self._bundle = bundle
        self._files = {
            name: _File(path, in_force[name], passed_over=versions.instead_of(name)) for name, path in paths.items()
        }
        self._versions = versions
        self._wanted: queue.SimpleQueue[tuple[Choice, bytes] | Adoption | None] = queue.SimpleQueue()
        self._news: Mailbox[News] = Mailbox()
        self._thread = threading.Thread(target=self._live, name="recipe-files", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is news."""
        return self._news.fileno()

    def news(self) -> list[News]:
        """Return what has happened since the last call."""
        return self._news.drain()

    def choose(self, choice: Choice, peer: bytes) -> None:
        """Keep what a person chose; told as Chosen."""
        self._wanted.put((choice, peer))

    def adopt(self, wanted: Adoption) -> None:
        """Put in force what a person wants, if that may be; told as Adopted."""
        self._wanted.put(wanted)

    def close(self) -> None:
        """End."""
        self._wanted.put(None)
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    # From here on: the thread.

    def _live(self) -> None:
        realtime.step_down()
        try:
            while self._do_as_wanted():
                for name, file in self._files.items():
                    self._look(name, file, time.monotonic_ns())
        except Exception as error:  # noqa: BLE001 - a thread's outermost edge: no file may keep the loop from judging
            logger().error("recipe files are not looked at any more", traceback=traceback.format_exc())
            for name in self._files:
                self._news.put(Refused(name, f"recipe files are not looked at any more: {error!r}"))

    def _do_as_wanted(self) -> bool:
        """Wait for what people want and keep it; return False at the end."""
        try:
            wanted = self._wanted.get(timeout=_LOOK_S)
        except queue.Empty:
            return True
        if wanted is None:
            return False
        try:
            if isinstance(wanted, Adoption):
                self._news.put(Adopted(wanted, self._adopt(wanted)))
            else:
                self._versions.choose(wanted[0])
                self._news.put(Chosen(*wanted))
        except (OSError, ConfigurationError) as error:
            if isinstance(wanted, Adoption):
                self._news.put(Adopted(wanted, failed=str(error)))
            else:
                self._news.put(Chosen(*wanted, failed=f"it cannot be kept: {error}"))
        return True

    def _adopt(self, wanted: Adoption) -> Rules:
        """Put in force what a person wants; raise ConfigurationError where that may not be."""
        file = self._files[wanted.name]
        before = file.rules
        if before.digest != wanted.based_on:
            raise ConfigurationError(
                f"it is based on {wanted.based_on}, but version {before.recipe.version} is in force, {before.digest}"
            )
        said = recipe.digest(recipe.content(recipe.read(file.path)))
        if said not in {before.digest, file.passed_over}:
            raise ConfigurationError(f"{file.path}: says something that is not in force, or not yet: mend it first")
        known = self._versions.known(wanted.name)
        one = self._versions.made(wanted.content.decode(errors="replace"), like=before.recipe)
        one = self._with_bundles(one, before.recipe, wanted.opened)
        if recipe.digest(recipe.content(one)) not in known:
            one = one.model_copy(update={"version": max([before.recipe.version, *known.values()]) + 1})
        own = self._versions.copy(one)
        rules = Rules.load(own)
        successor.check(before.recipe, own, rules.digest, known, wanted.opened)
        rules.warm(before)
        self._versions.adopt(wanted.name, own, instead_of=said)
        file.rules, file.passed_over = rules, said
        return rules

    def _with_bundles(self, one: Recipe, before: Recipe, opened: frozenset[str]) -> Recipe:
        """Return the recipe with the files of bundles that `before` does not name."""
        views = dict(one.views)
        for camera, view in one.views.items():
            known = {each.bundle_digest: each.bundle for each in before.views.values()}
            if view.bundle_digest is None or view.bundle_digest not in opened:
                continue
            path = known.get(view.bundle_digest) or self._bundle(view.bundle_digest)
            if path is None:
                raise ConfigurationError(f"views.{camera}.bundle_digest: no file of {view.bundle_digest} is here")
            views[camera] = view.model_copy(update={"bundle": path})
        return one.model_copy(update={"views": views})

    def _look(self, name: str, file: _File, now_ns: int) -> None:
        stamp = _stamp(file)
        if stamp != file.stamp:
            file.stamp, file.since_ns = stamp, now_ns
        is_new = stamp != file.looked_at or (file.refused is not None and now_ns >= file.again_ns)
        if not is_new or now_ns - file.since_ns < _SETTLED_NS:
            return
        why = None
        try:
            self._take(name, file)
        except _Moving:
            return
        except ConfigurationError as error:
            why = str(error)
        except OSError as error:
            why = f"{file.path}: the state folder cannot take it: {error}"
        file.looked_at, file.again_ns = stamp, now_ns + _AGAIN_NS
        if why != file.refused:
            file.refused = why
            self._news.put(Refused(name, why))

    def _take(self, name: str, file: _File) -> None:
        """Put the file's content in force unless it is; raise ConfigurationError where that may not be."""
        before = file.stamp
        found = recipe.read(file.path)
        file.pictures = recipe.pictures(found)
        Rules.load(found)
        own = self._versions.copy(found)
        rules = Rules.load(own)
        if _stamp(file)[0] != before[0] or recipe.digest(recipe.content(found)) != rules.digest:
            raise _Moving
        if rules.digest == file.passed_over:
            return
        try:
            successor.check(file.rules.recipe, own, rules.digest, self._versions.known(name))
        except ConfigurationError as error:
            raise ConfigurationError(f"{file.path}: {error}") from None
        if rules.digest == file.rules.digest:
            return
        rules.warm(file.rules)
        self._versions.take(name, own)
        file.rules, file.passed_over = rules, None
        self._news.put(Taken(name, rules))


class _Moving(Exception):  # noqa: N818 - no error: the file is being written, and is looked at again
    pass


def _stamp(file: _File) -> _Stamp:
    """Return what tells a file and its pictures as they are now from what they were."""
    return tuple(_stat(path) for path in (file.path, *file.pictures))


def _stat(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
