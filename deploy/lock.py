"""The lock on a state folder: one station at a time, and a second start is told who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Self

from config.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


RESTORING = "restoring"  # the folder in a state folder where `andon restore` makes things ready


class HomeLock:
    """Hold `home/lock` for the time of a `with` block; the kernel releases it with the process."""

    def __init__(self, folder: Path, *, restores: bool = False) -> None:
        """Name the state folder; `restores`: whoever takes the lock ends a restore that was interrupted."""
        self._path = folder / "lock"
        self._restores = restores
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the lock; raise ConfigurationError that names the holder, or a restore that is not finished."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._read_holder()
            os.close(self._descriptor)
            raise ConfigurationError(
                f"{self._path.parent}: a station runs here already: {holder}; "
                "stop it, or give this one a state folder of its own with --home"
            ) from None
        if not self._restores and (self._path.parent / RESTORING).exists():
            os.close(self._descriptor)
            raise ConfigurationError(
                f"{self._path.parent}: a restore into this state folder was interrupted: run `andon restore` again"
            )
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def tell(self, **facts: object) -> None:
        """Write down who holds the lock, for the one who comes second."""
        text = json.dumps({"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), **facts})
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def _read_holder(self) -> str:
        try:
            facts = json.loads(os.pread(self._descriptor, 4096, 0))
        except ValueError:
            return "its process has not said more yet"
        return ", ".join(f"{name} {value}" for name, value in facts.items())
