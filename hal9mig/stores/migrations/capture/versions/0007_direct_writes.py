"""What somebody writes to the store that follows, past this system, is noted, and looked at by the next round."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table of those writes."""
    # Rows are only added and deleted: a key that is noted already may be written again after it was looked at, and
    # before its row is deleted.
    op.get_bind().exec_driver_sql(
        "CREATE TABLE hal9cap.direct_writes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "category text NOT NULL, key text[] NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0.02)"
    )
