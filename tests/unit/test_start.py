"""What a process does before it has anything to do."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from config.start import importing


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_nobody_looks_for_garbage_among_imports_and_everybody_does_again_afterwards():
    with importing():
        assert not gc.isenabled()
        made = [[number] for number in range(100)]
    assert gc.isenabled()
    assert gc.get_freeze_count() > len(made), "what was made is not looked through again"


def test_an_import_that_fails_leaves_nothing_behind():
    with pytest.raises(ImportError), importing():
        raise ImportError("no such library")
    assert gc.isenabled()
