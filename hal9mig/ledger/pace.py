"""How much the application feels of work that can wait, and how much of their time workers may spend on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from hal9mig.ledger import database

#: Seconds after which a look is too old to go by.
STALE = 6.0
#: What is said where nothing can be told.
UNKNOWN = "the application's condition is not known"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Felt:
    """What the application feels: seconds of a small write and read, sessions at work, and sessions that wait."""

    write: float = 0.0
    read: float = 0.0
    active: float = 0.0
    waiting: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """What is felt now and in quiet, and what follows.

    Attributes:
        share: of their time that workers may spend; 0 is to stand still.
        reason: why that is not all; empty where it is.
        age, quiet_age: seconds since a look told something, and since one without any work; None is never.
    """

    now: Felt
    quiet: Felt
    share: float
    reason: str
    age: float | None
    quiet_age: float | None

    @property
    def stale(self) -> bool:
        """Whether the last look is too old to go by."""
        return self.age is None or self.age > STALE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """A turn to look.

    Attributes:
        quiet: no such work is in anybody's hands.
        category: one that is worked.
        own: each run's own bound, as it was written; empty where it is the cluster's.
    """

    quiet: bool
    category: str
    own: Collection[str]


def read(session: database.Session) -> Pace:
    """Return what was last found."""
    row = database.run(session, "pace", "read").one()
    return Pace(
        now=Felt(write=row.write, read=row.read, active=row.active, waiting=row.waiting),
        quiet=Felt(
            write=row.quiet_write, read=row.quiet_read, active=row.quiet_active, waiting=row.quiet_waiting
        ),
        share=row.share, reason=row.reason,
        age=None if row.age is None else float(row.age),
        quiet_age=None if row.quiet_age is None else float(row.quiet_age),
    )  # fmt: skip


def turn(session: database.Session, *, every: float, kinds: Collection[str], batches: Collection[str]) -> Turn | None:
    """Return a turn to look, at most one each ``every`` seconds and only while runs of these kinds are under way."""
    row = database.run(session, "pace", "turn", every=every, kinds=list(kinds), batches=list(batches)).first()
    return None if row is None else Turn(quiet=row.quiet, category=row.category, own=row.own)


def note(session: database.Session, found: Pace, *, quiet: bool) -> None:
    """Keep what a look found."""
    database.run(
        session, "pace", "note", quiet=quiet, share=found.share, reason=found.reason,
        quiet_write=found.quiet.write, quiet_read=found.quiet.read, quiet_active=found.quiet.active,
        quiet_waiting=found.quiet.waiting, **dataclasses.asdict(found.now),
    )  # fmt: skip


def refuse(session: database.Session, reason: str) -> None:
    """Have everything that can wait stand still, for want of a look that tells something."""
    database.run(session, "pace", "refuse", reason=reason)
