"""What of a station lies in files: copied into a backup, and put back into a state folder.

Recipes are written as they count, whole and with paths of the backup's own, so that they mean the same wherever they
are put. Public keys belong: without them restored bundles are refused. Private keys do not: a backup is copied to many
places, whoever has the key can seal any bundle, and a new machine makes a key of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from config import files, recipe
from config.errors import ConfigurationError, InputError, StoreError
from config.home import Home
from config.recipe import Recipe
from config.station import Station
from deploy.backup import lessons
from deploy.backup.archive import Meter, Reader, Writer
from inference import keys
from storage.record import Position

STATION = "station.json"
PACKS = "images"  # the folder in the state folder where packs are put back
AUDIT = "audit.json"
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,60}")
_SEGMENT = re.compile(r"([0-9]{12,19})\.segment")
_LARGE_BYTES = 64 * 1024 * 1024


def copy_station(home: Home, station: Station, writer: Writer) -> list[str]:
    """Copy the station file, what its recipes name, and the public keys; return what was not there."""
    missing: list[str] = []
    names: dict[str, Path] = {}
    in_force = _in_force(home)
    for number, (name, path) in enumerate(station.recipes.items(), 1):
        member = f"recipes/{name if _PLAIN.fullmatch(name) else f'recipe-{number}'}.json"
        names[name] = Path(member)
        try:
            found = _copy_recipe(in_force.get(name) or recipe.read(path), writer)
        except ConfigurationError as error:
            missing.append(f"recipe {name!r}: {error}")
        else:
            writer.add(member, found.model_dump_json(indent=2).encode())
    moved = station.model_copy(update={"recipes": names})
    writer.add(STATION, moved.model_dump_json(indent=2).encode())
    for key in sorted(keys.default_folder().glob("*.pub")):
        content = key.read_bytes()
        writer.add(f"keys/{_named(key, content)}", content)
    if (home.path / AUDIT).exists():
        writer.add(AUDIT, (home.path / AUDIT).read_bytes())
    return missing


def _in_force(home: Home) -> dict[str, Recipe]:
    """Return what people have put in force instead of what the files say, as far as it can be read."""
    try:
        return home.read_recipes()
    except ConfigurationError:
        return {}  # then each file is read by itself, and told of


def copy_journal(home: Home, writer: Writer, meter: Meter) -> None:
    """Copy the journal as it is on disk now. A segment that is gone meanwhile is in the database, whole."""
    done = 0
    for path in sorted(home.journal.rglob("*")):
        name = path.relative_to(home.journal)
        if name == Path("lock") or not all(_PLAIN.fullmatch(part) for part in name.parts) or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size > _LARGE_BYTES:
                    writer.add_file(f"journal/{name}", file)
                else:
                    writer.add_packed(f"journal/{name}", file.read())
                done += file.tell()
        except FileNotFoundError:
            continue
        meter.at(done)


def journal_bytes(home: Home) -> int:
    """Return how much the journal takes now."""
    sizes = 0
    for path in home.journal.rglob("*"):
        try:
            sizes += path.lstat().st_size
        except FileNotFoundError:
            continue
    return sizes


def put_back(reader: Reader, folder: Path, home: Path) -> None:
    """Write all files of a backup into `folder`, which is to become the state folder `home`.

    Raise InputError for what no backup of ours holds, StoreError where the disk does not take it.
    """
    for member, place in lessons.found_in(reader):
        _write(folder / place, reader.pieces(member))
    for name in reader.manifest.members:
        top, _, rest = name.partition("/")
        if name == STATION:
            station = _at_home(reader, home)
            _write(folder / STATION, iter([station.model_dump_json(indent=2).encode()]))
            if station.storage.images.type == "folder":
                (folder / PACKS).mkdir(exist_ok=True)
        elif top == "journal" and rest:
            _write(folder / "journal" / rest.removesuffix(".gz"), _unpacked(reader, name))
        elif top == "packs" and rest:
            _write(folder / PACKS / rest, reader.pieces(name), 0o640)
        elif name == AUDIT or (top in {"recipes", "bundles", "rois"} and rest):
            _write(folder / name, reader.pieces(name))
        elif top not in {"database", "keys", lessons.FOLDER}:
            raise InputError(f"{reader.path}: {name} is nothing that a backup of Andon holds")


def settle_journal(folder: Path, cursor: Position | None) -> None:
    """Leave in a journal that was put back only what the database, which is at `cursor`, may not have yet.

    The journal was copied before the database, which may be segments ahead of it. Whatever is journalled from now on
    must come after both, or it would be taken for stored already.
    """
    sizes = {int(found[1]): path for path in folder.iterdir() if (found := _SEGMENT.fullmatch(path.name))}
    if cursor is None:
        return
    for number, path in sizes.items():
        if (number, path.stat().st_size) <= (cursor.segment, cursor.offset):
            path.unlink()
    if not any(number >= cursor.segment for number in sizes if sizes[number].exists()):
        _write(folder / f"{cursor.segment + 1:012}.segment", iter(()))


def trust(reader: Reader) -> list[str]:
    """Put the backup's public keys beside this machine's own; return those that were not there yet."""
    folder = keys.default_folder()
    present = {path.read_bytes() for path in folder.glob("*.pub")}
    added = []
    for name in reader.names("keys"):
        content = reader.read(name)
        if content in present:
            continue
        # this machine's own key keeps its name, which another machine's had there
        path = folder / f"{Path(name).stem}-{hashlib.sha256(content).hexdigest()[:8]}.pub"
        _write(path, iter([content]))
        added.append(str(path))
    return added


def _copy_recipe(found: Recipe, writer: Writer) -> Recipe:
    def bundle(path: Path) -> Path:
        return _copy_named("bundles", path, writer)

    def picture(path: Path) -> Path:
        return _copy_named("rois", path, writer)

    return recipe.moved(found, bundle, picture)


def _copy_named(folder: str, path: Path, writer: Writer) -> Path:
    """Copy a file under a name that its content gives, once; return where a recipe finds it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        stem = path.stem if _PLAIN.fullmatch(path.stem) else folder
        suffix = path.suffix if _PLAIN.fullmatch(path.suffix[1:]) else ""
        member = f"{folder}/{stem}-{digest[:12]}{suffix}"
        file.seek(0)
        if not writer.has(member):
            writer.add_file(member, file)
    return Path("..") / member


def _named(path: Path, content: bytes) -> str:
    return path.name if _PLAIN.fullmatch(path.name) else f"{hashlib.sha256(content).hexdigest()[:12]}.pub"


def _at_home(reader: Reader, home: Path) -> Station:
    try:
        station = Station.model_validate_json(reader.read(STATION))
    except ValidationError as error:
        raise InputError(f"{reader.path}: {STATION}: {files.explain(error)}") from error
    moved = {name: home / path for name, path in station.recipes.items()}
    images = station.storage.images
    if images.type == "folder":
        images = images.model_copy(update={"options": {**images.options, "path": str(home / PACKS)}})
    storage = station.storage.model_copy(update={"images": images})
    return station.model_copy(update={"recipes": moved, "storage": storage})


def _unpacked(reader: Reader, name: str) -> Iterator[bytes]:
    if name.endswith(".gz"):
        yield reader.read(name)
    else:
        yield from reader.pieces(name)


def _write(path: Path, pieces: Iterator[bytes], mode: int = 0o644) -> None:
    """Write a new file, on disk when this returns."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode), "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
