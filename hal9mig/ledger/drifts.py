"""Drift in the ledger: each record that differed for no good reason, why, and what was done about it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping, Sequence

from hal9mig import model
from hal9mig.ledger import database
from hal9mig.ledger.verify_results import DifferenceKind

#: Seconds within which repairs of one key are counted.
WINDOW = 3600.0
#: What a repair that worked begins with.
REPAIRED = "repaired"


class Cause(enum.StrEnum):
    """Why a record differs, as far as can be told."""

    MISSED_CAPTURE = "missed capture"
    LATE_APPLY = "late apply"
    FOREIGN_WRITE = "foreign write to the target"
    TRANSFORM_CHANGED = "transform changed"
    QUARANTINE = "quarantine"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What is noted of a record that differs; ``payload`` is what the target held, where it may be lost."""

    key: model.Key
    kind: DifferenceKind
    cause: Cause
    payload: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift:
    """A record that differed; ``repair`` says how it was put right, or why it was not."""

    id: int
    category: str
    key: model.Key
    kind: str
    cause: str
    round: int | None
    found_at: datetime.datetime
    repaired_at: datetime.datetime | None
    repair: str | None
    payload: str | None


def note(session: database.Session, category: str, findings: Sequence[Finding], *, round: int | None) -> set[model.Key]:
    """Note records that differ and return those that had not been noted yet."""
    if not findings:
        return set()
    text = database.json_text([dataclasses.asdict(finding) for finding in findings])
    rows = database.run(session, "reconcile", "note_drifts", category=category, round=round, rows=text)
    return {tuple(row.key) for row in rows if row.new}


def close(session: database.Session, category: str, keys: Sequence[model.Key], repair: str) -> set[model.Key]:
    """Note that records do not differ any more, and how that came; return those that had been open."""
    if not keys:
        return set()
    rows = database.run(
        session, "reconcile", "close_drifts", category=category, keys=database.key_texts(keys), repair=repair
    )
    return {tuple(row.key) for row in rows}


def leave(session: database.Session, category: str, keys: Sequence[model.Key], reason: str) -> None:
    """Note why records were not repaired."""
    _set(session, "leave_drifts", category, keys, reason)


def quarantined(session: database.Session, category: str, keys: Sequence[model.Key], reason: str) -> None:
    """Note that records went to quarantine instead."""
    _set(session, "quarantine_drifts", category, keys, reason)


def _set(session: database.Session, statement: str, category: str, keys: Sequence[model.Key], repair: str) -> None:
    if keys:
        database.run(session, "reconcile", statement, category=category, keys=database.key_texts(keys), repair=repair)


def find(
    session: database.Session,
    *,
    category: str | None = None,
    open: bool = False,
    limit: int = 1000,
) -> Sequence[Drift]:
    """Return drifts, newest first; with ``open`` only those that are not repaired."""
    rows = database.run(session, "reconcile", "drifts", category=category, open=open, limit=limit)
    return [Drift(**{**row._asdict(), "key": tuple(row.key)}) for row in rows]


def repairs(session: database.Session, category: str, keys: Sequence[model.Key]) -> Mapping[model.Key, int]:
    """Return how often each of these keys was repaired lately; keys that were not are left out."""
    rows = database.run(
        session, "reconcile", "repairs", category=category, keys=database.key_texts(keys), seconds=WINDOW
    )
    return {tuple(row.key): row.times for row in rows}


def marked_lately(session: database.Session, category: str, *, seconds: float, limit: int) -> Sequence[model.Key]:
    """Return the keys that were applied to the target lately, the newest first."""
    rows = database.run(session, "reconcile", "marked_lately", category=category, seconds=seconds, limit=limit)
    return [tuple(row.key) for row in rows]


def counts(session: database.Session) -> Mapping[str, tuple[int, int]]:
    """Return how many drifts of each category are open and closed."""
    return {row.category: (row.open, row.closed) for row in database.run(session, "reconcile", "drift_counts")}
