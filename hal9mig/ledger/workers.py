"""Workers in the ledger: which are alive, as they last reported themselves."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

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
    memory_bytes: int
    cpu_percent: float


def report(
    session: database.Session,
    *,
    name: str,
    host: str,
    pid: int,
    slots: int,
    draining: bool,
    memory_bytes: int,
    cpu_percent: float,
) -> None:
    """Note that a worker is alive."""
    database.run(
        session, "workers", "beat", name=name, host=host, pid=pid, slots=slots, draining=draining,
        memory_bytes=memory_bytes, cpu_percent=cpu_percent,
    )  # fmt: skip


def forget(session: database.Session) -> None:
    """Forget the workers that were last heard of a day ago or more."""
    database.run(session, "workers", "forget")


def leave(session: database.Session, *, name: str, pid: int) -> None:
    """Note that a worker has ended in good order."""
    database.run(session, "workers", "leave", name=name, pid=pid)


def alive(session: database.Session) -> Sequence[Worker]:
    """Return the workers heard of lately."""
    return [Worker(**row._asdict()) for row in database.run(session, "workers", "alive", seconds=SILENCE)]


def accepting(session: database.Session) -> Sequence[Worker]:
    """Return the live workers that take batches: all but those that are shutting down."""
    return [worker for worker in alive(session) if not worker.draining]


def last_seen(session: database.Session) -> tuple[datetime.datetime, datetime.datetime | None]:
    """Return the ledger's time, and when any worker was last heard of; None where none has left a trace."""
    row = database.run(session, "workers", "last_seen").one()
    return row.now, row.seen


def slots(session: database.Session) -> int:
    """Return how many batches the live workers take at once."""
    return sum(worker.slots for worker in accepting(session))
