"""A store that is being restored takes nothing from the other one."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table that says so; a row in it is the reason."""
    op.get_bind().exec_driver_sql("CREATE TABLE hal9cap.hold (reason text NOT NULL)")
