"""The tables of PostgreSQL, as the newest revision in `storage/migrations` makes them.

A part's rows meet by `part_id` and no foreign key binds them: after a crash an image may well arrive before its
verdict. Every table's key is the identity of the message that fills it, so that a record which is delivered twice is
stored once. Times ending in `_ns` are monotonic and only their differences mean something.
"""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    cast,
    func,
    literal,
)
from sqlalchemy.dialects.postgresql import ARRAY

WHOLE = -1  # `image.region` of an image that shows the whole view

metadata = MetaData()


def _key() -> Text:
    """Return the type of identities: compared byte by byte, which is quicker and the same in every locale."""
    return Text(collation="C")


verdict = Table(
    "verdict",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("run", _key(), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("station", Text, nullable=False),
    Column("line", Text, nullable=False),
    Column("product", _key(), nullable=False),
    Column("recipe", Text, nullable=False),
    Column("recipe_version", Integer, nullable=False),
    Column("verdict", _key(), nullable=False),
    Column("reasons", ARRAY(Text), nullable=False),
    Column("score", Double),  # the highest of the views
    Column("gate", Text, nullable=False),  # the command
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("trigger_ns", BigInteger, nullable=False),
    Column("judged_ns", BigInteger, nullable=False),
    Column("deadline_ns", BigInteger, nullable=False),
    Column("truth_good", Boolean),
    Column("truth_defect", Text),
    Column("truth_source", Text),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("verdict_time", "trigger_time", "part_id"),
    Index("verdict_product_time", "product", "trigger_time", "part_id"),
    Index("verdict_verdict_time", "verdict", "trigger_time", "part_id"),
    Index("verdict_score", "score"),
    Index("verdict_run", "run", "sequence"),
)

view = Table(
    "view",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("camera", _key(), primary_key=True),
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("verdict", Text, nullable=False),
    Column("reasons", ARRAY(Text), nullable=False),
    Column("score", Double),
    Column("review_above", Double),
    Column("reject_above", Double),
    Column("bundle_digest", Text),
    Column("frame_height_px", Integer),
    Column("frame_width_px", Integer),
    Column("frame_channels", SmallInteger),
    Column("map_height", Integer),
    Column("map_width", Integer),
    Column("map", LargeBinary),  # float16 (map_height, map_width), little-endian, deflated by zlib
    Column("worker", Text),
    Column("batch_size", Integer),
    Column("received_ns", BigInteger),
    Column("started_ns", BigInteger),
    Column("finished_ns", BigInteger),
)

defect = Table(
    "defect",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("camera", _key(), primary_key=True),
    Column("region", SmallInteger, primary_key=True),  # index into the view's regions
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("x_px", Integer, nullable=False),
    Column("y_px", Integer, nullable=False),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("area_px", Integer, nullable=False),
    Column("score", Double, nullable=False),
)

gate_report = Table(
    "gate_report",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("command", Text, nullable=False),
    Column("written_ns", BigInteger),
    Column("outcome", Text),
    Column("reported_ns", BigInteger, nullable=False),
    Column("confirmed", Boolean, nullable=False),  # the PLC saw what the command asked for
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

image = Table(
    "image",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("camera", _key(), primary_key=True),
    Column("purpose", _key(), primary_key=True),
    Column("region", SmallInteger, primary_key=True),  # index into the view's regions, or WHOLE
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("jpeg", LargeBinary, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

journal_cursor = Table(
    "journal_cursor",
    metadata,
    Column("journal", _key(), primary_key=True),  # identity of a station's journal folder
    Column("segment", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


def milliseconds(start: ColumnElement[int], end: ColumnElement[int]) -> ColumnElement[float | Decimal]:
    """Return the SQL for the time from one monotonic column to another."""
    return cast(end - start, Double) / literal(1e6, Double)
