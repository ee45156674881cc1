"""The tables of PostgreSQL, as the newest revision in `storage/migrations` makes them.

A part's rows meet by `part_id` and no foreign key binds them: after a crash an image may well arrive before its
verdict. Every table's key is the identity of the message that fills it, so that a record which is delivered twice is
stored once. What the line fills is partitioned by the trigger's time (`storage/partitions.py`); there each partition
has that key for itself. Times ending in `_ns` are monotonic and only their differences mean something.

    verdict, view, defect, gate_report, image    what the line said, partitioned
    tally, view_tally, appearance, seen          what is counted and what there is, kept by the writer as it writes
    review, hold                                 what people said
    event                                        what happened to the station
    person, session, token                       who may do what
    acknowledgement, pick, proposal, shadow      what people do at the console
    recipe, bundle                               what was judged by, whole: replay and backup need nothing else
    audit                                        who changed what: a chain of hashes (`storage/audit.py`)
    journal_cursor                               how far the writer is
"""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    Double,
    ForeignKey,
    Identity,
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
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

WHOLE = -1  # `image.region` of an image that shows the whole view
NOTABLE = text("verdict <> 'PASS'")  # of a verdict
SOUGHT = (  # columns of a verdict that it is looked for by
    *("verdict", "score", "reasons", "product", "recipe", "recipe_version", "line", "station", "run", "challenge"),
)
SOUGHT_DEFECT = ("camera", "product", "defect_class", "area_px", "center_x", "center_y")  # the same of a defect
HOUR = "date_bin('01:00:00', trigger_time, '2000-01-01 00:00:00+00')"  # unlike date_trunc, an index may have it
_BY_TIME = "RANGE (trigger_time)"

metadata = MetaData()


def _key() -> Text:
    """Return the type of identities: compared byte by byte, which is quicker and the same in every locale."""
    return Text(collation="C")


