"""The versions of recipes that are in force, in the state folder: an edited file counts once it is taken, not before.

versions/in_force.json   which version of each recipe counts in this run, all that ever did, and what people decided
versions/HEX.json        a version's content (`config/recipe.py`), named by its digest; never removed
versions/HEX.picture     a picture that it names, as a file again

What a person has put in force instead of what a recipe's file says counts until the file says something else than then.
The decision stage alone writes here, before it judges by a version. Every process of the run reads its recipes from
here: one that is started again judges as the others do, whatever somebody is writing into the files meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from config import files, recipe
from config.errors import ConfigurationError
from config.recipe import Recipe
from config.station import Station


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Version(_Model):
    """A content, and where the bundle of each view lies: a content does not say that."""

    digest: str
    bundles: dict[str, Path]


class Choice(_Model):
    """The recipe that a person chose; it counts until the station file names another one than then."""

    recipe: str
    by: str
    instead_of: str  # of the station file


class Adopted(_Model):
    """A version that a person put in force; it counts until the recipe's file has another content than then."""

    version: Version
    instead_of: str  # digest of what the file said


class _Kept(_Model):
    run_id: str
    in_force: dict[str, Version]
    known: dict[str, dict[str, int]]  # recipe's name -> digest -> version
    choice: Choice | None = None
    adopted: dict[str, Adopted] = {}


_NOTHING = _Kept(run_id="", in_force={}, known={})


