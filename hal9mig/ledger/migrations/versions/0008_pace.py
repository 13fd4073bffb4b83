"""What the application feels, and the pace of what can wait."""

from __future__ import annotations

import pathlib

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Extend the ledger's tables."""
    op.get_bind().exec_driver_sql(pathlib.Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is the record of what was migrated."""
    raise RuntimeError("the ledger is not downgraded; drop schema hal9mig to lose it")
