"""Which workers are alive, and the audit of what was done."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from hal9mig.ledger import database

#: Seconds of silence after which a worker counts as gone; it writes every two.
SILENCE = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker process group as it last reported itself."""

    name: str
    host: str
    pid: int
    slots: int
    started_at: datetime.datetime
    seen_at: datetime.datetime
    draining: bool
    rss_bytes: int
    cpu_percent: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that was done: when, by whom, what, and its particulars."""

    id: int
    at: datetime.datetime
    actor: str
    action: str
    run_id: int | None
    detail: Mapping[str, object]


def report(
    session: database.Session,
    *,
    name: str,
    host: str,
    pid: int,
    slots: int,
    draining: bool,
    rss_bytes: int,
    cpu_percent: float,
) -> None:
    """Note that a worker is alive."""
    database.run(
        session, "workers", "beat", name=name, host=host, pid=pid, slots=slots, draining=draining,
        rss_bytes=rss_bytes, cpu_percent=cpu_percent,
    )  # fmt: skip


def leave(session: database.Session, *, name: str, pid: int) -> None:
    """Note that a worker has ended in good order."""
    database.run(session, "workers", "leave", name=name, pid=pid)


def alive(session: database.Session) -> Sequence[Worker]:
    """Return the workers heard of lately."""
    return [Worker(**row._mapping) for row in database.run(session, "workers", "alive", seconds=SILENCE)]


def log(
    session: database.Session,
    action: str,
    *,
    actor: str,
    run_id: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write an event."""
    database.run(session, "workers", "log_event", actor=actor, action=action, run_id=run_id, detail=dict(detail or {}))


def events(session: database.Session, *, run_id: int | None = None, limit: int = 50) -> Sequence[Event]:
    """Return the newest events first."""
    return [Event(**row._mapping) for row in database.run(session, "workers", "events", run_id=run_id, limit=limit)]
