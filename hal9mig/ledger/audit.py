"""The audit in the ledger: what was done, when, by whom, as a chain of hashes in which nothing can be changed unseen.

Each event's seal is the SHA-256 of the seal before it and of the event's own content. An event is sealed a moment
after it was committed, by whoever comes next: sealing it while it is written would make every transaction that
notes something wait for every other, and two that hold other locks too could wait for each other for ever.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Mapping, Sequence

from hal9mig.ledger import database

#: The seal before the first event's.
_FIRST = bytes(32)
#: Events that are read at a time.
_STEP = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that was done: when, by whom, what, and its particulars."""

    id: int
    at: datetime.datetime
    actor: str
    action: str
    run_id: int | None
    detail: Mapping[str, object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SealedChain:
    """What following the chain has shown.

    Attributes:
        events: how many are sealed.
        head: the newest seal in hexadecimal; whoever kept an earlier one can tell that nothing before it was changed.
        broken: the first event that is not as it was sealed, or comes after one that is gone; None where all are sound.
        unsealed: events of the last moment that are not in the chain yet.
    """

    events: int
    head: str
    broken: int | None
    unsealed: int


def log(
    session: database.Session,
    action: str,
    *,
    actor: str,
    run_id: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write an event."""
    database.run(session, "audit", "log_event", actor=actor, action=action, run_id=run_id, detail=dict(detail or {}))


def events(session: database.Session, *, run_id: int | None = None, limit: int = 50) -> Sequence[Event]:
    """Return the newest events first."""
    return [Event(**row._asdict()) for row in database.run(session, "audit", "events", run_id=run_id, limit=limit)]


def seal(session: database.Session) -> int:
    """Add the events that were committed since to the chain, and return how many; call it in a transaction of its own.

    They are taken in the order of their numbers as far as they are visible: one that commits late comes after those
    that were sealed before, which harms nobody.
    """
    if not database.run(session, "audit", "open_events", limit=1).first():
        return 0
    # Two who seal at once would give two events the same place.
    database.run(session, "audit", "lock_chain")
    sealed = 0
    # Read after the lock, in a statement of its own: the one who held it has moved the end.
    last = database.run(session, "audit", "chain_end").first()
    place, previous = (0, _FIRST) if last is None else (int(last.place), bytes(last.seal))
    for row in database.run(session, "audit", "open_events", limit=_STEP).all():
        place, previous = place + 1, _sealed(previous, row.content)
        database.run(session, "audit", "seal_event", id=row.id, place=place, seal=previous)
        sealed += 1
    return sealed


def follow(session: database.Session) -> SealedChain:
    """Follow the chain from its beginning and return what it shows."""
    place, previous, broken = 0, _FIRST, None
    while rows := database.run(session, "audit", "chain", after=place, limit=_STEP).all():
        for row in rows:
            if broken is None and (row.place != place + 1 or bytes(row.seal) != _sealed(previous, row.content)):
                broken = int(row.id)
            place, previous = int(row.place), bytes(row.seal)
    unsealed = int(database.run(session, "audit", "open_count").scalar_one())
    return SealedChain(events=place, head=previous.hex(), broken=broken, unsealed=unsealed)


def _sealed(previous: bytes, content: str) -> bytes:
    return hashlib.sha256(previous + content.encode()).digest()
