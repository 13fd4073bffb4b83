"""What was done in all since the ledger was made, as counters that only grow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hal9mig.ledger import database


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What the runs of a kind did to a category; ``busy_seconds`` are those of all workers together."""

    kind: str
    category: str
    records: int
    quarantined: int
    bytes: int
    busy_seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What the rounds did: records compared, found to differ, and repaired."""

    rounds: int
    failed: int
    compared: int
    found: int
    repaired: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Totals:
    """All of it; ``ended`` is the number of runs by kind and by how they ended."""

    work: Sequence[Work]
    ended: Mapping[tuple[str, str], int]
    reconciled: Reconciled


def read(session: database.Session) -> Totals:
    """Return what was done in all."""
    return Totals(
        work=[Work(**row._asdict()) for row in database.run(session, "totals", "work")],
        ended={(row.kind, row.status): row.runs for row in database.run(session, "totals", "ended")},
        reconciled=Reconciled(**database.run(session, "totals", "reconciled").one()._asdict()),
    )
