"""Files that people write: TOML (or JSON) read whole, validated whole, errors that name file, line and field."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from config.errors import ConfigurationError

Model = TypeVar("Model", bound=BaseModel)


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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {explain(error)}") from error


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
