"""Partitions by time, and all that years of an always-on line need; what is stored is carried over, forth and back."""

from datetime import UTC, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WIDTHS = {"verdict": 7, "view": 7, "defect": 7, "gate_report": 7, "image": 1}  # days
_KEYS = {  # of each partition: the identity of the message, in which the time has no part
    "verdict": "part_id",
    "view": "part_id, camera",
    "defect": "part_id, camera, region",
    "gate_report": "part_id",
    "image": "part_id, camera, purpose, region",
}
_INDEXES = (  # forth and back: the same name may mean another index then
    *("verdict_time", "verdict_product_time", "verdict_verdict_time", "verdict_score", "verdict_run"),
    *("verdict_notable", "verdict_reasons", "verdict_challenge", "view_bundle", "gate_report_unconfirmed"),
    *("defect_time", "defect_product_time", "defect_class_time", "defect_area", "defect_center"),
)
_MONDAY = "1970-01-05 00:00:00+00"

_PARTITIONED = """
CREATE TABLE verdict (
    trigger_time timestamptz NOT NULL,
    part_id text COLLATE "C" NOT NULL,
    run text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    station text NOT NULL,
    line text NOT NULL,
    product text COLLATE "C" NOT NULL,
    recipe text NOT NULL,
    recipe_version integer NOT NULL,
    recipe_digest text COLLATE "C",
    verdict text COLLATE "C" NOT NULL,
    reasons text[] NOT NULL,
    score double precision,
    gate text NOT NULL,
    trigger_ns bigint NOT NULL,
    judged_ns bigint NOT NULL,
    deadline_ns bigint NOT NULL,
    truth_good boolean,
    truth_defect text,
    truth_source text,
    challenge boolean NOT NULL,
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (trigger_time);
CREATE INDEX verdict_time ON verdict (trigger_time, part_id);
CREATE INDEX verdict_score ON verdict (score);
CREATE INDEX verdict_notable ON verdict (trigger_time, part_id)
    INCLUDE (verdict, score, reasons, product, recipe, recipe_version, line, station, run, challenge)
    WHERE verdict <> 'PASS';
CREATE INDEX verdict_reasons ON verdict USING gin (reasons) WHERE verdict <> 'PASS';
CREATE INDEX verdict_challenge ON verdict (trigger_time, part_id) WHERE challenge;

CREATE TABLE view (
    part_id text COLLATE "C" NOT NULL,
    camera text COLLATE "C" NOT NULL,
    trigger_time timestamptz NOT NULL,
    verdict text NOT NULL,
    reasons text[] NOT NULL,
    score double precision,
    review_above double precision,
    reject_above double precision,
    bundle_digest text,
    frame_height_px integer,
    frame_width_px integer,
    frame_channels smallint,
    map_height integer,
    map_width integer,
    map bytea,
    worker text,
    batch_size integer,
    received_ns bigint,
    started_ns bigint,
    finished_ns bigint
) PARTITION BY RANGE (trigger_time);
CREATE INDEX view_bundle ON view (bundle_digest, date_bin('01:00:00', trigger_time, '2000-01-01 00:00:00+00'))
    WHERE bundle_digest IS NOT NULL;

CREATE TABLE defect (
    part_id text COLLATE "C" NOT NULL,
    camera text COLLATE "C" NOT NULL,
    region smallint NOT NULL,
    trigger_time timestamptz NOT NULL,
    product text COLLATE "C" NOT NULL,
    defect_class text COLLATE "C",
    x_px integer NOT NULL,
    y_px integer NOT NULL,
    width_px integer NOT NULL,
    height_px integer NOT NULL,
    area_px integer NOT NULL,
    score double precision NOT NULL,
    center_x double precision,
    center_y double precision
) PARTITION BY RANGE (trigger_time);
CREATE INDEX defect_time ON defect (trigger_time, part_id)
    INCLUDE (camera, product, defect_class, area_px, center_x, center_y);
CREATE INDEX defect_product_time ON defect (product, trigger_time, part_id)
    INCLUDE (camera, defect_class, area_px, center_x, center_y);
CREATE INDEX defect_class_time ON defect (defect_class, trigger_time, part_id) WHERE defect_class IS NOT NULL;
CREATE INDEX defect_area ON defect (area_px);
CREATE INDEX defect_center ON defect USING gist (point(center_x, center_y));

CREATE TABLE gate_report (
    part_id text COLLATE "C" NOT NULL,
    trigger_time timestamptz NOT NULL,
    command text NOT NULL,
    written_ns bigint,
    outcome text,
    reported_ns bigint NOT NULL,
    confirmed boolean NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (trigger_time);
CREATE INDEX gate_report_unconfirmed ON gate_report (trigger_time, part_id) WHERE NOT confirmed;

CREATE TABLE image (
    part_id text COLLATE "C" NOT NULL,
    camera text COLLATE "C" NOT NULL,
    purpose text COLLATE "C" NOT NULL,
    region smallint NOT NULL,
    trigger_time timestamptz NOT NULL,
    encoding text NOT NULL,
    width_px integer NOT NULL,
    height_px integer NOT NULL,
    size_bytes integer NOT NULL,
    content bytea,
    place text,
    recorded_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (trigger_time);
ALTER TABLE image ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER TABLE view ALTER COLUMN map SET STORAGE EXTERNAL;
"""

