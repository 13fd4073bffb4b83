"""What a captured write pays for being admitted, made cheaper."""

from __future__ import annotations

import pathlib

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Replace the function."""
    _run(pathlib.Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Put the first one back."""
    text = pathlib.Path(__file__).with_name("0001_capture.sql").read_text(encoding="utf-8")
    begins = "CREATE FUNCTION hal9cap.admit"
    _run("CREATE OR REPLACE FUNCTION hal9cap.admit" + text.split(begins, 1)[1])


def _run(text: str) -> None:
    op.get_bind().exec_driver_sql(text.replace("%", "%%"))
