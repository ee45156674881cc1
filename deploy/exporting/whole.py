"""An export is whole or not there: it is written beside its place, and moved there when all of it is on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.errors import InputError, StoreError


@contextmanager
def whole(out: Path, only: str | None = None) -> Iterator[Path]:
    """Give a folder to write to; it becomes `out` when the `with` block ends well, and is removed when it does not.

    With `only`, `out` becomes the file of that name in it. Raise InputError where something is there already,
    StoreError where the disk does not take it (it is full, say).
    """
    partial = out.with_name(f"{out.name}.partial")
    try:
        if os.path.lexists(out):
            raise InputError(f"{out}: is there already: remove it, or name another --out")
        try:
            partial.mkdir()
        except FileExistsError:
            raise InputError(f"{partial}: another export is under way here, or was cut off: then remove it") from None
        except OSError as error:
            raise InputError(f"{out}: cannot be made: {error.strerror}") from error
        try:
            yield partial
            _sync(partial)
            if os.path.lexists(out):
                raise InputError(f"{out}: was made by somebody else meanwhile")
            (partial / only if only else partial).rename(out)
            _sync_file(out.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"{out}: {error.strerror or error}: nothing was exported") from error


def _sync(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in (*names, "."):
            _sync_file(Path(root, name))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
