"""What captures with its owner's rights is led astray by no caller's search path, and pays nothing for that."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Have the function look names up in one place only; the triggers' own ones name everything in full."""
    op.get_bind().exec_driver_sql("ALTER FUNCTION hal9cap.admit(text) SET search_path = pg_catalog, pg_temp")