_OTHERS = """
CREATE TABLE tally (
    hour timestamptz NOT NULL,
    station text COLLATE "C" NOT NULL,
    line text COLLATE "C" NOT NULL,
    product text COLLATE "C" NOT NULL,
    recipe text COLLATE "C" NOT NULL,
    recipe_version integer NOT NULL,
    verdict text COLLATE "C" NOT NULL,
    parts bigint NOT NULL,
    scored bigint NOT NULL,
    score_sum double precision NOT NULL,
    score_squares double precision NOT NULL,
    PRIMARY KEY (hour, station, line, product, recipe, recipe_version, verdict)
) WITH (fillfactor = 50);
CREATE TABLE seen (
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    first_time timestamptz NOT NULL,
    last_time timestamptz NOT NULL,
    PRIMARY KEY (kind, name)
) WITH (fillfactor = 50);
CREATE TABLE review (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    part_id text COLLATE "C" NOT NULL,
    trigger_time timestamptz NOT NULL,
    reviewed_at timestamptz NOT NULL DEFAULT now(),
    reviewer text NOT NULL,
    finding text COLLATE "C" NOT NULL CHECK (finding IN ('GOOD', 'DEFECT', 'UNSURE')),
    camera text COLLATE "C",
    region smallint,
    defect_class text COLLATE "C",
    comment text NOT NULL DEFAULT ''
);
CREATE INDEX review_part ON review (part_id);
CREATE INDEX review_time ON review (trigger_time, part_id);
CREATE TABLE hold (
    part_id text COLLATE "C" PRIMARY KEY,
    trigger_time timestamptz NOT NULL,
    held_at timestamptz NOT NULL DEFAULT now(),
    holder text NOT NULL,
    reason text NOT NULL
);
CREATE INDEX hold_time ON hold (trigger_time, part_id);
CREATE TABLE event (
    event_id text COLLATE "C" PRIMARY KEY,
    time timestamptz NOT NULL,
    station text NOT NULL,
    service text NOT NULL,
    name text NOT NULL,
    severity text NOT NULL,
    state text NOT NULL,
    detail text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX event_time ON event (time, event_id);
CREATE TABLE recipe (
    digest text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    product text NOT NULL,
    content text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE bundle (
    digest text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    size_bytes bigint NOT NULL,
    content bytea NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE bundle ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE TABLE audit (
    number bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    who text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    before text,
    after text,
    hash text NOT NULL
);
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append-only';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    EXECUTE FUNCTION audit_is_append_only();
"""

