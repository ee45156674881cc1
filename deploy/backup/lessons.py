"""Lessons of Teach in a backup: their images, what was found and fitted.

    lessons/ID/files.json     the lesson's files, by their paths in its folder (classes are named in any script)
    lessons/ID/000000 ...     what each of them holds, by its place in that list

What a lesson says of itself is copied first: what is in its folder beyond that is only newer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from config import files
from config.errors import InputError
from config.home import Home
from config.lessons import Lessons, State
from deploy.backup.archive import Meter, Reader, Writer

FOLDER = "lessons"
_INDEX = "files.json"
_FIRST = "lesson.json"
_HOLDS = ("images", "out")
_WRITTEN = {State.CHECKING, State.FITTING}  # what is found is still being written; without its process it is void
_Paths = TypeAdapter(list[str])


def size_bytes(home: Home) -> int:
    """Return how much the lessons take now."""
    return sum(path.stat().st_size for _, paths in _folders(home) for path in paths if path.exists())


def copy(home: Home, writer: Writer, meter: Meter) -> None:
    """Copy the lessons as they are on disk now; a file that is gone meanwhile is not among them."""
    done = 0
    for folder, files_of in _folders(home):
        paths: list[str] = []
        for path in files_of:
            try:
                with path.open("rb") as file:
                    writer.add_file(f"{FOLDER}/{folder.name}/{len(paths):06}", file)
                    done += os.fstat(file.fileno()).st_size
            except FileNotFoundError:
                continue
            paths.append(path.relative_to(folder).as_posix())
            meter.at(done)
        if paths:
            writer.add(f"{FOLDER}/{folder.name}/{_INDEX}", json.dumps(paths).encode())


def found_in(reader: Reader) -> Iterator[tuple[str, str]]:
    """Yield each file of a backup's lessons: the member, and its path in the state folder.

    Raise InputError for a path that would lie anywhere but in a lesson's folder.
    """
    for index in reader.names(FOLDER):
        lesson, _, name = index.removeprefix(f"{FOLDER}/").partition("/")
        if name != _INDEX:
            continue
        try:
            paths = _Paths.validate_json(reader.read(index))
        except ValidationError as error:
            raise InputError(f"{reader.path}: {index}: {files.explain(error)}") from error
        for number, said in enumerate(paths):
            path = PurePosixPath(said)
            inside = said == _FIRST or (len(path.parts) > 1 and path.parts[0] in _HOLDS)
            if not inside or ".." in path.parts or "\0" in said or str(path) != said:
                raise InputError(f"{reader.path}: {index}: {said!r:.200} is no file of a lesson")
            yield f"{FOLDER}/{lesson}/{number:06}", f"{FOLDER}/{lesson}/{said}"


def _folders(home: Home) -> list[tuple[Path, list[Path]]]:
    """Return each lesson's folder and its files, what it says of itself first; nothing that is being written."""
    lessons, found = Lessons(home.path, home.runtime), []
    for lesson in lessons.all():
        folder = lessons.path(lesson.id)
        holds = ("images",) if lesson.state in _WRITTEN else _HOLDS
        below = (path for name in holds for path in sorted((folder / name).rglob("*")))
        plain = (path for path in below if path.is_file() and not path.is_symlink() and not path.name.startswith("."))
        found.append((folder, [folder / _FIRST, *plain]))
    return found
