"""Only this system writes past capture; and which tables are captured is known by more than their names."""

from __future__ import annotations

from hal9mig.stores.migrations import environment

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the two tables and replace the function."""
    environment.execute_beside(__file__)
