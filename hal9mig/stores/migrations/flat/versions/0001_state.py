"""The five tables of HAL9's flat state."""

from __future__ import annotations

from hal9mig.stores.migrations import environment

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    environment.execute_beside(__file__)
