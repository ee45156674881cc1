"""Parts, views and defects as rows; the columns are the fields of the query service's answers."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self, Union, get_args, get_origin

from pydantic import BaseModel

from deploy.exporting.source import Item, Source, file_name, picture_stem
from storage.query.answers import PartLine, Region, ViewDetail

Cell = str | int | float | bool | datetime | None
Kind = type[str] | type[int] | type[float] | type[bool] | type[datetime]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    kind: Kind


class Table(Protocol):
    """A file that takes rows within a `with` block; it is finished when that ends well, else only closed."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish the file, or close what there is of it."""

    def write(self, row: Sequence[Cell]) -> None:
        """Add a row."""


Open = Callable[[Path, Sequence[Column]], Table]


def columns_of(model: type[BaseModel]) -> list[Column]:
    """Return a column for every field of one value; several reasons are one text."""
    found = [(name, _kind(field.annotation)) for name, field in model.model_fields.items()]
    return [Column(name, kind) for name, kind in found if kind is not None]


def _kind(annotation: Any) -> Kind | None:  # noqa: ANN401 - what pydantic keeps
    """Return what a column of such values is, None where a cell cannot hold one."""
    if get_origin(annotation) in {Union, types.UnionType}:
        choices = [one for one in get_args(annotation) if one is not type(None)]
        return _kind(choices[0]) if len(choices) == 1 else None
    if get_origin(annotation) is tuple:
        inner = get_args(annotation)[0]
        return str if isinstance(inner, type) and issubclass(inner, StrEnum) else None
    if not isinstance(annotation, type):
        return None
    known: tuple[Kind, ...] = (bool, int, float, datetime, str)
    return next((kind for kind in known if issubclass(annotation, kind)), None)


_PART = columns_of(PartLine)
_VIEW = columns_of(ViewDetail)
_REGION = columns_of(Region)
_KEY = [Column("part_id", str), Column("trigger_time", datetime)]
PARTS = [*_PART, Column("review", str), Column("held", bool)]
VIEWS = [*_KEY, *_VIEW, Column("frame_width_px", int), Column("frame_height_px", int), Column("review", str)]
DEFECTS = [
    *_KEY,
    Column("product", str),
    Column("camera", str),
    Column("region", int),
    *_REGION,
    Column("defect_class", str),
    Column("review", str),
]


def write(source: Source, folder: Path, suffix: str, make: Open, *, parts_only: bool) -> None:
    """Write the tables, and the pictures beside them where they are asked for."""
    names = ("parts",) if parts_only else ("parts", "views", "defects")
    layouts = {"parts": PARTS, "views": VIEWS, "defects": DEFECTS}
    rows_of = {"parts": _part_rows, "views": _view_rows, "defects": _defect_rows}
    with ExitStack() as stack:
        tables = {name: stack.enter_context(make(folder / f"{name}{suffix}", layouts[name])) for name in names}
        for item in source.items():
            for name, table in tables.items():
                for row in rows_of[name](item):
                    table.write(row)
                    source.counted[name] += name != "parts"
            if source.pictures:
                for ref in item.part.images:
                    source.save(item.part, ref, folder / "images" / file_name(item.part.part_id), picture_stem(ref))


def _part_rows(item: Item) -> Iterator[list[Cell]]:
    yield [*_cells(item.part, _PART), item.labels.finding, item.labels.held]


def _view_rows(item: Item) -> Iterator[list[Cell]]:
    part = item.part
    for view in part.details:
        height_px, width_px = view.frame_shape[:2] if view.frame_shape else (None, None)
        review = item.labels.finding_at(view.camera)
        yield [part.part_id, part.trigger_time, *_cells(view, _VIEW), width_px, height_px, review]


def _defect_rows(item: Item) -> Iterator[list[Cell]]:
    part, said = item.part, item.labels
    for view in part.details:
        for number, region in enumerate(view.regions):
            where: list[Cell] = [part.part_id, part.trigger_time, part.product, view.camera, number]
            review = said.finding_at(view.camera, number)
            yield [*where, *_cells(region, _REGION), said.defect_class(view.camera, number), review]


def _cells(value: BaseModel, columns: Sequence[Column]) -> list[Cell]:
    return [_cell(getattr(value, column.name)) for column in columns]


def _cell(value: Any) -> Cell:  # noqa: ANN401 - a field of an answer
    if isinstance(value, tuple):
        return " ".join(value)
    return value.value if isinstance(value, StrEnum) else value
