"""The registrar: a thread of the storage process that puts recipes into the library which came into force meanwhile.

The decision stage keeps each version in the state folder before it judges by it (`config/versions.py`), and never
removes one: whatever is not in the library yet is put there as soon as PostgreSQL answers.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import URL

from config.errors import ConfigurationError, StoreError
from config.log import Condition, logger
from config.versions import Versions
from storage.library import Library

_WHO = "decision"
_LOOK_S = 1.0


class Registrar(Thread):
    """Keep the library at `url` complete; `home` is the state folder."""

    def __init__(self, url: URL, home: Path, versions: Versions, counters: Counter[str]) -> None:
        super().__init__(name="registrar", daemon=True)
        self._library = Library(url, home)
        self._versions = versions
        self._known: set[str] = set()
        self._failed = Condition("not_registered", counters)
        self._stopping = Event()

    def stop(self, timeout_s: float) -> None:
        """End; what is not registered by then will be by the next process."""
        self._stopping.set()
        self.join(timeout_s)

    def run(self) -> None:
        """Look for new versions."""
        while not self._stopping.wait(_LOOK_S):
            try:
                self._register()
            except (StoreError, ConfigurationError) as error:
                self._failed.occur(error=str(error))
            else:
                self._failed.end()

    def _register(self) -> None:
        new = {digest: name for name, digest in self._versions.contents() if digest not in self._known}
        if not new:
            return
        for digest in self._library.lacking(new):
            for warning in self._library.register(_WHO, {new[digest]: self._versions.recipe(digest)}, {}):
                logger().warning(warning)
        self._known.update(new)
