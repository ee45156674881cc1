"""The library: every recipe and bundle that parts were judged by, whole, named by its digest.

A verdict names the digest of its recipe and each of its views that of its bundle: with the pixels, all that replay
needs is in the database. What a station judges by is put here before it judges; nothing is ever changed or doubled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError
from sqlalchemy import URL, Connection, create_engine, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.pool import NullPool

from config import files, recipe
from config.errors import ConfigurationError, InputError, StoreError
from config.recipe import Recipe
from storage import audit, schema
from storage.failures import translated
from storage.query.answers import PartLine

_CONNECT = {"connect_timeout": 3, "application_name": "andon library", "options": "-c statement_timeout=60000"}


class BundleFile(NamedTuple):
    """A bundle to be registered: its name and where it lies."""

    name: str
    path: Path


class Library:
    """Recipes and bundles in the database at `url`; files of them are made in the folder `library` of `folder`.

    Every method raises StoreError where the database does not answer.
    """

    def __init__(self, url: URL | str, folder: Path) -> None:
        """Remember where things are; each call connects. `folder` is the state folder, with the audit's anchor."""
        self._engine = create_engine(url, poolclass=NullPool, connect_args=_CONNECT)
        self._anchor = audit.Anchor(folder)
        self._folder = folder / "library"

    def register(self, who: str, recipes: Mapping[str, Recipe], bundles: Mapping[str, BundleFile]) -> list[str]:
        """Put in what is not there yet: recipes by name, bundles by digest; return warnings for people.

        A recipe's name and version may stand for several contents (of two stations, or edited in place): each has its
        own digest, which the verdict carries, but a person is misled by it.
        """
        warnings: list[str] = []
        with translated(), self._engine.connect() as connection:
            with connection.begin():
                added = [("recipe", name, after) for name, after in _add_recipes(connection, recipes, warnings)]
                added += [("bundle", name, after) for name, after in _add_bundles(connection, bundles)]
                head = None
                for kind, name, after in added:  # the audit's lock is held from here to the commit
                    head = audit.append(connection, who, f"{kind}.registered", name, None, after)
            if head is not None:
                self._anchor.note(connection, head)
        return warnings

    def lacking(self, digests: Collection[str]) -> set[str]:
        """Return those of these recipes that are not there yet."""
        with translated(), self._engine.connect() as connection:
            there = connection.execute(select(schema.recipe.c.digest).where(schema.recipe.c.digest.in_(digests)))
            return set(digests).difference(there.scalars())

    def recipe(self, digest: str) -> Recipe:
        """Return a recipe as it was, its pictures as files; raise InputError where there is none of this digest.

        A view's `bundle` is the path where `bundle` puts the one that it pins, or an empty one where it pins none.
        """
        with translated(), self._engine.connect() as connection:
            found = connection.execute(
                select(schema.recipe.c.content).where(schema.recipe.c.digest == digest)
            ).scalar_one_or_none()
        if found is None:
            raise InputError(f"recipe {digest}: is not in the library")
        if recipe.digest(found) != digest:
            raise StoreError(f"recipe {digest}: the library holds another content under this digest: it was changed")

        def bundle(pinned: str | None) -> Path:
            return self._path(pinned) if pinned else Path()

        def picture(content: bytes) -> Path:
            return self._write(f"{hashlib.sha256(content).hexdigest()}.picture", content)

        try:
            return recipe.from_content(found, bundle, picture)
        except ValidationError as error:
            raise InputError(
                f"recipe {digest}: this version of Andon cannot read it: {files.explain(error)}"
            ) from error

    def recipes_of(self, parts: Sequence[PartLine]) -> dict[str, str | None]:
        """Return the digest of the recipe that each of these parts was judged by; None where the station knew none."""
        if not parts:
            return {}
        times = [part.trigger_time for part in parts]
        row = schema.verdict.c
        statement = select(row.part_id, row.recipe_digest).where(
            row.part_id.in_([part.part_id for part in parts]), row.trigger_time.between(min(times), max(times))
        )
        with translated(), self._engine.connect() as connection:
            return {row.part_id: row.recipe_digest for row in connection.execute(statement)}

    def bundle(self, digest: str) -> Path:
        """Return a file with a bundle's bytes; raise InputError where there is none of this digest.

        Whoever opens the bundle verifies seal, signature and digest, as of every bundle.
        """
        with translated(), self._engine.connect() as connection:
            found = connection.execute(
                select(schema.bundle.c.content).where(schema.bundle.c.digest == digest)
            ).scalar_one_or_none()
        if found is None:
            raise InputError(f"bundle {digest}: is not in the library")
        return self._write(self._path(digest).name, bytes(found))

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha256:')}.andon"

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            files.write(path, content)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
        return path


def _add_recipes(
    connection: Connection, recipes: Mapping[str, Recipe], warnings: list[str]
) -> Iterator[tuple[str, dict[str, object]]]:
    table = schema.recipe
    for name, one in sorted(recipes.items()):
        content = recipe.content(one)
        digest = recipe.digest(content)
        values = {"digest": digest, "name": name, "version": one.version, "product": one.product, "content": content}
        if not _insert(connection, values, into="recipe"):
            continue
        yield name, {"digest": digest, "version": one.version, "product": one.product}
        same = (table.c.name == name, table.c.version == one.version, table.c.digest != digest)
        others = connection.execute(select(table.c.digest).where(*same)).scalars().all()
        if others:
            warnings.append(
                f"recipe {name!r} version {one.version} has had other contents ({len(others)}): raise its version "
                f"when you change it; this one is {digest[:19]}"
            )


def _add_bundles(connection: Connection, bundles: Mapping[str, BundleFile]) -> Iterator[tuple[str, dict[str, object]]]:
    table = schema.bundle
    known = set(connection.execute(select(table.c.digest).where(table.c.digest.in_(bundles))).scalars())
    for digest, (name, path) in sorted(bundles.items()):
        if digest in known:
            continue
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
        values = {"digest": digest, "name": name, "size_bytes": len(content), "content": content}
        if _insert(connection, values, into="bundle"):
            yield name, {"digest": digest, "size_bytes": len(content)}


def _insert(connection: Connection, values: Mapping[str, object], into: str) -> bool:
    """Insert a row unless its digest is there, perhaps by another station at this moment; tell whether it was not."""
    table = schema.metadata.tables[into]
    statement = insert(table).values(values).on_conflict_do_nothing().returning(table.c.digest)
    return connection.execute(statement).first() is not None
