"""A bundle is opened beside the line: in a thread, proven and warmed as at the start, while others judge."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from config.errors import AndonError
from config.log import logger
from config.mailbox import Mailbox
from inference.batching import Costs
from inference.engine import Engine


@dataclass(frozen=True)
class Loaded:
    """A bundle that can be run, and what its batches take."""

    engine: Engine
    costs: Costs  # as measured; a size of frame has its own


@dataclass(frozen=True)
class _Failed:
    digest: str
    why: str


class Opening:
    """Open one bundle at a time; all methods are for the loop's thread and none waits."""

    def __init__(self, load: Callable[[Path], Loaded]) -> None:
        """Name what opens, proves and warms the bundle of a file; it is called in another thread."""
        self._load = load
        self._news: Mailbox[Loaded | _Failed] = Mailbox()
        self.digest: str | None = None  # that is being opened
        self.refused: dict[str, str] = {}  # by digest, why

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is news."""
        return self._news.fileno()

    def begin(self, digest: str, path: Path | None) -> None:
        """Begin to open a bundle; `path` is None where it is not on this machine."""
        if path is None:
            self._refuse(digest, f"bundle {digest} is not here: put its file into HOME/bundles of this machine")
            return
        self.digest = digest
        threading.Thread(target=self._open, args=(digest, path), name="bundle", daemon=True).start()

    def news(self) -> list[Loaded]:
        """Return what has been opened since the last call."""
        found = []
        for news in self._news.drain():
            self.digest = None
            if isinstance(news, _Failed):
                self._refuse(news.digest, news.why)
            else:
                found.append(news)
        return found

    def forget(self) -> None:
        """Try again what was refused, should it be wanted: its file may be there by now."""
        self.refused = {}

    def _refuse(self, digest: str, why: str) -> None:
        self.refused = {**self.refused, digest: why}
        logger().warning("bundle refused", digest=digest, why=why)

    def _open(self, digest: str, path: Path) -> None:
        try:
            loaded = self._load(path)
        except (AndonError, OSError, MemoryError) as error:
            self._news.put(_Failed(digest, str(error) or type(error).__name__))
            return
        if loaded.engine.digest != digest:
            self._news.put(_Failed(digest, f"{path}: is {loaded.engine.digest}, wanted is {digest}"))
            return
        self._news.put(loaded)
