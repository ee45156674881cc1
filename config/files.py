"""Files that people write: TOML (or JSON) read whole, validated whole, errors that name file, line and field."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from config.errors import ConfigurationError

Model = TypeVar("Model", bound=BaseModel)

_MOST_BYTES = 16_000_000  # nobody writes so much: a device, or a file taken for another


def explain(error: ValidationError) -> str:
    """Return every fault of a validation error as `field: what is wrong (got …)`, joined by semicolons."""
    faults = []
    for fault in error.errors(include_url=False):
        where = ".".join(str(step) for step in fault["loc"]) or "(whole)"
        got = f" (got {fault['input']!r:.80})" if fault["type"] not in {"missing", "extra_forbidden"} else ""
        message = "unknown field" if fault["type"] == "extra_forbidden" else fault["msg"]
        faults.append(f"{where}: {message}{got}")
    return "; ".join(faults)


def read(path: Path, model: type[Model]) -> Model:
    """Read a TOML or JSON file as `model`; raise ConfigurationError that names the file and the place in it."""
    text = _text(path)
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: no TOML, no JSON, or a number of thousands of digits
        raise ConfigurationError(f"{path}: {error}") from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {explain(error)}") from error


def must_exist(path: Path, where: str) -> None:
    """Raise ConfigurationError, with `where` it was named, if there is no such file or it cannot be looked at."""
    try:
        found = path.is_file()
    except OSError as error:  # its name is too long, or a folder above it may not be entered
        raise ConfigurationError(f"{where}: {str(path)!r:.200}: {error.strerror}") from error
    if not found:
        raise ConfigurationError(f"{where}: no such file: {path}")


def _text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # who opens a pipe waits for a writer, who reads a device never ends
            raise ConfigurationError(f"{path}: not a file but a folder, a pipe or a device")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ConfigurationError(f"{path}: longer than {_MOST_BYTES / 1e6:.0f} MB: not a file of this kind")
        return content.decode("utf-8-sig")  # editors of Windows put a mark before the text
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a name with a NUL in it
        raise ConfigurationError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def write(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, whole or not at all, and on disk when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
