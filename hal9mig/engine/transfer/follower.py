"""Follows the ruling store's journal: applies the keys it holds to the other store, and prunes them.

A key leaves the journal after it has been applied, so a kill in between applies it once more, which
changes nothing. Rows are taken by what is visible, never by number, so a transaction that commits
late is not passed over.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from hal9mig import errors, model
from hal9mig.engine.system import System
from hal9mig.engine.transfer import applier, fence
from hal9mig.engine.transfer.applied import Applied
from hal9mig.engine.transfer.returner import Returner
from hal9mig.ledger import database, dispatch, workers
from hal9mig.queue import app as queue_app
from hal9mig.stores import capture, restore_notes, write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode

#: Keys that are applied in one transaction.
CHUNK = 500
#: Seconds a worker stays with a lane before it looks at other work.
TURN = 2.0
#: Seconds from one call of workers to the journal to the next, whoever makes them.
CALL_EVERY = 0.25
#: Seconds from one look at a journal that nobody applies to the next.
_BOUND_EVERY = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Followed:
    """What was applied, and whether the journal's lane was empty at the end."""

    written: int
    deleted: int
    rejected: int
    emptied: bool


def apply(
    system: System,
    flat: Connection,
    hier: Connection,
    side: model.StoreName,
    category: str,
    keys: list[model.Key],
    *,
    restores: int,
) -> Applied:
    """Bring keys of the other store to what the ruling ``side`` says now.

    Args:
        restores: what ``restores`` returned before it was looked up which keys these are.
    """
    transform = system.transform(category)
    if side is model.StoreName.FLAT:
        return applier.apply(system.ledger, flat, transform, keys, restores=restores)
    return Returner(transform, flat=flat, hier=hier, restores=restores).apply(keys)


def restores(flat: Connection, hier: Connection, side: model.StoreName) -> int:
    """Return how many restores the store that is applied to has been through, where ``side`` rules."""
    with hier if side is model.StoreName.FLAT else flat as target:
        return restore_notes.count(target)


def follow(
    system: System,
    flat: Connection,
    hier: Connection,
    side: model.StoreName,
    *,
    seconds: float,
    lane: int = 0,
    lanes: int = 1,
) -> Followed:
    """Apply a lane of the journal until it is empty or the time is up.

    Raises:
        psycopg2.Error, errors.Unreachable: a server failed; what was not pruned is applied again.
    """
    source = flat if side is model.StoreName.FLAT else hier
    ends = time.monotonic() + seconds
    written = deleted = rejected = 0
    # Others are declared elsewhere: another worker's settings name their file.
    known = [category.slug for category in system.registry.ordered()]
    refused = 0
    while True:
        before = restores(flat, hier, side)
        entries = capture.entries(source, known, limit=CHUNK, lane=lane, lanes=lanes, after=refused)
        for category in sorted({entry.category for entry in entries}):
            mine = [entry for entry in entries if entry.category == category]
            try:
                keys = [entry.key for entry in mine]
                applied = apply(system, flat, hier, side, category, keys, restores=before)
            except errors.StaleEpoch:
                # A switch came in between: whoever it was that brought these keys over, it is done.
                return Followed(written=written, deleted=deleted, rejected=rejected, emptied=False)
            # A rejected key is in quarantine now, which holds it; in the way back there is none, and
            # the journal keeps it, so that the way back stays shut until somebody has looked.
            kept = set(applied.rejected) if side is model.StoreName.HIERARCHICAL else set()
            capture.prune(source, [entry for entry in mine if entry.key not in kept])
            # Those that are kept are not taken twice, or a few hundred of them would hide what comes after them.
            refused = max((refused, *(min(entry.ids) for entry in mine if entry.key in kept)))
            written += len(applied.written)
            deleted += len(applied.deleted)
            rejected += len(applied.rejected)
        if not entries or time.monotonic() > ends:
            return Followed(written=written, deleted=deleted, rejected=rejected, emptied=not entries)


class Caller:
    """Sends workers to the ruling store's journal when it holds something; each worker's parent has one."""

    def __init__(self, system: System, *, clock: Callable[[], float] = time.monotonic):
        self._system = system
        self._clock = clock
        self._bound_after = float("-inf")
        self._called = float("-inf")

    def call(self, flat: Connection, hier: Connection) -> int:
        """Send a task for each lane that nobody follows, and return how many were sent.

        While batches wait one slot is left to them: what is followed comes before them in the queue, and
        an application that writes without a pause would keep a migration from ever going on.

        Raises:
            psycopg2.Error, errors.Unreachable: a server failed.
        """
        now = write_mode.state(hier)
        hier.rollback()
        if now.mode is Mode.FLAT_ONLY:
            self._bound(flat)
        if now.mode not in (Mode.DUAL_WRITE, Mode.HIERARCHICAL_ONLY):
            return 0
        source = flat if now.mode is Mode.DUAL_WRITE else hier
        if not capture.rows(source, most=1):
            return 0
        with self._system.ledger.begin() as session:
            accepting = workers.accepting(session)
            slots = sum(worker.slots for worker in accepting)
            kept = 1 if dispatch.busy(session) else 0
            # All workers' parents call: in turn, so that together they send no more than one of them would, and
            # without a chief whose death would be noticed late. The only slot is shared in turn too.
            pause = max(CALL_EVERY * len(accepting), 2 * TURN if slots <= kept else 0.0)
            if self._clock() - self._called < pause:
                return 0
            most = CHUNK * max(1, slots - kept)
            waiting = capture.rows(source, most=most)
            lanes = max(1, min(slots - kept, -(-waiting // CHUNK)))
            free = free_lanes(session, lanes)
        shown = f"at least {waiting}" if waiting == most else str(waiting)
        for lane in free:
            self._system.broker.control(
                queue_app.FOLLOW_TASK, (lane, lanes), shown=f"lane {lane + 1} of {lanes}, {shown} waiting", expires=10.0
            )
        self._called = self._clock()
        return len(free)

    def _bound(self, flat: Connection) -> None:
        """Keep the journal short after a way back: it is filled, so that dual-write can go on, and nobody applies."""
        if self._clock() < self._bound_after:
            return
        self._bound_after = self._clock() + _BOUND_EVERY
        if capture.rows(flat, most=CHUNK + 1) > CHUNK:
            capture.compact(flat)


def work(system: System, flat: Connection, hier: Connection, *, lane: int, lanes: int) -> Followed | None:
    """Follow a lane for a short while; None when somebody else does or there is nothing to follow."""
    now = write_mode.state(hier)
    hier.rollback()
    if now.mode not in (Mode.DUAL_WRITE, Mode.HIERARCHICAL_ONLY):
        return None
    with system.ledger.begin() as session:
        # Frozen, it would keep the lane from everybody else; keys are locked one by one in any case.
        session.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{2 * fence.FROZEN:.0f}s'")
        if not lane_lock(session, lane):
            return None
        return follow(system, flat, hier, now.mode.ruling, seconds=TURN, lane=lane, lanes=lanes)


def lane_lock(session: database.Session, lane: int) -> bool:
    """Try to be the only one on a lane until the transaction ends."""
    return bool(database.run(session, "live", "lane", lane=lane).scalar_one())


def free_lanes(session: database.Session, lanes: int) -> list[int]:
    """Return those of the first lanes that nobody is on at this moment."""
    return [row.lane for row in database.run(session, "live", "free_lanes", lanes=lanes)]
