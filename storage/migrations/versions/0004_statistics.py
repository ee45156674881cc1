"""What statistics are told from: views by the hour, camera and bundle, and what images look like."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_MADE = """
CREATE TABLE view_tally (
    hour timestamptz NOT NULL,
    station text COLLATE "C" NOT NULL,
    line text COLLATE "C" NOT NULL,
    product text COLLATE "C" NOT NULL,
    recipe text COLLATE "C" NOT NULL,
    recipe_version integer NOT NULL,
    camera text COLLATE "C" NOT NULL,
    bundle text COLLATE "C" NOT NULL,
    verdict text COLLATE "C" NOT NULL,
    views bigint NOT NULL,
    scored bigint NOT NULL,
    score_sum double precision NOT NULL,
    score_squares double precision NOT NULL,
    PRIMARY KEY (hour, station, line, product, recipe, recipe_version, camera, bundle, verdict)
) WITH (fillfactor = 50);
CREATE TABLE appearance (
    hour timestamptz NOT NULL,
    station text COLLATE "C" NOT NULL,
    camera text COLLATE "C" NOT NULL,
    product text COLLATE "C" NOT NULL,
    frames bigint NOT NULL,
    brightness_sum double precision NOT NULL,
    brightness_squares double precision NOT NULL,
    focus_sum double precision NOT NULL,
    focus_squares double precision NOT NULL,
    PRIMARY KEY (hour, station, camera, product)
) WITH (fillfactor = 50);
"""

# what retention has removed is counted in the parts' tallies alone; to PostgreSQL, NaN is above infinity
_COUNTED = """
INSERT INTO view_tally
    SELECT date_trunc('hour', v.trigger_time, 'UTC'), station, line, product, recipe, recipe_version, camera,
        coalesce(bundle_digest, ''), w.verdict, count(*), count(w.score) FILTER (WHERE finite),
        coalesce(sum(w.score) FILTER (WHERE finite), 0), coalesce(sum(w.score * w.score) FILTER (WHERE finite), 0)
    FROM verdict v JOIN view w ON w.part_id = v.part_id AND w.trigger_time = v.trigger_time,
        LATERAL (SELECT w.score > '-infinity' AND w.score < 'infinity' AS finite) AS known
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""


def upgrade() -> None:
    """Make the tables, and count the views that there are."""
    op.execute(_MADE)
    op.execute(_COUNTED)


def downgrade() -> None:
    """Forget what was counted and measured."""
    op.drop_table("appearance")
    op.drop_table("view_tally")
