"""What is wanted of cameras beyond what the recipes keep, for a while: every pixel of some parts.

The teacher writes them, the cameras read them: `wishes.json` in the runtime folder, in memory. A wish that nobody
renews ends by itself, so that a dead teacher leaves no camera at work for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from config import files
from config.messages import Judgement
from config.recipe import samples


class Wish(BaseModel):
    """Exact pixels of `most` parts of one recipe, with these verdicts, of one in `every_parts`; until `until_ns`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1, max_length=64)  # whose wish it is
    camera: str
    recipe: str
    verdicts: frozenset[Judgement] = Field(min_length=1)
    every_parts: int = Field(default=1, ge=1)
    most: int = Field(ge=1)
    until_ns: int  # monotonic

    def means(self, recipe: str, verdict: Judgement, sequence: int) -> bool:
        """Tell whether a part is among those that are wanted: always the same ones, evenly spread."""
        return recipe == self.recipe and verdict in self.verdicts and samples(sequence, self.every_parts)


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    wishes: tuple[Wish, ...]


class Wishes:
    """The wishes of one station."""

    def __init__(self, runtime: Path) -> None:
        """Name the runtime folder."""
        self._path = runtime / "wishes.json"
        self._seen: tuple[int, int] | None = None
        self._wishes: tuple[Wish, ...] = ()

    def read(self) -> tuple[Wish, ...]:
        """Return them; where nothing has changed that is one look at the file's time.

        Raise ConfigurationError for a file that is damaged.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return ()
        if (found.st_mtime_ns, found.st_ino) != self._seen:
            self._wishes = files.read(self._path, _Kept).wishes
            self._seen = found.st_mtime_ns, found.st_ino
        return self._wishes

    def write(self, wishes: Sequence[Wish]) -> None:
        """Tell the cameras; raise OSError where that cannot be."""
        if wishes:
            files.write(self._path, _Kept(wishes=tuple(wishes)).model_dump_json().encode())
        else:
            self._path.unlink(missing_ok=True)
