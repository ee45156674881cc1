"""What people do at the console: who they are, what they acknowledge, pick, propose and have tried beside the line."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MADE = """
CREATE TABLE person (
    name text COLLATE "C" PRIMARY KEY,
    role text COLLATE "C" NOT NULL,
    password text NOT NULL,
    must_change boolean NOT NULL DEFAULT false,
    disabled boolean NOT NULL DEFAULT false,
    added_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE session (
    digest text COLLATE "C" PRIMARY KEY,
    person text COLLATE "C" NOT NULL REFERENCES person ON DELETE CASCADE,
    began_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    ends_at timestamptz NOT NULL
);
CREATE INDEX session_person ON session (person);
CREATE TABLE token (
    digest text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    person text COLLATE "C" NOT NULL REFERENCES person ON DELETE CASCADE,
    role text COLLATE "C" NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz,
    ends_at timestamptz
);
CREATE TABLE acknowledgement (
    event_id text COLLATE "C" PRIMARY KEY,
    person text NOT NULL,
    acknowledged_at timestamptz NOT NULL DEFAULT now(),
    comment text NOT NULL DEFAULT ''
);
CREATE TABLE pick (
    part_id text COLLATE "C" NOT NULL,
    camera text COLLATE "C" NOT NULL,
    trigger_time timestamptz NOT NULL,
    product text COLLATE "C" NOT NULL,
    good boolean NOT NULL,
    defect_class text COLLATE "C",
    person text NOT NULL,
    picked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (part_id, camera)
);
CREATE INDEX pick_product ON pick (product, picked_at);
CREATE TABLE proposal (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recipe text COLLATE "C" NOT NULL,
    based_on text COLLATE "C" NOT NULL,
    content text NOT NULL,
    comment text NOT NULL,
    state text COLLATE "C" NOT NULL,
    person text NOT NULL,
    proposed_at timestamptz NOT NULL DEFAULT now(),
    decided_by text,
    decided_at timestamptz
);
CREATE INDEX proposal_recipe ON proposal (recipe, number);
CREATE TABLE shadow (
    part_id text COLLATE "C" NOT NULL,
    camera text COLLATE "C" NOT NULL,
    bundle_digest text COLLATE "C" NOT NULL,
    trigger_time timestamptz NOT NULL,
    score double precision,
    verdict text COLLATE "C",
    exact boolean NOT NULL,
    judged_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bundle_digest, part_id, camera)
);
CREATE INDEX audit_subject ON audit (subject, number);
CREATE INDEX shadow_time ON shadow (bundle_digest, trigger_time);
"""
_TABLES = ("shadow", "proposal", "pick", "acknowledgement", "token", "session", "person")


def upgrade() -> None:
    """Make the tables."""
    op.execute(_MADE)


def downgrade() -> None:
    """Forget all of it."""
    op.drop_index("audit_subject")
    for table in _TABLES:
        op.drop_table(table)
