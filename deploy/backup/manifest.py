"""What a backup says of itself: the header at its beginning, the manifest at its end."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from deploy.backup.tables import Table

FORMAT = 1
HEADER, MANIFEST = "andon-backup.json", "manifest.json"  # their members


class Header(BaseModel):
    """What a backup says of itself, first of all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    backup: str  # its identity
    made_at: datetime
    station: str
    revision: str  # of the database's schema
    andon: str


class Member(BaseModel):
    """A file in the backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: int
    sha256: str


class Manifest(BaseModel):
    """What a backup holds, last of all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tables: tuple[Table, ...]
    sequences: dict[str, int]
    left_out: tuple[str, ...]  # tables of the database that are not Andon's
    missing: tuple[str, ...]  # files that were not there to be copied
    images: str  # where image bytes are: in the database, in packs of this backup, or in a store elsewhere
    members: dict[str, Member] = {}
