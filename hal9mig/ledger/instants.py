"""Instants in the ledger: the exported snapshots a checkpoint is read under, and what runs leave behind.

A snapshot that was exported lives as long as the transaction that exported it. Its keeper says every
few seconds that it does; when the keeper falls silent another takes new snapshots, under a higher
number, and what was read under the old ones is compared anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.ledger import database

#: Kinds of batches that read under a checkpoint's snapshots.
READERS = ("save", "digest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instant:
    """Both stores' snapshots of a checkpoint, by the names PostgreSQL gave them."""

    run_id: int
    number: int
    flat: str
    hierarchical: str
    positions: Mapping[str, Any]

    def snapshot(self, store: model.StoreName) -> str:
        """Return the name of a store's snapshot."""
        return self.flat if store is model.StoreName.FLAT else self.hierarchical


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaving:
    """A run that has ended without success and has left files or tables behind."""

    run_id: int
    kind: model.RunKind
    options: Mapping[str, Any]


def create(session: database.Session, run_id: int) -> None:
    """Ask for an instant: a keeper will take it."""
    database.run(session, "checkpoints", "create", run_id=run_id)


def read(session: database.Session, run_id: int) -> Instant:
    """Return the instant of a checkpoint.

    Raises:
        errors.InstantLost: nobody keeps one just now.
    """
    row = database.run(session, "checkpoints", "read", run_id=run_id).first()
    if row is None or not row.kept or row.flat is None:
        raise errors.InstantLost("A snapshot of both stores is about to be taken.")
    return Instant(
        run_id=run_id, number=row.number, flat=row.flat, hierarchical=row.hierarchical, positions=row.positions
    )


def anything(session: database.Session) -> bool:
    """Whether there is any instant, or anything that a restore has made: else nothing is to be kept or cleared."""
    return bool(database.run(session, "checkpoints", "anything").scalar_one())


def unkept(session: database.Session) -> Sequence[int]:
    """Return the checkpoints under way that need a keeper."""
    return [int(row.run_id) for row in database.run(session, "checkpoints", "unkept")]


def claim(session: database.Session, run_id: int, *, keeper: str, lease: float) -> int | None:
    """Become an instant's keeper, and return its new number; None where another is.

    What was read under older snapshots is planned anew in the same transaction.
    """
    row = database.run(session, "checkpoints", "claim", run_id=run_id, keeper=keeper, lease=lease).first()
    if row is None:
        return None
    database.run(session, "batches", "renew", run_id=run_id, kinds=list(READERS))
    return int(row.number)


def publish(
    session: database.Session,
    run_id: int,
    number: int,
    *,
    keeper: str,
    lease: float,
    flat: str,
    hierarchical: str,
    positions: Mapping[str, Any],
) -> bool:
    """Make snapshots known to the workers; False where another keeps the instant by now."""
    return (
        database.run(
            session, "checkpoints", "publish", run_id=run_id, number=number, keeper=keeper, lease=lease, flat=flat,
            hierarchical=hierarchical, positions=positions,
        ).first()
        is not None
    )  # fmt: skip


def extend(session: database.Session, run_id: int, number: int, *, keeper: str, lease: float) -> bool:
    """Say that the snapshots are still held; False where they are wanted no more."""
    row = database.run(session, "checkpoints", "extend", run_id=run_id, number=number, keeper=keeper, lease=lease)
    return row.first() is not None


def release(session: database.Session, run_id: int, number: int, *, keeper: str) -> None:
    """Say that the snapshots are gone."""
    database.run(session, "checkpoints", "release", run_id=run_id, number=number, keeper=keeper)


def remove(session: database.Session, run_id: int) -> None:
    """Note that a checkpoint leaves nothing behind."""
    database.run(session, "checkpoints", "remove", run_id=run_id)


def shadowed(session: database.Session, run_id: int) -> None:
    """Note that a restore is about to make shadow tables."""
    database.run(session, "checkpoints", "shadowed", run_id=run_id)


def unshadowed(session: database.Session, run_id: int) -> None:
    """Note that a restore's shadow tables are live, or gone."""
    database.run(session, "checkpoints", "unshadowed", run_id=run_id)


def shadowing(session: database.Session) -> Sequence[int]:
    """Return the restores that have shadow tables, or have had them and were ended before they were cleared."""
    return [int(row.run_id) for row in database.run(session, "checkpoints", "shadowing")]


def leavings(session: database.Session) -> Sequence[Leaving]:
    """Return the runs whose leavings are to be cleared; none where another clears them now.

    Holds a lock until the transaction ends.
    """
    rows = database.run(session, "checkpoints", "leavings").all()
    if not rows or not database.run(session, "checkpoints", "lock_leavings").one().mine:
        return []
    return [Leaving(run_id=row.run_id, kind=model.RunKind(row.kind), options=row.options) for row in rows]


def lock_leavings(session: database.Session) -> None:
    """Wait for whoever clears leavings, and keep them from it until the transaction ends."""
    database.run(session, "checkpoints", "wait_leavings")


def lock_ended(session: database.Session, run_id: int) -> bool:
    """Keep a run that has ended from being retried until the transaction ends; False where it was already."""
    return database.run(session, "checkpoints", "lock_ended", run_id=run_id).first() is not None


def positions(session: database.Session) -> Mapping[str, Any]:
    """Return where the ledger stands, as of the transaction's snapshot."""
    return dict(database.run(session, "checkpoints", "positions").one()._asdict())


def standstill(session: database.Session) -> str:
    """Return why the stores must not be compared or repaired now; empty when they may."""
    return str(database.run(session, "checkpoints", "standstill").scalar_one())
