"""How often a store was restored, so that whoever took keys before a restore does not apply them after it."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the count, which goes up in the transaction of each swap."""
    op.get_bind().exec_driver_sql(
        "CREATE TABLE hal9cap.restores (count bigint NOT NULL); INSERT INTO hal9cap.restores VALUES (0)"
    )
