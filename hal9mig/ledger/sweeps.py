"""How far the rolling comparison of each category is, and when one last found nothing."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping

from hal9mig import model
from hal9mig.ledger import database


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """A category's pass.

    Attributes:
        position: the last key looked at; None before the first and after the last one.
        number: the pass that is under way or comes next.
        records, differing: what the pass has looked at and found.
        clean_from, clean_until: start and end of the newest whole pass that found nothing.
    """

    category: str
    position: model.Key | None
    number: int
    began: datetime.datetime
    records: int
    differing: int
    clean_from: datetime.datetime | None
    clean_until: datetime.datetime | None


def find(session: database.Session) -> Mapping[str, Sweep]:
    """Return every category's pass."""
    return {
        row.category: Sweep(**{**row._asdict(), "position": database.key(row.position)})
        for row in database.run(session, "reconcile", "sweeps")
    }


def begin(session: database.Session, category: str, *, distrust: bool = False) -> None:
    """Begin a pass over a category; one that is under way is given up.

    Args:
        distrust: forget that an earlier pass was clean.
    """
    database.run(session, "reconcile", "add_sweep", category=category)
    database.run(session, "reconcile", "begin_pass", category=category, distrust=distrust)


def passed(session: database.Session, category: str, *, since: datetime.datetime) -> None:
    """Note that a whole pass that began at a moment, beside the rolling one, found nothing."""
    database.run(session, "reconcile", "add_sweep", category=category)
    database.run(session, "reconcile", "passed", category=category, since=since)


def advance(
    session: database.Session, category: str, *, position: model.Key | None, records: int, differing: int
) -> None:
    """Note a range that was looked at."""
    database.run(
        session, "reconcile", "advance", category=category, position=position, records=records, differing=differing
    )


def add(session: database.Session, category: str, *, differing: int) -> None:
    """Count records that were found to differ beside the pass."""
    database.run(session, "reconcile", "add_differing", category=category, differing=differing)


def end(session: database.Session, category: str) -> bool:
    """End a pass and return whether it found nothing."""
    return bool(database.run(session, "reconcile", "end_pass", category=category).scalar_one())
