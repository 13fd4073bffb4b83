"""A store knows which restores have been through it: the other one may not have been reached yet."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table that says so; it is written in the transaction that replaces the tables."""
    op.get_bind().exec_driver_sql(
        "CREATE TABLE hal9cap.restored (mark text PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
