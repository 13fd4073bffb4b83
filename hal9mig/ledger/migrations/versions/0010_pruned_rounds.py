"""What forgotten rounds have come to."""

from __future__ import annotations

import pathlib

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Extend the ledger's tables."""
    op.get_bind().exec_driver_sql(pathlib.Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is the record of what was migrated."""
    raise RuntimeError("the ledger is not downgraded; drop schema hal9mig to lose it")