_OLD = """
CREATE TABLE verdict (
    part_id text COLLATE "C" PRIMARY KEY,
    run text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    station text NOT NULL,
    line text NOT NULL,
    product text COLLATE "C" NOT NULL,
    recipe text NOT NULL,
    recipe_version integer NOT NULL,
    verdict text COLLATE "C" NOT NULL,
    reasons text[] NOT NULL,
    score double precision,
    gate text NOT NULL,
    trigger_time timestamptz NOT NULL,
    trigger_ns bigint NOT NULL,
    judged_ns bigint NOT NULL,
    deadline_ns bigint NOT NULL,
    truth_good boolean,
    truth_defect text,
    truth_source text,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX verdict_time ON verdict (trigger_time, part_id);
CREATE INDEX verdict_product_time ON verdict (product, trigger_time, part_id);
CREATE INDEX verdict_verdict_time ON verdict (verdict, trigger_time, part_id);
CREATE INDEX verdict_score ON verdict (score);
CREATE INDEX verdict_run ON verdict (run, sequence);
CREATE TABLE view (
    part_id text COLLATE "C" NOT NULL,
    camera text COLLATE "C" NOT NULL,
    trigger_time timestamptz NOT NULL,
    verdict text NOT NULL,
    reasons text[] NOT NULL,
    score double precision,
    review_above double precision,
    reject_above double precision,
    bundle_digest text,
    frame_height_px integer,
    frame_width_px integer,
    frame_channels smallint,
    map_height integer,
    map_width integer,
    map bytea,
    worker text,
    batch_size integer,
    received_ns bigint,
    started_ns bigint,
    finished_ns bigint,
    PRIMARY KEY (part_id, camera)
);
CREATE TABLE defect (
    part_id text COLLATE "C" NOT NULL,
    camera text COLLATE "C" NOT NULL,
    region smallint NOT NULL,
    trigger_time timestamptz NOT NULL,
    x_px integer NOT NULL,
    y_px integer NOT NULL,
    width_px integer NOT NULL,
    height_px integer NOT NULL,
    area_px integer NOT NULL,
    score double precision NOT NULL,
    PRIMARY KEY (part_id, camera, region)
);
CREATE TABLE gate_report (
    part_id text COLLATE "C" PRIMARY KEY,
    command text NOT NULL,
    written_ns bigint,
    outcome text,
    reported_ns bigint NOT NULL,
    confirmed boolean NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE image (
    part_id text COLLATE "C" NOT NULL,
    camera text COLLATE "C" NOT NULL,
    purpose text COLLATE "C" NOT NULL,
    region smallint NOT NULL,
    width_px integer NOT NULL,
    height_px integer NOT NULL,
    jpeg bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (part_id, camera, purpose, region)
);
ALTER TABLE image ALTER COLUMN jpeg SET STORAGE EXTERNAL;
ALTER TABLE view ALTER COLUMN map SET STORAGE EXTERNAL;
"""

_VERDICT = (
    "run, sequence, station, line, product, recipe, recipe_version, verdict, reasons, score, gate, trigger_ns, "
    "judged_ns, deadline_ns, truth_good, truth_defect, truth_source, recorded_at"
)
_VIEW = (
    "part_id, camera, trigger_time, verdict, reasons, score, review_above, reject_above, bundle_digest, "
    "frame_height_px, frame_width_px, frame_channels, map_height, map_width, map, worker, batch_size, received_ns, "
    "started_ns, finished_ns"
)
_DEFECT = "x_px, y_px, width_px, height_px, area_px, score"
_REPORT = "command, written_ns, outcome, reported_ns, confirmed, recorded_at"

# a report or an image whose verdict never came is filed under the time of its own recording
_FORTH = f"""
INSERT INTO verdict (trigger_time, part_id, {_VERDICT}, challenge, position)
    SELECT trigger_time, part_id, {_VERDICT}, false, 0 FROM old_verdict;
INSERT INTO view ({_VIEW}) SELECT {_VIEW} FROM old_view;
INSERT INTO defect (part_id, camera, region, trigger_time, product, {_DEFECT}, center_x, center_y)
    SELECT part_id, camera, region, d.trigger_time, coalesce(product, ''),
        x_px, y_px, d.width_px, d.height_px, area_px, d.score,
        (x_px + d.width_px / 2.0) / frame_width_px, (y_px + d.height_px / 2.0) / frame_height_px
    FROM old_defect d LEFT JOIN old_view USING (part_id, camera) LEFT JOIN old_verdict USING (part_id);
INSERT INTO gate_report (part_id, trigger_time, {_REPORT})
    SELECT part_id, coalesce(trigger_time, g.recorded_at), command, written_ns, outcome, reported_ns, confirmed,
        g.recorded_at
    FROM old_gate_report g LEFT JOIN old_verdict USING (part_id);
INSERT INTO image (part_id, camera, purpose, region, trigger_time, encoding, width_px, height_px, size_bytes, content,
        recorded_at)
    SELECT part_id, camera, purpose, region, coalesce(trigger_time, i.recorded_at), 'jpeg', width_px, height_px,
        octet_length(jpeg), jpeg, i.recorded_at
    FROM old_image i LEFT JOIN old_verdict USING (part_id);
INSERT INTO tally
    SELECT date_trunc('hour', trigger_time, 'UTC'), station, line, product, recipe, recipe_version, verdict, count(*),
        count(score), coalesce(sum(score), 0), coalesce(sum(score * score), 0)
    FROM verdict GROUP BY 1, 2, 3, 4, 5, 6, 7;
INSERT INTO seen
    SELECT kind, name, min(trigger_time), max(trigger_time)
    FROM verdict, LATERAL (VALUES ('run', run), ('station', station), ('line', line), ('product', product),
        ('recipe', recipe)) AS said (kind, name)
    GROUP BY 1, 2;
INSERT INTO seen
    SELECT kind, name, min(trigger_time), max(trigger_time)
    FROM view, LATERAL (VALUES ('camera', camera), ('bundle', bundle_digest)) AS said (kind, name)
    WHERE name IS NOT NULL GROUP BY 1, 2;
"""  # noqa: S608 - our own names only

