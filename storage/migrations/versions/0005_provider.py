"""People whom an OpenID Connect provider vouches for: they have no password, but a subject there."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_UP = """
ALTER TABLE person ALTER COLUMN password DROP NOT NULL;
ALTER TABLE person ADD COLUMN subject text COLLATE "C" UNIQUE;
ALTER TABLE person ADD CONSTRAINT person_is_known_by_one CHECK ((password IS NULL) <> (subject IS NULL));
"""

_DOWN = """
DELETE FROM person WHERE subject IS NOT NULL;
ALTER TABLE person DROP CONSTRAINT person_is_known_by_one;
ALTER TABLE person DROP COLUMN subject;
ALTER TABLE person ALTER COLUMN password SET NOT NULL;
"""


def upgrade() -> None:
    """Let a person have no password."""
    op.execute(_UP)


def downgrade() -> None:
    """Forget whom the provider vouched for."""
    op.execute(_DOWN)
