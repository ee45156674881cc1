"""The start of a process, before it has anything to do."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import much in a `with` block: a fifth sooner, for nobody looks for garbage among what is only being made.

    Modules never become garbage, so it is not looked for there afterwards either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