class Versions:
    """The folder of one station. Methods raise ConfigurationError for what is damaged and OSError for a full disk."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is made yet."""
        self._folder = folder
        self._index = folder / "in_force.json"

    def exists(self) -> bool:
        """Tell whether there ever was a version."""
        return self._index.exists()

    def begin(self, run_id: str, station: Station) -> dict[str, Recipe]:
        """Return the recipes in force in a run of `station`; where it has none yet, those of its files are.

        Or what a person put in their place, if the file is still what it was then.
        """
        found = self.read(run_id, station)
        if found is not None:
            return found
        kept, read = self._kept(), station.read_recipes()
        in_force = {name: self._keep(one) for name, one in read.items()}
        known = {name: {**kept.known.get(name, {}), in_force[name].digest: one.version} for name, one in read.items()}
        adopted = {
            name: one
            for name, one in kept.adopted.items()
            if name in in_force and in_force[name].digest == one.instead_of
        }
        in_force |= {
            name: Version(digest=one.version.digest, bundles=self._bundles(one.version, read[name]))
            for name, one in adopted.items()
        }
        choice = kept.choice
        if choice is not None and (choice.recipe not in read or choice.instead_of != station.recipe):
            choice = None
        known = {**kept.known, **known}
        self._write(_Kept(run_id=run_id, in_force=in_force, known=known, choice=choice, adopted=adopted))
        return {name: self._recipe(version) for name, version in in_force.items()}

    def read(self, run_id: str, station: Station) -> dict[str, Recipe] | None:
        """Return the recipes in force in a run of `station`; None where it has none yet."""
        kept = self._kept()
        if kept.run_id != run_id or set(kept.in_force) != set(station.recipes):
            return None
        return {name: self._recipe(version) for name, version in kept.in_force.items()}

    def copy(self, one: Recipe) -> Recipe:
        """Return the same recipe with pictures of our own, which nobody edits."""
        return self._recipe(self._keep(one))

    def take(self, name: str, one: Recipe) -> None:
        """Put what a file says, as `copy` returned it, in force; on disk when this returns."""
        self._put(name, one, None)

    def adopt(self, name: str, one: Recipe, instead_of: str) -> None:
        """Put what a person wants in force, as `copy` returned it; on disk when this returns.

        `instead_of` is the digest of what the recipe's file says at that time.
        """
        self._put(name, one, instead_of)

    def instead_of(self, name: str) -> str | None:
        """Return the digest of what the file says that a person has put something else in force for, if so."""
        found = self._kept().adopted.get(name)
        return None if found is None else found.instead_of

    def made(self, content: str, like: Recipe) -> Recipe:
        """Return the recipe that `content` says, with the bundles of `like`; raise ConfigurationError if it is none."""
        try:
            found = recipe.from_content(content, lambda _: Path(), self._picture)
        except ValidationError as error:
            raise ConfigurationError(files.explain(error)) from error
        return _with(found, {camera: view.bundle for camera, view in like.views.items()})

    def known(self, name: str) -> Mapping[str, int]:
        """Return the contents that were ever in force under a name: digest -> version."""
        return self._kept().known.get(name, {})

    def choice(self) -> Choice | None:
        """Return what a person chose last."""
        return self._kept().choice

    def choose(self, choice: Choice) -> None:
        """Keep what a person chose; on disk when this returns."""
        self._write(self._kept().model_copy(update={"choice": choice}))

    def contents(self) -> Iterator[tuple[str, str]]:
        """Yield name and digest of every version that ever was in force here."""
        for name, known in self._kept().known.items():
            yield from ((name, digest) for digest in known)

    def recipe(self, digest: str) -> Recipe:
        """Return a version by its digest; its bundles have no paths."""
        return self._recipe(Version(digest=digest, bundles={}))

    def changed_ns(self) -> int:
        """Return when another version came into force for the last time, by the clock of the file system; 0: never."""
        return self._index.stat().st_mtime_ns if self._index.exists() else 0

    def kept_since(self, digest: str) -> datetime | None:
        """Return when a version was kept for the first time; None where it is not kept."""
        path = self._path(digest)
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else None

    def _bundles(self, version: Version, of_file: Recipe) -> dict[str, Path]:
        """Return where the bundles lie: where the file says, unless a version's view has another one than the file's.

        That one was released at the console, and lies where it was put then.
        """
        views = self.recipe(version.digest).views
        return {
            camera: view.bundle
            if camera not in views or views[camera].bundle_digest in {None, view.bundle_digest}
            else version.bundles.get(camera, view.bundle)
            for camera, view in of_file.views.items()
        }

    def _put(self, name: str, one: Recipe, instead_of: str | None) -> None:
        kept, version = self._kept(), self._keep(one)
        known = {**kept.known.get(name, {}), version.digest: one.version}
        adopted = {other: found for other, found in kept.adopted.items() if other != name}
        if instead_of is not None:
            adopted[name] = Adopted(version=version, instead_of=instead_of)
        in_force = {**kept.in_force, name: version}
        update = {"in_force": in_force, "known": {**kept.known, name: known}, "adopted": adopted}
        self._write(kept.model_copy(update=update))

    def _kept(self) -> _Kept:
        return files.read(self._index, _Kept) if self._index.exists() else _NOTHING

    def _write(self, kept: _Kept) -> None:
        self._folder.mkdir(exist_ok=True)
        files.write(self._index, kept.model_dump_json(indent=2).encode())

    def _keep(self, one: Recipe) -> Version:
        content = recipe.content(one)
        digest = recipe.digest(content)
        path = self._path(digest)
        if not path.exists():
            self._folder.mkdir(exist_ok=True)
            files.write(path, content.encode())
        return Version(digest=digest, bundles={camera: view.bundle for camera, view in one.views.items()})

    def _recipe(self, version: Version) -> Recipe:
        path = self._path(version.digest)
        try:
            content = path.read_text(encoding="utf-8")
            if recipe.digest(content) != version.digest:
                raise ConfigurationError(f"{path}: is not what was in force: the file was changed or is damaged")
            found = recipe.from_content(content, lambda _: Path(), self._picture)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path}: cannot be read: {error}") from error
        except ValidationError as error:
            raise ConfigurationError(f"{path}: this version of Andon cannot read it: {files.explain(error)}") from error
        return _with(found, version.bundles)

    def _picture(self, content: bytes) -> Path:
        path = self._folder / f"{hashlib.sha256(content).hexdigest()}.picture"
        if not path.exists() or path.read_bytes() != content:
            files.write(path, content)
        return path

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha256:')}.json"


def _with(one: Recipe, bundles: Mapping[str, Path]) -> Recipe:
    views = {
        camera: view.model_copy(update={"bundle": bundles.get(camera, Path())}) for camera, view in one.views.items()
    }
    return one.model_copy(update={"views": views})
