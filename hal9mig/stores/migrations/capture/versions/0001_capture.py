"""The write mode's number, the journal of captured keys, and what the triggers call."""

from __future__ import annotations

from hal9mig.stores.migrations import environment

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    environment.execute_beside(__file__)
