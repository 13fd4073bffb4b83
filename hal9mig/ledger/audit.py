"""The audit in the ledger: what was done, when, by whom."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from hal9mig.ledger import database


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that was done: when, by whom, what, and its particulars."""

    id: int
    at: datetime.datetime
    actor: str
    action: str
    run_id: int | None
    detail: Mapping[str, object]


def log(
    session: database.Session,
    action: str,
    *,
    actor: str,
    run_id: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write an event."""
    database.run(session, "audit", "log_event", actor=actor, action=action, run_id=run_id, detail=dict(detail or {}))


def events(session: database.Session, *, run_id: int | None = None, limit: int = 50) -> Sequence[Event]:
    """Return the newest events first."""
    return [Event(**row._mapping) for row in database.run(session, "audit", "events", run_id=run_id, limit=limit)]
