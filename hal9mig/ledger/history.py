"""The history of a migration as a report tells it: how fast it went, what drifted, what was held back."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from hal9mig.ledger import database

#: Steps into which the time of all migrations is cut for a plot.
_STEPS = 120


@dataclasses.dataclass(frozen=True, kw_only=True)
class PacePoint:
    """Records of a category whose batches ended within the step that begins at ``at``; ``seconds`` is its length."""

    category: str
    at: datetime.datetime
    records: int
    seconds: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftCause:
    """Drifts of one kind and cause, and what became of them."""

    category: str
    kind: str
    cause: str
    repair: str
    drifts: int
    first: datetime.datetime
    left_open: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldCause:
    """Records in quarantine for one reason."""

    category: str
    status: str
    error: str
    records: int
    first: datetime.datetime


def pace(session: database.Session, *, span: float, since: datetime.datetime | None = None) -> Sequence[PacePoint]:
    """Return how many records were migrated when.

    Args:
        span: seconds from the first batch to the last.
        since: when to begin; None is the first batch.
    """
    seconds = _step(span)
    return _points(database.run(session, "phases", "pace_of_batches", seconds=seconds, since=since), seconds)


def pace_of_run(session: database.Session, run_id: int, *, span: float) -> Sequence[PacePoint]:
    """Return how many records a run did when, whatever its kind; ``span`` is its seconds."""
    seconds = _step(span)
    return _points(database.run(session, "phases", "pace_of_run", seconds=seconds, run_id=run_id), seconds)


def _step(span: float) -> int:
    return max(1, round(span / _STEPS))


def _points(rows: Iterable[Any], seconds: int) -> Sequence[PacePoint]:
    return [
        PacePoint(
            category=row.category,
            at=datetime.datetime.fromtimestamp(int(row.at), datetime.UTC),
            records=int(row.records),
            seconds=seconds,
        )
        for row in rows
    ]


def drift_causes(session: database.Session) -> Sequence[DriftCause]:
    """Return all drifts, counted by what they were."""
    return [DriftCause(**row._asdict()) for row in database.run(session, "phases", "drift_causes")]


def held_causes(session: database.Session, *, limit: int = 50) -> Sequence[HeldCause]:
    """Return what is or was in quarantine, counted by reason, the most frequent first."""
    return [HeldCause(**row._asdict()) for row in database.run(session, "phases", "quarantine_causes", limit=limit)]


def newest_event(session: database.Session) -> tuple[int, datetime.datetime] | None:
    """Return number and time of the newest event: which state of the ledger this is."""
    row = database.run(session, "phases", "last_event").first()
    return None if row is None else (int(row.id), row.at)
