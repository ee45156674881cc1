"""Apache Parquet: parts.parquet, views.parquet and defects.parquet; or one file, of the parts. Texts are as stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Self

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import write_parquet

from deploy.exporting import tables
from deploy.exporting.source import Source
from deploy.exporting.tables import Cell, Column, Kind

SUFFIX = ".parquet"
_ROWS = 10_000  # in memory
_COMPRESSION = "zstd(3)"
_TYPES: dict[Kind, DataType] = {
    str: DataType.string(),
    int: DataType.int64(),
    float: DataType.float64(),
    bool: DataType.bool(),
    datetime: DataType.timestamp("us", tz="UTC"),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def write(source: Source, folder: Path, *, parts_only: bool) -> None:
    """Write the tables."""
    tables.write(source, folder, SUFFIX, _Table, parts_only=parts_only)


class _Table:
    """Rows are kept in a file beside until all are there: the library takes a table in one go."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._path = path
        self._columns = columns
        self._rows = path.with_suffix(".rows")
        self._spool = self._rows.open("x", encoding="utf-8")

    def write(self, row: Sequence[Cell]) -> None:
        cells = [(cell - _EPOCH) // _MICROSECOND if isinstance(cell, datetime) else cell for cell in row]
        self._spool.write(json.dumps(cells) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._spool.close()
        if kind is None:
            self._finish()

    def _finish(self) -> None:
        schema = Schema([Field(column.name, _TYPES[column.kind], nullable=True) for column in self._columns])
        with self._path.open("xb") as file:
            taken = _File(file)
            reader = RecordBatchReader.from_batches(schema, self._batches(schema, taken))
            write_parquet(reader, taken, compression=_COMPRESSION)  # type: ignore[arg-type]  # all that it calls is there
            if taken.error is not None:
                raise taken.error
        self._rows.unlink()

    def _batches(self, schema: Schema, file: _File) -> Iterator[RecordBatch]:
        with self._rows.open(encoding="utf-8") as spool:
            while file.error is None and (lines := list(islice(spool, _ROWS))):
                cells = zip(*map(json.loads, lines), strict=True)
                yield RecordBatch.from_arrays(
                    [_array(column.kind, values) for column, values in zip(self._columns, cells, strict=True)],
                    schema=schema,
                )


class _File:
    """A file for arro3, which panics where one raises: an error is kept, and what comes after it goes nowhere."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        if self.error is None:
            try:
                self._file.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self.error = self.error or error


def _array(kind: Kind, values: Sequence[Cell]) -> Array:
    if kind is datetime:
        return Array(values, type=_TYPES[int]).cast(_TYPES[datetime])
    return Array(values, type=_TYPES[kind])
