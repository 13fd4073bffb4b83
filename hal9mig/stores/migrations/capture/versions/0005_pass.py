"""Only this system writes past capture; and which tables are captured is known by more than their names."""

from __future__ import annotations

import pathlib

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the two tables and replace the function."""
    _run(pathlib.Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Put the function of before back, and drop the tables."""
    _run(pathlib.Path(__file__).with_name("0004_admit.sql").read_text(encoding="utf-8"))
    _run("DROP TABLE hal9cap.pass; DROP TABLE hal9cap.captured")


def _run(text: str) -> None:
    op.get_bind().exec_driver_sql(text.replace("%", "%%"))
