"""Windows in which the stores are monitored: how long, and what the rounds in them have seen."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig.ledger import database


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonitorWindow:
    """A window as the ledger has it; ``summary`` is filled when it has ended, ``now`` is the ledger's clock."""

    id: int
    name: str
    began_at: datetime.datetime
    until_at: datetime.datetime
    ended_at: datetime.datetime | None
    alert_on_drift: bool
    summary: Mapping[str, Any]
    actor: str
    now: datetime.datetime

    @property
    def due(self) -> bool:
        """Whether its time is over, and it has not been ended."""
        return self.ended_at is None and self.now >= self.until_at


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched:
    """What the rounds of a window did.

    Attributes:
        found, drifts: records that drifted, by the rounds, and of whoever else looked.
        most_lag: seconds that a write waited at most.
        unwatched: seconds in which a round was overdue.
    """

    rounds: int
    failed: int
    compared: int
    found: int
    repaired: int
    applied: int
    most_lag: float
    unwatched: float
    drifts: int
    quarantined: int

    @property
    def drifted(self) -> int:
        """Records that drifted."""
        return max(self.found, self.drifts)


def open_(session: database.Session, name: str, *, seconds: float, alert_on_drift: bool, actor: str) -> int | None:
    """Begin a window and return its number; None where one of its name is open."""
    row = database.run(
        session, "monitors", "open", name=name, seconds=seconds, alert_on_drift=alert_on_drift, actor=actor
    ).first()
    return None if row is None else int(row.id)


def find(
    session: database.Session,
    *,
    id: int | None = None,
    name: str | None = None,
    open: bool = False,
    limit: int = 100,
) -> Sequence[MonitorWindow]:
    """Return windows, the newest first."""
    rows = database.run(session, "monitors", "select", id=id, name=name, open=open, limit=limit)
    return [MonitorWindow(**row._asdict()) for row in rows]


def close(session: database.Session, id: int, summary: Mapping[str, Any]) -> bool:
    """End a window; False where somebody else has."""
    return database.run(session, "monitors", "close", id=id, summary=dict(summary)).first() is not None


def watched(
    session: database.Session, since: datetime.datetime, until: datetime.datetime, *, patience: float
) -> Watched:
    """Return what the rounds between two moments did.

    Args:
        patience: seconds without a round that are nothing to speak of.
    """
    row = database.run(session, "monitors", "watched", since=since, until=until, patience=patience).one()
    return Watched(**row._asdict())
