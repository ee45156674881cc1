"""Golden frames of the bundles that parts were judged by: small copies, kept in memory."""

from __future__ import annotations

import threading
import zipfile
from collections import OrderedDict

from config.errors import StoreError
from storage.console import thumbnail
from storage.library import Library

MOST = 16  # frames of one bundle
_SIDE_PX = 1024
_KEPT = 8  # bundles


class Golden:
    """Golden frames by the bundle's digest, read once from the library; any thread may ask."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._known: OrderedDict[str, list[bytes]] = OrderedDict()
        self._reading = threading.Lock()

    def frames(self, digest: str) -> list[bytes]:
        """Return small copies of a bundle's golden frames; raise InputError where the library does not have it."""
        with self._reading:
            if digest not in self._known:
                self._known[digest] = self._read(digest)
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(digest)
            return self._known[digest]

    def _read(self, digest: str) -> list[bytes]:
        path = self._library.bundle(digest)
        try:
            with zipfile.ZipFile(path) as bundle:
                names = [name for name in bundle.namelist() if name.startswith("golden/")]
                return [thumbnail.shrink(bundle.read(name), _SIDE_PX) for name in names[:MOST]]
        except (OSError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path}: its golden frames cannot be read: {error}") from error
