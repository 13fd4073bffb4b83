"""What the dispatcher reads and writes: what is under way, what could go next, what was published."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import model
from hal9mig.ledger import database
from hal9mig.ledger.run_options import TunedOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaitingRun:
    """A run that has planned batches; ``record_bytes`` is the mean size of what it has copied so far."""

    id: int
    category: str
    priority: model.Priority
    kind: model.RunKind
    serial: bool
    options: Mapping[str, Any]
    record_bytes: int

    @property
    def tuning(self) -> dict[str, str]:
        """The run's own values of tuning knobs."""
        return TunedOptions.of(self.options).tuning


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A batch that could be published.

    Attributes:
        cost: what it takes of its run's own budget, in that budget's unit; None is what its records come to.
    """

    seq: int
    kind: str
    attempt: int
    records: int
    cost: int | None
    after: model.Key | None
    upto: model.Key | None
    subject: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnderWay:
    """How many batches of a run are queued and leased, and the seconds the oldest queued one waits."""

    queued: int
    leased: int
    oldest: float


#: How long the one dispatcher may be silent in its transaction before the server ends it.
PATIENCE = "10s"


def leader(session: database.Session) -> bool:
    """Try to be the one dispatcher until the transaction ends."""
    return bool(database.run(session, "batches", "leader", patience=PATIENCE).one().leader)


def anything(session: database.Session) -> bool:
    """Whether a tick could find anything to do: a run that moves, or a batch that is out."""
    return bool(database.run(session, "batches", "anything").scalar_one())


def lock_active(session: database.Session, run_id: int) -> bool:
    """Keep a run from being paused or cancelled until the transaction ends; False where it is already."""
    return database.run(session, "batches", "lock_active", run_id=run_id).first() is not None


def under_way(session: database.Session) -> dict[int, UnderWay]:
    """Return what is in the queue or in workers' hands, by run."""
    return {
        row.run_id: UnderWay(queued=row.queued, leased=row.leased, oldest=float(row.oldest or 0))
        for row in database.run(session, "batches", "under_way")
    }


def oldest_migration(session: database.Session) -> int:
    """Return the run whose number names the account of the cluster's budget; 0 without one.

    While it goes on, all migrations share one account. With its end its debt ends too: what it took ahead of the
    rate and did not live to pay off must not keep the next one waiting.
    """
    return int(database.run(session, "batches", "oldest_migration").scalar_one())


def busy(session: database.Session) -> bool:
    """Whether any batch waits for a worker or is in one's hands."""
    return bool(database.run(session, "batches", "busy").scalar_one())


def waiting(session: database.Session) -> Sequence[WaitingRun]:
    """Return the runs that have planned batches, the most urgent first."""
    return [
        WaitingRun(**{**row._asdict(), "priority": model.Priority(row.priority), "kind": model.RunKind(row.kind)})
        for row in database.run(session, "batches", "dispatchable")
    ]


def planned(session: database.Session, run_id: int, limit: int) -> Sequence[Planned]:
    """Return and lock a run's next batches, in order."""
    return [
        Planned(
            seq=row.seq, kind=row.kind, attempt=row.attempt, records=max(0, row.records), cost=row.cost,
            after=database.key(row.cursor_key or row.after_key), upto=database.key(row.upto_key), subject=row.subject,
        )
        for row in database.run(session, "batches", "next_planned", run_id=run_id, limit=limit)
    ]  # fmt: skip


def queue(session: database.Session, run_id: int, seqs: Sequence[int]) -> dict[int, int]:
    """Mark batches as published and return each one's new attempt number."""
    rows = database.run(session, "batches", "queue", run_id=run_id, seqs=list(seqs))
    return {row.seq: row.attempt for row in rows}
