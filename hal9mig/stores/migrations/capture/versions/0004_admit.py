"""What a captured write pays for being admitted, made cheaper."""

from __future__ import annotations

from hal9mig.stores.migrations import environment

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Replace the function."""
    environment.execute_beside(__file__)