verdict = Table(
    "verdict",
    metadata,
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("part_id", _key(), primary_key=True),
    Column("run", _key(), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("station", Text, nullable=False),
    Column("line", Text, nullable=False),
    Column("product", _key(), nullable=False),
    Column("recipe", Text, nullable=False),
    Column("recipe_version", Integer, nullable=False),
    Column("recipe_digest", _key()),
    Column("verdict", _key(), nullable=False),
    Column("reasons", ARRAY(Text), nullable=False),
    Column("score", Double),  # the highest of the views
    Column("gate", Text, nullable=False),  # the command
    Column("trigger_ns", BigInteger, nullable=False),
    Column("judged_ns", BigInteger, nullable=False),
    Column("deadline_ns", BigInteger, nullable=False),
    Column("truth_good", Boolean),
    Column("truth_defect", Text),
    Column("truth_source", Text),
    Column("challenge", Boolean, nullable=False),
    Column("position", BigInteger, nullable=False),  # in the journal: segment << 32 | offset, the order of arrival
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # what else is asked for is found by the hours that `tally` names: an index costs the writer for every part
    Index("verdict_time", "trigger_time", "part_id"),
    Index("verdict_score", "score"),
    Index("verdict_notable", "trigger_time", "part_id", postgresql_where=NOTABLE, postgresql_include=SOUGHT),
    Index("verdict_reasons", "reasons", postgresql_using="gin", postgresql_where=NOTABLE),  # a PASS has none
    Index("verdict_challenge", "trigger_time", "part_id", postgresql_where=text("challenge")),
    postgresql_partition_by=_BY_TIME,
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
    Index("view_bundle", "bundle_digest", text(HOUR), postgresql_where=text("bundle_digest IS NOT NULL")),
    postgresql_partition_by=_BY_TIME,
)

defect = Table(
    "defect",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("camera", _key(), primary_key=True),
    Column("region", SmallInteger, primary_key=True),  # index into the view's regions
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("product", _key(), nullable=False),
    Column("defect_class", _key()),  # where the detector tells classes apart
    Column("x_px", Integer, nullable=False),
    Column("y_px", Integer, nullable=False),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("area_px", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Column("center_x", Double),  # of the box, from 0 (left) to 1 (right) of the frame
    Column("center_y", Double),  # from 0 (top) to 1 (bottom)
    Index(
        "defect_time",
        *("trigger_time", "part_id"),
        postgresql_include=SOUGHT_DEFECT,
    ),
    Index(
        "defect_product_time",
        *("product", "trigger_time", "part_id"),
        postgresql_include=[name for name in SOUGHT_DEFECT if name != "product"],
    ),
    Index(
        "defect_class_time",
        *("defect_class", "trigger_time", "part_id"),
        postgresql_where=text("defect_class IS NOT NULL"),
    ),
    Index("defect_area", "area_px"),
    Index("defect_center", text("point(center_x, center_y)"), postgresql_using="gist"),
    postgresql_partition_by=_BY_TIME,
)

gate_report = Table(
    "gate_report",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("command", Text, nullable=False),
    Column("written_ns", BigInteger),
    Column("outcome", Text),
    Column("reported_ns", BigInteger, nullable=False),
    Column("confirmed", Boolean, nullable=False),  # the PLC saw what the command asked for
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("gate_report_unconfirmed", "trigger_time", "part_id", postgresql_where=text("NOT confirmed")),
    postgresql_partition_by=_BY_TIME,
)

image = Table(
    "image",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("camera", _key(), primary_key=True),
    Column("purpose", _key(), primary_key=True),
    Column("region", SmallInteger, primary_key=True),  # index into the view's regions, or WHOLE
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("encoding", Text, nullable=False),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("content", LargeBinary),  # here,
    Column("place", Text),  # or in a store (`storage/stores`)
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    postgresql_partition_by=_BY_TIME,
)

tally = Table(
    "tally",
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),  # of the triggers, in UTC
    Column("station", _key(), primary_key=True),
    Column("line", _key(), primary_key=True),
    Column("product", _key(), primary_key=True),
    Column("recipe", _key(), primary_key=True),
    Column("recipe_version", Integer, primary_key=True),
    Column("verdict", _key(), primary_key=True),
    Column("parts", BigInteger, nullable=False),
    Column("scored", BigInteger, nullable=False),
    Column("score_sum", Double, nullable=False),
    Column("score_squares", Double, nullable=False),
)

view_tally = Table(
    "view_tally",
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),  # as in `tally`
    Column("station", _key(), primary_key=True),
    Column("line", _key(), primary_key=True),
    Column("product", _key(), primary_key=True),
    Column("recipe", _key(), primary_key=True),
    Column("recipe_version", Integer, primary_key=True),
    Column("camera", _key(), primary_key=True),
    Column("bundle", _key(), primary_key=True),  # its digest; empty where none judged the view
    Column("verdict", _key(), primary_key=True),  # of the view
    Column("views", BigInteger, nullable=False),
    Column("scored", BigInteger, nullable=False),
    Column("score_sum", Double, nullable=False),
    Column("score_squares", Double, nullable=False),
)

appearance = Table(  # what images look like, of some a second (`inference/appearance.py`)
    "appearance",
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),  # of the measurement, in UTC
    Column("station", _key(), primary_key=True),
    Column("camera", _key(), primary_key=True),
    Column("product", _key(), primary_key=True),
    Column("frames", BigInteger, nullable=False),
    Column("brightness_sum", Double, nullable=False),  # of mean gray values, 0 to 255
    Column("brightness_squares", Double, nullable=False),
    Column("focus_sum", Double, nullable=False),  # of variances of the Laplacian
    Column("focus_squares", Double, nullable=False),
)

seen = Table(
    "seen",
    metadata,
    Column("kind", _key(), primary_key=True),  # run, station, line, product, recipe, camera or bundle
    Column("name", _key(), primary_key=True),
    Column("first_time", DateTime(timezone=True), nullable=False),
    Column("last_time", DateTime(timezone=True), nullable=False),
)

