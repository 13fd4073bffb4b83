"""${message}."""

from __future__ import annotations

from hal9mig.stores.migrations import environment

revision = ${repr(up_revision)}
down_revision: str | None = ${repr(down_revision)}


def upgrade() -> None:
    environment.execute_beside(__file__)
