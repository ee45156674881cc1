"""The six rooms have generic names: make sure that all come from one place before anything else is imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from config.errors import ConfigurationError

ROOMS = ("config", "ingest", "inference", "decision", "storage", "deploy")


def check_rooms() -> Path:
    """Return the folder that holds the rooms; raise ConfigurationError that names a rival of one of them."""
    home = Path(__file__).resolve().parent.parent
    for room in ROOMS:
        spec = find_spec(room)
        origin = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if origin != home / room:
            raise ConfigurationError(
                f"package {room!r} comes from {origin or 'nowhere'}, not from {home}: another distribution "
                "has the same name; install Andon into an environment of its own (python -m venv)"
            )
    return home