# a part that was stored twice under two times, or an image in a store, has no place in the old tables
_BACK = f"""
INSERT INTO verdict (trigger_time, part_id, {_VERDICT})
    SELECT trigger_time, part_id, {_VERDICT} FROM new_verdict ON CONFLICT DO NOTHING;
INSERT INTO view ({_VIEW}) SELECT {_VIEW} FROM new_view ON CONFLICT DO NOTHING;
INSERT INTO defect (part_id, camera, region, trigger_time, {_DEFECT})
    SELECT part_id, camera, region, trigger_time, {_DEFECT} FROM new_defect ON CONFLICT DO NOTHING;
INSERT INTO gate_report (part_id, {_REPORT})
    SELECT part_id, {_REPORT} FROM new_gate_report ON CONFLICT DO NOTHING;
INSERT INTO image (part_id, camera, purpose, region, width_px, height_px, jpeg, recorded_at)
    SELECT part_id, camera, purpose, region, width_px, height_px, content, recorded_at
    FROM new_image WHERE content IS NOT NULL AND encoding = 'jpeg' ON CONFLICT DO NOTHING;
"""  # noqa: S608 - our own names only


def upgrade() -> None:
    _set_aside("old")
    op.execute(_PARTITIONED)
    _make_partitions()
    op.execute(_OTHERS)
    op.execute(_FORTH)
    _drop("old")


def downgrade() -> None:
    for table in ("audit", "bundle", "recipe", "event", "hold", "review", "seen", "tally"):
        op.drop_table(table)
    op.execute("DROP FUNCTION audit_is_append_only")
    _set_aside("new")
    op.execute(_OLD)
    op.execute(_BACK)
    _drop("new")


def _set_aside(prefix: str) -> None:
    """Rename the tables and take their indexes' names, which the others need."""
    for table in _WIDTHS:
        op.execute(f"ALTER TABLE {table} RENAME TO {prefix}_{table}")
        op.execute(f"ALTER INDEX IF EXISTS {table}_pkey RENAME TO {prefix}_{table}_pkey")
    for index in _INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {index}")


def _drop(prefix: str) -> None:
    for table in _WIDTHS:
        op.drop_table(f"{prefix}_{table}")


def _make_partitions() -> None:
    """Make the partitions that the rows carried over need."""
    connection = op.get_bind()
    for table, days in _WIDTHS.items():
        time = "coalesce(v.trigger_time, t.recorded_at)" if table in {"gate_report", "image"} else "t.trigger_time"
        starts = connection.execute(
            sa.text(
                f"SELECT DISTINCT date_bin('{days} days', {time}, '{_MONDAY}') "  # noqa: S608 - our own names only
                f"FROM old_{table} t LEFT JOIN old_verdict v USING (part_id)"
            )
        ).scalars()
        for start in [start.astimezone(UTC) for start in starts]:
            first, end = (f"{moment:%Y-%m-%d}" for moment in (start, start + timedelta(days=days)))
            op.execute(
                f'CREATE TABLE "{table}_{start:%Y%m%d}" PARTITION OF {table} (PRIMARY KEY ({_KEYS[table]})) '
                f"FOR VALUES FROM ('{first} 00:00:00+00') TO ('{end} 00:00:00+00')"
            )
