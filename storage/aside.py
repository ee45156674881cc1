"""What the journal keeps aside for people to look at: `refused/` by PostgreSQL and `damaged/` bytes.

Bounded, so that it never takes the room of verdicts: beyond the bound the oldest is removed, counted and logged.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from config import files
from config.errors import StoreError
from config.log import Condition, logger
from storage.record import MOST_SEGMENTS, Position

_REMEMBERED = 100_000  # more than a transaction has records
_KINDS = ("refused", "damaged")
_NAME = re.compile(r"([0-9]{12})-[0-9]{10,}(\.[a-z]+)?")


class Aside:
    """Both folders; any thread may keep something or ask for the size."""

    def __init__(self, folder: Path, limit_bytes: int, counters: Counter[str]) -> None:
        """Take up what `folder` has from before; raise OSError if the disk does not tell."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._guard = threading.RLock()  # the writer reads ahead in a second thread: both may keep something
        self._full = Condition("kept_aside_removed", counters)
        self._sizes: dict[Path, int] = {}  # oldest first
        self._known: dict[tuple[str, Position], None] = {}  # dealt with since the start, kept until now or not
        for path in sorted(self._found(), key=lambda path: path.name):
            self._sizes[path] = path.stat().st_size
        self.size_bytes = sum(self._sizes.values())
        segments = (int(path.name.partition("-")[0]) for path in self._sizes)
        self.last_segment = max((number for number in segments if number < MOST_SEGMENTS), default=0)

    def keep(self, kind: str, start: Position, contents: Mapping[str, bytes]) -> bool:
        """Keep `contents` by suffix, the one that matters last; False if that was done before. Raise StoreError.

        What is larger than the bound is cut.
        """
        with self._guard:
            return self._keep(kind, start, contents)

    def note(self, kind: str, start: Position) -> bool:
        """Remember that what lies at `start` is dealt with, as a transaction may come again; False if it was."""
        with self._guard:
            if (kind, start) in self._known:
                return False
            self._known[kind, start] = None
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
            return True

    def _keep(self, kind: str, start: Position, contents: Mapping[str, bytes]) -> bool:
        folder = self._folder / kind
        paths = {folder / f"{start.segment:012}-{start.offset:010}{suffix}": suffix for suffix in contents}
        if (kind, start) in self._known or list(paths)[-1] in self._sizes:
            return False
        if not self._make_room(sum(map(len, contents.values()))):
            self._full.end()
        room = self._limit_bytes
        written: dict[Path, int] = {}
        try:
            folder.mkdir(exist_ok=True)
            for path, suffix in paths.items():
                content = contents[suffix]
                if len(content) > room:
                    logger().warning("kept aside, but cut", file=f"{kind}/{path.name}", bytes=len(content), kept=room)
                files.write(path, content[:room])
                written[path] = min(len(content), room)
                room -= written[path]
            sync_folder(folder)
        except OSError as error:
            raise StoreError(f"{folder}: nothing can be kept there: {error.strerror}") from error
        for path, size in written.items():
            self.size_bytes += size - self._sizes.pop(path, 0)
            self._sizes[path] = size
        self.note(kind, start)
        return True

    def _found(self) -> list[Path]:
        found = []
        for kind in _KINDS:
            folder = self._folder / kind
            for path in folder.iterdir() if folder.exists() else ():
                if path.name.startswith("."):
                    path.unlink()  # of a process that was killed while it wrote
                elif _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    found.append(path)
        return found

    def _make_room(self, wanted_bytes: int) -> bool:
        """Remove the oldest until there is room; tell whether that was necessary."""
        removed = False
        for path, size in list(self._sizes.items()):
            if self.size_bytes + wanted_bytes <= self._limit_bytes:
                break
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"{path}: cannot be removed: {error.strerror}") from error
            del self._sizes[path]
            self.size_bytes -= size
            self._full.occur(first=f"{path.parent.name}/{path.name}", limit_bytes=self._limit_bytes)
            removed = True
        return removed


def sync_folder(folder: Path) -> None:
    """Make names in `folder` last; raise OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
