"""The write mode's number, the journal of captured keys, and what the triggers call."""

from __future__ import annotations

import pathlib

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    text = pathlib.Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(text.replace("%", "%%"))


def downgrade() -> None:
    """Drop them; nothing is captured any more."""
    op.get_bind().exec_driver_sql("DROP SCHEMA hal9cap CASCADE")
