"""How far a long piece of work has come, told to whoever asked for it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the stage's name, how much of it is done and how much there is; `done` reaches `total`."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note."""


def unheard(stage: str, done: int, total: int) -> None:
    """Take no note: the default where nobody listens."""
