"""Alarms in the ledger: raised once while they last, and on their way to the webhook."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from hal9mig.ledger import database


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alarm:
    """Something that somebody has to look at; ``cleared_at`` is None while it lasts.

    Attributes:
        subject: what it is about, where one name can be raised for several things.
        attempts: how often it was sent; ``delivered_at``: when that worked.
    """

    id: int
    name: str
    subject: str
    message: str
    detail: Mapping[str, object]
    raised_at: datetime.datetime
    cleared_at: datetime.datetime | None
    attempts: int
    delivered_at: datetime.datetime | None


def raise_(
    session: database.Session, name: str, message: str, *, subject: str = "", detail: Mapping[str, object] | None = None
) -> bool:
    """Raise an alarm; False when it has been raised already and lasts."""
    row = database.run(
        session, "reconcile", "raise", name=name, subject=subject, message=message, detail=dict(detail or {})
    ).first()
    return row is not None


def clear(session: database.Session, name: str, *, subject: str | None = None) -> Sequence[str]:
    """End an alarm, for one subject or for all, and return the subjects it had been raised for."""
    return [row.subject for row in database.run(session, "reconcile", "clear", name=name, subject=subject)]


def find(session: database.Session, *, open: bool = False, limit: int = 100) -> Sequence[Alarm]:
    """Return alarms, newest first; only those that last with ``open``."""
    return [Alarm(**row._asdict()) for row in database.run(session, "reconcile", "alarms", open=open, limit=limit)]


def claim(session: database.Session, *, delay: float) -> Alarm | None:
    """Take the next alarm that is to be sent.

    Args:
        delay: seconds until it is taken again should sending fail; they double each time.
    """
    row = database.run(session, "reconcile", "claim_alarm", delay=delay).first()
    return None if row is None else Alarm(**row._asdict())


def delivered(session: database.Session, id: int) -> None:
    """Note that an alarm has arrived."""
    database.run(session, "reconcile", "delivered", id=id)