review = Table(
    "review",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("part_id", _key(), nullable=False),
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("reviewed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("reviewer", Text, nullable=False),
    Column("finding", _key(), nullable=False),  # GOOD, DEFECT or UNSURE
    Column("camera", _key()),  # of one view, and
    Column("region", SmallInteger),  # of one defect; else of the part
    Column("defect_class", _key()),
    Column("comment", Text, nullable=False, server_default=""),
    Index("review_part", "part_id"),
    Index("review_time", "trigger_time", "part_id"),
)

hold = Table(
    "hold",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("held_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("holder", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("hold_time", "trigger_time", "part_id"),
)

event = Table(
    "event",
    metadata,
    Column("event_id", _key(), primary_key=True),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("station", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("event_time", "time", "event_id"),
)

recipe = Table(
    "recipe",
    metadata,
    Column("digest", _key(), primary_key=True),
    Column("name", _key(), nullable=False),
    Column("version", Integer, nullable=False),
    Column("product", Text, nullable=False),
    Column("content", Text, nullable=False),  # canonical JSON, as `config/recipe.py` makes it
    Column("added_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

bundle = Table(
    "bundle",
    metadata,
    Column("digest", _key(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),  # the file
    Column("added_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3, … without a gap
    Column("at", DateTime(timezone=True), nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("before", Text),  # JSON
    Column("after", Text),  # JSON
    Column("hash", Text, nullable=False),  # SHA-256 of the hash before and of all that stands here
    Index("audit_subject", "subject", "number"),
)

person = Table(
    "person",
    metadata,
    Column("name", _key(), primary_key=True),
    Column("role", _key(), nullable=False),  # VIEWER, OPERATOR, ENGINEER or ADMIN
    Column("password", Text),  # as Argon2 encodes it
    Column("subject", _key(), unique=True),  # whom the OpenID Connect provider vouches for: issuer and identifier
    Column("must_change", Boolean, nullable=False, server_default=text("false")),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("added_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("(password IS NULL) <> (subject IS NULL)", name="person_is_known_by_one"),
)

session = Table(
    "session",
    metadata,
    Column("digest", _key(), primary_key=True),  # SHA-256 of what the browser holds
    Column("person", _key(), ForeignKey("person.name", ondelete="CASCADE"), nullable=False),
    Column("began_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Index("session_person", "person"),
)

token = Table(
    "token",
    metadata,
    Column("digest", _key(), primary_key=True),
    Column("name", _key(), nullable=False, unique=True),
    Column("person", _key(), ForeignKey("person.name", ondelete="CASCADE"), nullable=False),
    Column("role", _key(), nullable=False),  # at most the person's
    Column("added_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("seen_at", DateTime(timezone=True)),
    Column("ends_at", DateTime(timezone=True)),
)

acknowledgement = Table(
    "acknowledgement",
    metadata,
    Column("event_id", _key(), primary_key=True),
    Column("person", Text, nullable=False),
    Column("acknowledged_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("comment", Text, nullable=False, server_default=""),
)

pick = Table(  # images to train from
    "pick",
    metadata,
    Column("part_id", _key(), primary_key=True),
    Column("camera", _key(), primary_key=True),
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("product", _key(), nullable=False),
    Column("good", Boolean, nullable=False),
    Column("defect_class", _key()),
    Column("person", Text, nullable=False),
    Column("picked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("pick_product", "product", "picked_at"),
)

proposal = Table(  # of a recipe's next version
    "proposal",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("recipe", _key(), nullable=False),
    Column("based_on", _key(), nullable=False),  # digest of the version that was edited
    Column("content", Text, nullable=False),  # canonical JSON, as `config/recipe.py` makes it
    Column("comment", Text, nullable=False),
    Column("state", _key(), nullable=False),
    Column("person", Text, nullable=False),
    Column("proposed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("decided_by", Text),
    Column("decided_at", DateTime(timezone=True)),
    Index("proposal_recipe", "recipe", "number"),
)

shadow = Table(  # what a bundle said beside the one that counts
    "shadow",
    metadata,
    Column("bundle_digest", _key(), primary_key=True),
    Column("part_id", _key(), primary_key=True),
    Column("camera", _key(), primary_key=True),
    Column("trigger_time", DateTime(timezone=True), nullable=False),
    Column("score", Double),
    Column("verdict", _key()),
    Column("exact", Boolean, nullable=False),  # the stored pixels give the score exactly
    Column("judged_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("shadow_time", "bundle_digest", "trigger_time"),
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
