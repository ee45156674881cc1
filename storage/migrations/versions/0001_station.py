"""Verdicts with their views, defects, gate reports and images; the journal's cursor."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _key(name: str, *, primary: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), primary_key=primary, nullable=False)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def upgrade() -> None:
    op.create_table(
        "verdict",
        _key("part_id", primary=True),
        _key("run"),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
        _key("product"),
        sa.Column("recipe", sa.Text, nullable=False),
        sa.Column("recipe_version", sa.Integer, nullable=False),
        _key("verdict"),
        sa.Column("reasons", ARRAY(sa.Text), nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("gate", sa.Text, nullable=False),
        _time("trigger_time"),
        sa.Column("trigger_ns", sa.BigInteger, nullable=False),
        sa.Column("judged_ns", sa.BigInteger, nullable=False),
        sa.Column("deadline_ns", sa.BigInteger, nullable=False),
        sa.Column("truth_good", sa.Boolean),
        sa.Column("truth_defect", sa.Text),
        sa.Column("truth_source", sa.Text),
        _now("recorded_at"),
    )
    op.create_index("verdict_time", "verdict", ["trigger_time", "part_id"])
    op.create_index("verdict_product_time", "verdict", ["product", "trigger_time", "part_id"])
    op.create_index("verdict_verdict_time", "verdict", ["verdict", "trigger_time", "part_id"])
    op.create_index("verdict_score", "verdict", ["score"])
    op.create_index("verdict_run", "verdict", ["run", "sequence"])
    op.create_table(
        "view",
        _key("part_id", primary=True),
        _key("camera", primary=True),
        _time("trigger_time"),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("reasons", ARRAY(sa.Text), nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("review_above", sa.Double),
        sa.Column("reject_above", sa.Double),
        sa.Column("bundle_digest", sa.Text),
        sa.Column("frame_height_px", sa.Integer),
        sa.Column("frame_width_px", sa.Integer),
        sa.Column("frame_channels", sa.SmallInteger),
        sa.Column("map_height", sa.Integer),
        sa.Column("map_width", sa.Integer),
        sa.Column("map", sa.LargeBinary),
        sa.Column("worker", sa.Text),
        sa.Column("batch_size", sa.Integer),
        sa.Column("received_ns", sa.BigInteger),
        sa.Column("started_ns", sa.BigInteger),
        sa.Column("finished_ns", sa.BigInteger),
    )
    op.create_table(
        "defect",
        _key("part_id", primary=True),
        _key("camera", primary=True),
        sa.Column("region", sa.SmallInteger, primary_key=True),
        _time("trigger_time"),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("x_px", "y_px", "width_px", "height_px", "area_px")),
        sa.Column("score", sa.Double, nullable=False),
    )
    op.create_table(
        "gate_report",
        _key("part_id", primary=True),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("written_ns", sa.BigInteger),
        sa.Column("outcome", sa.Text),
        sa.Column("reported_ns", sa.BigInteger, nullable=False),
        sa.Column("confirmed", sa.Boolean, nullable=False),
        _now("recorded_at"),
    )
    op.create_table(
        "image",
        _key("part_id", primary=True),
        _key("camera", primary=True),
        _key("purpose", primary=True),
        sa.Column("region", sa.SmallInteger, primary_key=True),
        sa.Column("width_px", sa.Integer, nullable=False),
        sa.Column("height_px", sa.Integer, nullable=False),
        sa.Column("jpeg", sa.LargeBinary, nullable=False),
        _now("recorded_at"),
    )
    # JPEG and deflated maps do not shrink again: PostgreSQL need not try
    op.execute("ALTER TABLE image ALTER COLUMN jpeg SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE view ALTER COLUMN map SET STORAGE EXTERNAL")
    op.create_table(
        "journal_cursor",
        _key("journal", primary=True),
        sa.Column("segment", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        _now("updated_at"),
    )


def downgrade() -> None:
    for table in ("journal_cursor", "image", "gate_report", "defect", "view", "verdict"):
        op.drop_table(table)
