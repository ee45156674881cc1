"""What learning needs and a bare station lacks, fetched while it runs because somebody at the console wants it.

home/lessons/fetch.json   who wants it, and how far it is

The console writes what is wanted, the teacher (`deploy/teacher`) what becomes of it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from config import files
from config.errors import ConfigurationError

LEARNING = "train"


class Step(StrEnum):
    """How far a fetch is."""

    WANTED = "WANTED"
    FINDING = "FINDING"  # which versions of what
    DOWNLOADING = "DOWNLOADING"
    INSTALLING = "INSTALLING"
    DONE = "DONE"
    FAILED = "FAILED"  # `detail` says why


UNDER_WAY = frozenset({Step.WANTED, Step.FINDING, Step.DOWNLOADING, Step.INSTALLING})


class Fetch(BaseModel):
    """One fetch of what learning needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    by: str
    at: datetime
    step: Step = Step.WANTED
    file: str = ""  # that is on its way
    done_bytes: int = 0  # of it
    total_bytes: int = 0
    detail: str = ""


class Fetching:
    """What is told of the fetch of one station; there is one at a time."""

    def __init__(self, home: Path) -> None:
        """Name the state folder."""
        self.path = home / "lessons" / "fetch.json"

    def read(self) -> Fetch | None:
        """Return the latest fetch; None where nobody ever wanted one."""
        try:
            return files.read(self.path, Fetch) if self.path.exists() else None
        except ConfigurationError:  # damaged: whoever wants it again writes it anew
            return None

    def tell(self, fetch: Fetch) -> None:
        """Say how far it is."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files.write(self.path, fetch.model_dump_json().encode())


def requirements(extra: str) -> list[str]:
    """Return what an extra of the installed Andon asks for, as pip takes it: `torch==2.13.0`."""
    found = []
    for line in metadata.requires("andon") or ():
        requirement, _, marker = line.partition(";")
        if marker.replace("'", '"').strip() == f'extra == "{extra}"':
            found.append(requirement.strip())
    return found
