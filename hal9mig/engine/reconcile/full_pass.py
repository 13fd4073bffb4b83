"""A full pass: every record of a category compared and repaired now, by the workers, as a run like any other.

A batch is a range of keys: looked at in spans, what looks different judged, and repaired as the order says. When
all are done the last batch closes the pass. One that found nothing is what the gate asks for; after one that
repaired something all of it is looked at once more, a few times at most.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.engine import dispatcher, pace, reconciliation_log
from hal9mig.engine.compare import judge
from hal9mig.engine.compare.judge import Sides
from hal9mig.engine.desk import Desk
from hal9mig.engine.reconcile import sweep
from hal9mig.engine.reconcile.reconciler import differing
from hal9mig.engine.reconcile.repair import Action, Mender, Outcome, RepairPolicy
from hal9mig.engine.system import System
from hal9mig.engine.transfer import planner
from hal9mig.ledger import audit, batches, database, instants, runs, sweeps, tuning
from hal9mig.ledger.database import Session
from hal9mig.ledger.drifts import Cause
from hal9mig.ledger.run_options import PassOptions
from hal9mig.ledger.verify_results import DifferenceKind
from hal9mig.stores import write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode

SETTLE, CLOSE = "settle", "close"
#: Records of a batch.
_BATCH = 50_000
#: Passes after which what still turns up is left: somebody makes it as fast as it is repaired.
_MOST_PASSES = 3
#: Drifts that a batch lists; it counts them all.
_MOST_LISTED = 5000
#: Seconds that repairs wait for the budget: somebody waits for them.
_PATIENCE = 60.0
#: The number of the batch that closes the first pass; planned ones come before it.
_FIRST_CLOSE = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class PassOrder:
    """What is compared, and what is done about drift.

    Attributes:
        insist: repair what was repaired again and again, too: an operator wants it.
        of: a run that has compared before; only the ranges in which it found something are looked at.
    """

    category: str
    policy: RepairPolicy
    insist: bool = False
    of: int | None = None

    def options(self) -> PassOptions:
        """Return it as a run keeps it."""
        return PassOptions(policy=str(self.policy), insist=self.insist, of_run=self.of, batch=_BATCH)

    @classmethod
    def from_options(cls, category: str, options: Mapping[str, Any]) -> PassOrder:
        """Read what ``options`` returned."""
        kept = PassOptions.of(options)
        return cls(category=category, policy=RepairPolicy(kept.policy), insist=kept.insist, of=kept.of_run)


@dataclasses.dataclass(kw_only=True)
class Found:
    """What a run has found in a category: records of its last pass, what became of each drift, whether it was clean.

    Attributes:
        unlisted: drifts that are counted and not among ``outcomes``.
    """

    category: str
    compared: int = 0
    outcomes: dict[model.Key, Outcome] = dataclasses.field(default_factory=dict)
    unlisted: int = 0
    clean: bool = False


def start(system: System, order: PassOrder, *, actor: str) -> model.Run:
    """Start a pass and return its run.

    Raises:
        errors.Refused: the write mode is being switched, or a restore is under way.
        errors.UnknownCategory: there is none of this name.
        errors.Unreachable: a server does not answer.
    """
    category = system.category(order.category)
    system.broker.ping()
    with contextlib.closing(system.hier()) as hier:
        state = write_mode.state(hier)
    if state.mode is Mode.CLOSED:
        raise errors.Refused("The write mode is being switched.", hint="hal9-migrate mode")
    with system.ledger.begin() as session:
        reason = instants.standstill(session)
        if reason:
            raise errors.Refused(f"The stores are not to be repaired now: {reason}.", hint="hal9-migrate mode")
        run_id = runs.create(
            session, kind=model.RunKind.RECONCILE, category=category.slug, priority=model.Priority.HIGH, filter="",
            options=order.options().stored(), serial=False, actor=actor,
        )  # fmt: skip
    dispatcher.tick(system)
    with system.ledger.begin() as session:
        return runs.get(session, run_id)


# Batches


def plan(
    session: Session, held: batches.Lease, category: Category, tuned: tuning.Tuning, *, flat: Connection, lease: float
) -> bool:
    """Plan a pass's ranges, and the batch that closes it; False when stop was asked for in between.

    Raises:
        errors.LeaseLost: another worker plans now.
    """
    order = PassOrder.from_options(held.category, held.options)
    with session.begin():
        # Only whoever holds the lease plans, so nobody else adds it meanwhile.
        if not any(batch["kind"] == CLOSE for batch in batches.listing(session, held.run_id)):
            runs.add_batches(session, held.run_id, CLOSE, [runs.NewBatch(seq=_FIRST_CLOSE, phase=1)])
    if order.of is None:
        return planner.plan(session, held, category, tuned, flat=flat, lease=lease)
    started = time.monotonic()
    with session.begin():
        again = [one for one in _ranges(session, order.of) if one["result"] and one["result"]["drifted"]]
        new = [_range(one, seq=number, phase=0) for number, one in enumerate(again, start=1)]
        runs.add_batches(session, held.run_id, SETTLE, new)
        batches.finish(session, held, seconds=time.monotonic() - started)
        runs.finish_planning(session, held.run_id)
    return True


def settle(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: tuning.Tuning) -> bool:
    """Compare a range span by span and repair what drifted; False when stop was asked for in between.

    A repair is an applied key, which may be done twice; what came of it is noted behind the lease's fence.

    Raises:
        errors.LeaseLost: another worker has it now; nothing of the span was noted.
        errors.StaleEpoch, errors.GateClosed: the write mode was, or is being, switched; it begins the span anew.
        psycopg2.Error: a server failed.
    """
    started = time.monotonic()
    order = PassOrder.from_options(held.category, held.options)
    mender = Mender(system, policy=order.policy, insist=order.insist, patience=_PATIENCE)
    result = dict(held.result or {"compared": 0, "drifted": 0, "differing": 0, "repaired": 0, "outcomes": []})
    after = held.cursor or held.after
    while True:
        began = time.monotonic()
        both = sides(system, desk, system.category(held.category))
        looked = sweep.look(both, after, until=held.upto)
        found = mender.settle(both, looked.suspects)
        both.require_same()
        _add(result, looked.records, found)
        progress = batches.Progress(
            cursor=looked.upto or held.upto or after, records=result["compared"], quarantined=0, bytes=0, digest=0
        )
        with session.begin():
            standing = batches.advance(
                session, held, progress, lease=system.settings.lease_duration, result=database.json_text(result)
            )
            if looked.upto is None:
                batches.finish(session, held, seconds=time.monotonic() - started)
        if looked.upto is None:
            reconciliation_log.note(
                system.settings, "pass", category=held.category, run=held.run_id, batch=held.seq,
                **{name: result[name] for name in ("compared", "drifted", "repaired")},
            )  # fmt: skip
            return True
        if not pace.go_on(standing, tuned, time.monotonic() - began):
            return False
        after = looked.upto


def close(system: System, held: batches.Lease, session: Session) -> bool:
    """Close a pass: clean, or once more where something was repaired.

    Raises:
        errors.LeaseLost: another worker has it now.
    """
    started = time.monotonic()
    order = PassOrder.from_options(held.category, held.options)
    with session.begin():
        done = _of_phase(session, held.run_id, held.phase - 1)
        clean = not any(one["result"]["differing"] for one in done)
        repaired = any(one["result"]["repaired"] for one in done)
        batches.conclude(session, held, result={"clean": clean}, seconds=time.monotonic() - started)
        if clean and order.of is None and done:
            sweeps.passed(session, held.category, since=min(one["started_at"] for one in done))
        if repaired and order.of is None and (held.phase + 1) // 2 < _MOST_PASSES:
            base, phase = held.seq, held.phase + 1
            again = [_range(one, seq=base + number, phase=phase) for number, one in enumerate(done, start=1)]
            runs.add_batches(session, held.run_id, SETTLE, again)
            last = runs.NewBatch(seq=base + _FIRST_CLOSE, phase=phase + 1)
            runs.add_batches(session, held.run_id, CLOSE, [last])
    return True


def _add(result: dict[str, Any], records: int, found: Sequence[Outcome]) -> None:
    result["compared"] += records
    result["drifted"] += len(found)
    result["differing"] += differing(found)
    result["repaired"] += sum(one.repaired for one in found)
    room = _MOST_LISTED - len(result["outcomes"])
    result["outcomes"] += [
        [list(one.key), str(one.kind), str(one.cause), str(one.action), one.reason] for one in found[:room]
    ]


def _range(one: Mapping[str, Any], *, seq: int, phase: int) -> runs.NewBatch:
    after, upto = one["after_key"], one["upto_key"]
    return runs.NewBatch(
        seq=seq, after=after and tuple(after), upto=upto and tuple(upto), records=one["planned_records"], phase=phase
    )  # fmt: skip


def _ranges(session: Session, run_id: int) -> list[Mapping[str, Any]]:
    return [one for one in batches.listing(session, run_id) if one["kind"] == SETTLE]


def _of_phase(session: Session, run_id: int, phase: int) -> list[Mapping[str, Any]]:
    return [one for one in _ranges(session, run_id) if one["phase"] == phase]


def sides(system: System, desk: Desk, category: Category) -> Sides:
    """Return both sides of a category on this process's connections.

    Raises:
        errors.GateClosed: the write mode is being switched, or a restore is under way.
    """
    flat, hier = desk.flat("reconcile"), desk.hier("reconcile")
    state = write_mode.state(hier)
    hier.rollback()
    if state.mode is Mode.CLOSED:
        raise errors.GateClosed("The write mode is being switched.")
    with system.ledger.begin() as session:
        reason = instants.standstill(session)
        if reason:
            raise errors.GateClosed(f"The stores are not to be repaired now: {reason}.")
        return judge.sides(session, category, state, flat=flat, hier=hier)


# What came of it


def found(session: Session, run: model.Run) -> Found:
    """Return what a pass has found by now."""
    told = Found(category=run.category)
    last = 0
    for one in batches.listing(session, run.id):
        if one["kind"] == CLOSE and one["result"]:
            told.clean = bool(one["result"]["clean"])
        if one["kind"] != SETTLE or not one["result"]:
            continue
        if one["phase"] > last:
            last, told.compared = one["phase"], 0
        result = one["result"]
        told.compared += result["compared"]
        told.unlisted += max(0, result["drifted"] - len(result["outcomes"]))
        for key, kind, cause, action, reason in result["outcomes"]:
            told.outcomes[tuple(key)] = Outcome(
                category=run.category, key=tuple(key), kind=DifferenceKind(kind), cause=Cause(cause),
                action=Action(action), reason=reason,
            )  # fmt: skip
    return told


def ordered(session: Session, actor: str, policy: RepairPolicy, started: Sequence[model.Run]) -> None:
    """Note in the audit that an operator has ordered passes."""
    detail = {"fix_mode": str(policy), "runs": [run.id for run in started]}
    audit.log(session, "reconcile", actor=actor, detail=detail)
