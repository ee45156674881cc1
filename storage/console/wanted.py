"""An export that somebody wants of the console: what it is, how far it is, and who writes it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from storage.query.filters import Filter


class Form(StrEnum):
    """How parts are written; the names are those of `andon export --as`."""

    PARQUET = "parquet"
    CSV = "csv"
    FOLDER = "folder"
    COCO = "coco"
    MVTEC = "mvtec"


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wanted(_Answer):
    """What is to be written: the parts that `chosen` means as `form`, or what people picked of `product`."""

    form: Form = Form.MVTEC
    chosen: Filter = Filter()
    product: str | None = None  # its picks, in the layout of MVTec AD
    camera: str | None = None  # of the picks


class Standing(_Answer):
    """How far an export is."""

    done: int = Field(default=0, description="parts, or picks")
    total: int | None = Field(default=None, description="None: not known yet")
    more: bool = Field(default=False, description="there may be more than `total`")
    counted: Mapping[str, int] = Field(default={}, description="what was written and what could not be, once it ended")
    ended: bool = False
    fault: str | None = Field(default=None, description="why there is nothing")


class Writing(Protocol):
    """An export that is being written."""

    @property
    def standing(self) -> Standing:
        """How far it is."""

    def stop(self) -> None:
        """End it, and return when nothing writes any more."""


class Exporting(Protocol):
    """The formats of `andon export`, which this room does not import: whoever composes the console hands them in."""

    def begin(self, wanted: Wanted, out: Path, limit_bytes: int) -> Writing:
        """Begin to write the folder `out`; its pictures may take `limit_bytes`."""
