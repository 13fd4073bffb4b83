"""The reconciler's rounds in the ledger: one at a time, and none before its time."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from hal9mig.ledger import database

#: Part of the interval that has to have passed since the last round began, so that a second beat's call is none.
_DUE = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """A round: what it did, and what waited in the journal at its end.

    Attributes:
        applied: journalled keys that it applied itself.
        compared: records of both stores that were compared; ``seconds`` that took.
        found: records that differed; ``repaired`` of them were put right.
    """

    id: int
    began: datetime.datetime
    ended: datetime.datetime | None
    applied: int
    compared: int
    found: int
    repaired: int
    lag_records: int
    lag_seconds: float
    seconds: float
    error: str | None


def lock(session: database.Session) -> bool:
    """Try to be the only one who does rounds, until the transaction ends."""
    return bool(database.run(session, "reconcile", "lock_round").scalar_one())


def due(session: database.Session, interval: float) -> bool:
    """Whether it is time for a round."""
    return bool(database.run(session, "reconcile", "due", seconds=interval * _DUE).scalar_one())


def begin(session: database.Session) -> int:
    """Note that a round begins and return its number."""
    return int(database.run(session, "reconcile", "begin_round").scalar_one())


def end(
    session: database.Session,
    id: int,
    *,
    applied: int = 0,
    compared: int = 0,
    found: int = 0,
    repaired: int = 0,
    lag_records: int = 0,
    lag_seconds: float = 0.0,
    seconds: float = 0.0,
    error: str | None = None,
) -> None:
    """Note what a round did."""
    database.run(
        session, "reconcile", "end_round", id=id, applied=applied, compared=compared, found=found, repaired=repaired,
        lag_records=lag_records, lag_seconds=lag_seconds, seconds=seconds, error=error,
    )  # fmt: skip


def newest(session: database.Session, *, limit: int = 10) -> Sequence[Round]:
    """Return the newest rounds first."""
    return [Round(**row._asdict()) for row in database.run(session, "reconcile", "rounds", limit=limit)]


def prune(session: database.Session) -> None:
    """Forget rounds of more than a month ago."""
    database.run(session, "reconcile", "prune_rounds")
