"""Publishes batches: a bounded window, the most urgent run first, within the cluster's budget.

Any number of processes may call ``tick``; one at a time acts. Redis holds a few messages for each
worker slot, however large the run, so that priority, pause, cancel and a changed rate act within
seconds, and a lost queue is filled again from the ledger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from hal9mig import errors, model, units
from hal9mig.engine import pace
from hal9mig.engine.system import System
from hal9mig.ledger import batches, dispatch, runs, tuning, workers
from hal9mig.ledger import pace as pace_ledger
from hal9mig.ledger.database import Session
from hal9mig.queue import broker
from hal9mig.queue.broker import Message

#: Messages in the queue for each worker slot, beyond what is leased.
WINDOW = 3
#: Seconds to the next tick while batches are under way.
SOON = 0.2
#: Seconds after which the message of a published batch that nobody claims is looked for.
LOOK_AFTER = 3.0
#: Batches that read or write the application's records at their own pace.
_BUDGETED = frozenset({"copy", "save", "export"})
#: Kinds of runs that are held to no budget but their own.
_OF_THEIR_OWN = (model.RunKind.CHECKPOINT, model.RunKind.EXPORT)
#: The account of what the rounds and full passes repair.
REPAIRS = "repairs"
#: What a record is taken to measure before any was copied.
_GUESSED_BYTES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tick:
    """What a tick did: batches published, and the seconds after which the next is worth while."""

    published: int
    again_after: float


def idle(system: System) -> bool:
    """Whether a tick would find nothing to do; a small part of what a tick costs.

    Raises:
        errors.StoreUnreachable: the ledger does not answer.
    """
    with system.ledger.single() as session:
        return not dispatch.anything(session)


def tick(system: System) -> Tick:
    """Find lost leases and messages, move runs along, and publish what may go.

    Raises:
        errors.StoreUnreachable: the ledger does not answer.
    """
    batches.expire(system.ledger)
    _find_lost(system)
    messages: list[Message] = []
    with system.ledger.begin() as session:
        if not dispatch.leader(session):
            return Tick(published=0, again_after=0.5)
        runs.settle(session)
        again_after = _fill(system, session, messages)
    # After the commit: a message that arrived before its row could be read would be thrown away.
    # When publishing fails the rows stay queued, and are found lost some seconds later.
    if messages:
        try:
            system.broker.publish(messages)
        except errors.QueueUnreachable:
            return Tick(published=0, again_after=2.0)
    return Tick(published=len(messages), again_after=again_after)


def _fill(system: System, session: Session, messages: list[Message]) -> float:
    under_way = dispatch.under_way(session)
    waiting = dispatch.waiting(session)
    if not waiting:
        return SOON if under_way else 1.0  # the last batch's end is the run's
    slots = workers.slots(session)
    if not slots:
        for run in waiting:
            runs.wait_reason(session, run.id, "no worker is alive")
        return 1.0
    cluster = tuning.resolve(session)
    felt = pace_ledger.read(session)
    shared = f"migrations since run {dispatch.oldest_migration(session)}"
    leased = sum(one.leased for one in under_way.values())
    room = slots * WINDOW - sum(one.queued for one in under_way.values())
    # The limit on leases counts what is queued too: a queued batch may be leased at any moment.
    room = min(room, cluster.parallel_workers - leased - sum(one.queued for one in under_way.values()))
    full = "its turn" if cluster.parallel_workers > slots else f"parallel-workers {cluster.parallel_workers}"
    again_after = 1.0
    first = waiting[0]
    for run in waiting:
        own = under_way.get(run.id, dispatch.UnderWay(queued=0, leased=0, oldest=0))
        if run.priority > first.priority and room <= 0:
            runs.wait_reason(session, run.id, f"run {first.id} goes first")
            continue
        tuned = tuning.resolve(session, run.tuning)
        paced = tuned.max_impact is not None and run.kind in pace.RUNS
        slow = felt.reason if paced and felt.share < 1 else ""
        lanes = min(room, (1 if run.serial else tuned.parallel_workers) - own.queued - own.leased)
        if lanes <= 0:
            runs.wait_reason(session, run.id, slow if own.queued + own.leased else f"waits for {full}")
            continue
        if not dispatch.lock_active(session, run.id):
            continue  # it is being paused or cancelled at this moment
        rate = budget(run.kind, run.tuning, tuned.rate_limit)
        # What a run may take of its own is owed by it alone: a snapshot's debt must not stop the next migration.
        account = f"run {run.id}" if "rate-limit" in run.tuning else shared
        taken, wait, reason = _take(system, session, run, rate, account, lanes, stops=pace.stops(felt) if paced else "")
        runs.wait_reason(session, run.id, reason or slow)
        if taken:
            attempts = dispatch.queue(session, run.id, [batch.seq for batch in taken])
            messages.extend(_message(run, batch, attempts[batch.seq]) for batch in taken)
            room -= len(taken)
        if wait:
            again_after = min(again_after, wait)
    return again_after if room <= 0 or again_after < 1.0 else SOON


def _take(
    system: System,
    session: Session,
    run: dispatch.WaitingRun,
    rate: units.Rate | None,
    account: str,
    lanes: int,
    *,
    stops: str,
) -> tuple[list[dispatch.Planned], float, str]:
    """Take a run's next batches as far as the budget goes: those, seconds to wait, and why.

    Args:
        stops: why nothing that can wait may go, empty where it may.
    """
    taken: list[dispatch.Planned] = []
    for batch in dispatch.planned(session, run.id, lanes):
        if stops and batch.kind in pace.BATCHES:
            return taken, SOON, stops
        price = _price(rate, batch, run.record_bytes)
        if rate is not None and price:
            try:
                wait = system.throttle.take(account, rate, price)
            except errors.QueueUnreachable:
                # What cannot be observed is not granted.
                return taken, 1.0, "the budget cannot be read (Redis)"
            if wait:
                return taken, wait, f"rate-limit {rate}"
        taken.append(batch)
    # There are planned batches, and none of them may go yet.
    return taken, 0.0, "" if taken else "it waits before it tries again"


def _price(rate: units.Rate | None, batch: dispatch.Planned, record_bytes: int) -> int:
    if rate is None or batch.kind not in _BUDGETED:
        return 0
    if batch.cost is not None:
        return batch.cost
    return cost(rate, batch.records, record_bytes) if batch.records else 0


def budget(kind: model.RunKind, own: Mapping[str, str], cluster: units.Rate | None) -> units.Rate | None:
    """Return the rate that a run is held to.

    The cluster's is for what changes the application's load for days. A restore is what somebody waits for in an
    emergency, and is never paced; a checkpoint and an export have no budget but one of their own.

    Args:
        own: the run's own values of tuning knobs.
        cluster: what is configured, with ``own`` over it.
    """
    if kind is model.RunKind.RESTORE or (kind in _OF_THEIR_OWN and "rate-limit" not in own):
        return None
    return cluster


def cost(rate: units.Rate, records: int, record_bytes: int) -> int:
    """Return what a batch costs in the rate's unit."""
    if rate.unit is units.RateUnit.BATCHES:
        return 1
    return max(1, records if rate.unit is units.RateUnit.RECORDS else records * (record_bytes or _GUESSED_BYTES))


def _find_lost(system: System) -> None:
    """Plan anew what was published and is not in the queue any more.

    A message that a worker took and did not live to claim is lost too; Redis would keep it for hours.
    """
    with system.ledger.single() as session:
        old = {
            broker.task_id(one.category, one.run_id, one.seq, one.attempt): one
            for one in batches.queued(session, seconds=LOOK_AFTER)
        }
    if not old:
        return
    try:
        lost = system.broker.missing(old)
    except errors.QueueUnreachable:
        return
    with system.ledger.begin() as session:
        for task_id in lost:
            batches.requeue(session, old[task_id])


def _message(run: dispatch.WaitingRun, batch: dispatch.Planned, attempt: int) -> Message:
    low = ".." if batch.after is None else "/".join(batch.after)
    high = ".." if batch.upto is None else "/".join(batch.upto)
    return Message(
        run_id=run.id,
        seq=batch.seq,
        attempt=attempt,
        # Planning comes before copying, or an urgent run's batches would wait for a slot to exist.
        priority=model.Priority.HIGH if batch.kind == "plan" else run.priority,
        category=run.category,
        kind=batch.kind,
        range=f"{batch.subject} ({low}, {high}]".strip(),
        correlation=str(run.options.get("correlation", "")),
    )
