"""When the simulated belt was held: told by its PLC, followed by everybody else on the line."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from config import files
from config.schedule import Hold


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    run_id: str
    holds: tuple[Hold, ...]


class Holds:
    """The holds of one run, in a file of the runtime folder.

    Whoever holds the belt says so some time before it stands, and before it moves again, so that all the others have
    looked by then.
    """

    def __init__(self, runtime: Path, run_id: str) -> None:
        """Name the folder and the run."""
        self._path = runtime / "holds.json"
        self._run_id = run_id
        self._seen: tuple[int, int] | None = None  # time and inode of the file that was read
        self._holds: tuple[Hold, ...] = ()

    def read(self) -> tuple[Hold, ...]:
        """Return the holds until now, in order; where nothing has changed that is one look at the file's time."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return ()
        if (found.st_mtime_ns, found.st_ino) != self._seen:
            kept = files.read(self._path, _Kept)
            self._holds = kept.holds if kept.run_id == self._run_id else ()
            self._seen = found.st_mtime_ns, found.st_ino
        return self._holds

    def write(self, holds: tuple[Hold, ...]) -> None:
        """Tell the others."""
        files.write(self._path, _Kept(run_id=self._run_id, holds=holds).model_dump_json().encode())
