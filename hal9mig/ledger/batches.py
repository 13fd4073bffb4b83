"""Batches in the ledger: fenced leases from claim to commit, and what happens when one is lost.

The fence is the attempt number: it goes up with every publication, a claim names it, and every later
statement of the lease repeats it. Whoever has an older one finds no row.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.ledger import database, pace

#: Crashes without progress after which a batch that no single record can be blamed for is failed.
MOST_CRASHES = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lease:
    """A batch as a worker holds it. Counters are those at the time of the claim."""

    run_id: int
    seq: int
    kind: str
    attempt: int
    owner: str
    after: model.Key | None
    upto: model.Key | None
    cursor: model.Key | None
    planned_records: int
    records: int
    quarantined: int
    bytes: int
    digest: int
    step_records: int | None
    crashes: int
    claimed_at: datetime.datetime
    phase: int
    subject: str
    result: Mapping[str, Any] | None
    run_kind: model.RunKind
    category: str
    filter: str
    options: Mapping[str, Any]

    @property
    def worker(self) -> str:
        """The worker process group the owner belongs to."""
        return self.owner.rpartition("/")[0]

    @property
    def name(self) -> str:
        """What people call it, as ``neuron-states run 7 batch 12 attempt 1``."""
        return f"{self.category} run {self.run_id} batch {self.seq} attempt {self.attempt}"

    @property
    def fence(self) -> dict[str, object]:
        """The parameters every statement of this lease repeats."""
        return {"run_id": self.run_id, "seq": self.seq, "attempt": self.attempt, "owner": self.owner}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """A batch's totals after a step."""

    cursor: model.Key | None
    records: int
    quarantined: int
    bytes: int
    digest: int
    step_records: int | None = None


def claim(session: database.Session, *, run_id: int, seq: int, attempt: int, owner: str, lease: float) -> Lease | None:
    """Take a queued batch for ``lease`` seconds; None when it is somebody else's or the run stands still."""
    row = database.run(
        session, "batches", "claim", run_id=run_id, seq=seq, attempt=attempt, owner=owner, lease=lease
    ).first()
    if row is None:
        return None
    values: dict[str, Any] = row._asdict()
    for name in ("after", "upto", "cursor"):
        values[name] = database.key(values.pop(f"{name}_key"))
    return Lease(owner=owner, **values | {"run_kind": model.RunKind(values["run_kind"])})


def extend(session: database.Session, held: Lease, lease: float) -> bool:
    """Keep a lease for ``lease`` seconds more; False when it is lost."""
    return database.run(session, "batches", "extend", lease=lease, **held.fence).first() is not None


def attach_backend(session: database.Session, held: Lease, pid: int) -> None:
    """Note which database session writes for this lease, so that it can be ended when the lease expires.

    Raises:
        errors.LeaseLost: the lease has gone to another.
    """
    if database.run(session, "batches", "attach_backend", pid=pid, **held.fence).first() is None:
        raise errors.LeaseLost(f"{held.name}: the lease was lost before work began.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a step's commit learns about the world: whether its run goes on, its worker stays, and how fast.

    Attributes:
        share: of its time that a worker may spend on what can wait.
    """

    run_status: model.RunStatus
    draining: bool
    share: float

    @property
    def go_on(self) -> bool:
        """Whether to take the next step."""
        return not self.draining and self.run_status in (model.RunStatus.PLANNING, model.RunStatus.RUNNING)


def advance(
    session: database.Session, held: Lease, progress: Progress, *, lease: float, result: str | None = None
) -> Outlook:
    """Move a batch's cursor, in the transaction of the data that was written.

    Raises:
        errors.LeaseLost: the lease has gone to another; the transaction has to roll back.
    """
    row = database.run(
        session,
        "batches",
        "advance",
        lease=lease,
        worker=held.worker,
        result=result,
        stale=pace.STALE,
        **held.fence,
        **dataclasses.asdict(progress),
    ).first()
    if row is None:
        raise errors.LeaseLost(f"{held.name}: the lease was lost; nothing of this step was written.")
    return Outlook(run_status=model.RunStatus(row.run_status), draining=row.draining, share=row.share)


def conclude(
    session: database.Session,
    held: Lease,
    *,
    records: int = 0,
    bytes: int = 0,
    result: Mapping[str, Any] | None = None,
    seconds: float,
) -> None:
    """Mark a batch done that is one step, with what came of it.

    Raises:
        errors.LeaseLost: the lease has gone to another; the transaction has to roll back.
    """
    progress = Progress(cursor=None, records=records, quarantined=0, bytes=bytes, digest=0)
    advance(session, held, progress, lease=60.0, result=None if result is None else database.json_text(result))
    finish(session, held, seconds=seconds)


def finish(session: database.Session, held: Lease, *, seconds: float) -> None:
    """Mark a batch done, in the transaction of its last data.

    Raises:
        errors.LeaseLost: the lease has gone to another; the transaction has to roll back.
    """
    if database.run(session, "batches", "finish", seconds=seconds, **held.fence).first() is None:
        raise errors.LeaseLost(f"{held.name}: the lease was lost; nothing of this step was written.")


def hand_back(
    session: database.Session,
    held: Lease,
    *,
    seconds: float,
    error: str | None = None,
    delay: float = 0.0,
    crashed: bool = False,
) -> bool:
    """Give a batch back with its cursor; after ``delay`` seconds at the earliest it is dispatched again."""
    return (
        database.run(
            session, "batches", "hand_back", error=error, delay=delay, crashed=crashed, seconds=seconds, **held.fence
        ).first()
        is not None
    )


def fail(session: database.Session, held: Lease, *, error: str, seconds: float) -> bool:
    """Mark a batch failed for good."""
    return database.run(session, "batches", "fail", error=error, seconds=seconds, **held.fence).first() is not None


def expire(ledger: database.Ledger) -> int:
    """Plan every batch anew whose lease has run out, and return how many there were.

    A frozen worker may sit inside an open transaction that locks its rows and its ledger row. Its
    sessions are ended first, in a transaction of its own, so that the locks are gone.
    """
    with ledger.single() as session:
        rows = database.run(session, "batches", "expired").all()
        for row in rows:
            _end_sessions(session, row)
    if not rows:
        return 0
    return _expire(ledger, error="the worker fell silent")


def expire_crashed(ledger: database.Ledger, *, run_id: int, seq: int, attempt: int) -> None:
    """Plan a batch anew whose worker process is known to be dead, without waiting for the lease."""
    _expire(ledger, error="the worker process died", run_id=run_id, seq=seq, attempt=attempt)


def _expire(
    ledger: database.Ledger,
    *,
    error: str,
    run_id: int | None = None,
    seq: int | None = None,
    attempt: int | None = None,
) -> int:
    with ledger.begin() as session:
        rows = database.run(
            session, "batches", "expire", run_id=run_id, seq=seq, attempt=attempt, most=MOST_CRASHES, error=error
        ).all()
    # Again, for leases that ran out since the first look.
    with ledger.begin() as session:
        for row in rows:
            _end_sessions(session, row)
    return len(rows)


def _end_sessions(session: database.Session, row: Any) -> None:
    if row.backend_pid is not None:
        database.run(session, "batches", "end_backend", pid=row.backend_pid, until=row.lease_until)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Queued:
    """A batch that was published and not claimed since."""

    run_id: int
    seq: int
    attempt: int
    category: str


def queued(session: database.Session, *, seconds: float) -> Sequence[Queued]:
    """Return the batches that were published ``seconds`` ago or more and never claimed."""
    return [Queued(**row._asdict()) for row in database.run(session, "batches", "queued", seconds=seconds)]


def requeue(session: database.Session, lost: Queued) -> None:
    """Plan a batch anew whose message is gone."""
    database.run(session, "batches", "requeue", run_id=lost.run_id, seq=lost.seq, attempt=lost.attempt)


def listing(session: database.Session, run_id: int) -> Sequence[Mapping[str, Any]]:
    """Return all batches of a run, in order."""
    return [row._asdict() for row in database.run(session, "batches", "list", run_id=run_id)]


def urgent(session: database.Session, run_id: int, *, limit: int) -> Sequence[Mapping[str, Any]]:
    """Return a run's batches, what needs a look first; without the one that has planned them."""
    return [row._asdict() for row in database.run(session, "batches", "urgent", run_id=run_id, limit=limit)]


def statuses(session: database.Session, run_id: int) -> Mapping[model.BatchStatus, int]:
    """Return how many batches of a run stand where, without the one that has planned them."""
    found = {row.status: int(row.batches) for row in database.run(session, "batches", "statuses", run_id=run_id)}
    return {status: found[status] for status in model.BatchStatus if status in found}
