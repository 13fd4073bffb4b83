"""Runs in the ledger: creating, reading, and moving along their transition table."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2

from hal9mig import errors, logs, model, traces
from hal9mig.ledger import audit, database
from hal9mig.ledger.run_options import KeptOptions

_FIELDS = frozenset(field.name for field in dataclasses.fields(model.Run))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cover:
    """What part of a category's flat table counts as migrated: a filter, and a key range for a part."""

    filter: str
    after: model.Key | None = None
    upto: model.Key | None = None


def create(
    session: database.Session,
    *,
    kind: model.RunKind,
    category: str,
    priority: model.Priority,
    filter: str,
    options: Mapping[str, object],
    serial: bool,
    actor: str,
) -> int:
    """Create a run with the one batch that plans the others, and return its number.

    Raises:
        errors.RunActive: the category is being migrated already.
    """
    options = {**options, "correlation": logs.correlation()}
    with traces.span(f"order {kind}", category=category):
        if parent := traces.carried():
            options[traces.PARENT] = parent
        try:
            row = database.run(
                session, "runs", "insert", kind=kind, category=category, priority=int(priority), filter=filter,
                options=options, serial=serial, actor=actor,
            ).one()  # fmt: skip
        except psycopg2.IntegrityError:
            raise _active(kind, category, options) from None
    add_batches(session, int(row.id), "plan", [NewBatch(seq=0)])
    audit.log(
        session,
        f"{kind} started",
        actor=actor,
        run_id=row.id,
        detail={"category": category} | options,
    )
    return int(row.id)


def _active(kind: model.RunKind, category: str, options: Mapping[str, object]) -> errors.HAL9Error:
    if kind is model.RunKind.CHECKPOINT:
        name = KeptOptions.of(options).checkpoint
        return errors.NameTaken(f"A checkpoint {name} is being taken already.", hint="hal9-migrate runs list --active")
    if kind is model.RunKind.RESTORE:
        return errors.RestoreActive("A restore is under way already.", hint="hal9-migrate runs list --active")
    return errors.RunActive(
        f"{category} is being migrated already.", hint=f"hal9-migrate state progress --category {category}"
    )


def find(
    session: database.Session,
    *,
    id: int | None = None,
    kind: model.RunKind | None = None,
    category: str | None = None,
    active: bool = False,
    before: int | None = None,
    limit: int = 100,
) -> Sequence[model.Run]:
    """Return runs, newest first.

    Args:
        before: only those of smaller numbers.
    """
    rows = database.run(
        session, "runs", "select", id=id, kind=kind, category=category, active=active, before=before, limit=limit
    )
    return [
        model.Run(
            **{name: value for name, value in row._asdict().items() if name in _FIELDS}
            | {
                "kind": model.RunKind(row.kind),
                "status": model.RunStatus(row.status),
                "priority": model.Priority(row.priority),
            }
        )
        for row in rows
    ]


def newest(session: database.Session) -> frozenset[int]:
    """Return the numbers of the runs after which none of the same kind and category was begun."""
    return frozenset(int(row.id) for row in database.run(session, "runs", "newest"))


def speeds(session: database.Session, windows: Sequence[float]) -> Mapping[int, Sequence[float]]:
    """Return how many records a second each run under way has done, over the last so many seconds.

    Args:
        windows: seconds, each reaching back at most to when the run was begun or resumed.
    """
    found: dict[int, list[float]] = {}
    for row in database.run(session, "runs", "speeds", windows=list(windows)):
        found.setdefault(row.id, []).append(float(row.speed))
    return found


def get(session: database.Session, id: int) -> model.Run:
    """Return one run.

    Raises:
        errors.NotFound: there is none of this number.
    """
    found = find(session, id=id)
    if not found:
        raise errors.NotFound(f"There is no run {id}.", hint="hal9-migrate runs list")
    return found[0]


def move(session: database.Session, id: int, new: model.RunStatus, reason: str) -> model.RunStatus:
    """Take a run to another status and return the one it had; staying where it is changes nothing.

    Raises:
        errors.NotFound: there is no such run.
        errors.IllegalTransition: the transition table has no such edge.
    """
    row = database.run(session, "runs", "lock", id=id).first()
    if row is None:
        raise errors.NotFound(f"There is no run {id}.", hint="hal9-migrate runs list")
    old = model.RunStatus(row.status)
    if old is new:
        return old
    if new is model.RunStatus.RUNNING and not row.planned:
        new = model.RunStatus.PLANNING
    if old is new:
        return old
    model.check_transition(old, new)
    database.run(session, "runs", "set_status", id=id, status=new, reason=reason)
    if new in (model.RunStatus.PAUSING, model.RunStatus.CANCELLING):
        database.run(session, "runs", "call_back", id=id)
    return old


def wait_reason(session: database.Session, id: int, reason: str) -> None:
    """Note why nothing of a run is dispatched just now; empty when it is."""
    database.run(session, "runs", "set_waiting", id=id, waiting=reason)


def retry_failed(session: database.Session, id: int) -> int:
    """Plan a run's failed batches anew and return how many there were."""
    return database.run(session, "runs", "retry_failed", id=id).rowcount


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewBatch:
    """A batch to be planned: its range, what it is about, and what it takes from the budget (None: its records)."""

    seq: int
    after: model.Key | None = None
    upto: model.Key | None = None
    records: int = 0
    phase: int = 0
    subject: str = ""
    cost: int | None = None


def add_batches(session: database.Session, run_id: int, kind: str, batches: Sequence[NewBatch]) -> None:
    """Add planned batches of one kind."""
    for batch in batches:
        database.run(session, "runs", "insert_batch", run_id=run_id, kind=kind, **dataclasses.asdict(batch))


def finish_planning(session: database.Session, run_id: int) -> None:
    """Note that every batch of a run exists; it is now running."""
    database.run(session, "runs", "set_planned", id=run_id)
    row = database.run(session, "runs", "lock", id=run_id).one()
    if row.status == model.RunStatus.PLANNING:
        move(session, run_id, model.RunStatus.RUNNING, "planned")


def settle(session: database.Session, id: int | None = None) -> None:
    """Take every run (or one) that has nothing left to wait for to where it is going."""
    for row in database.run(session, "runs", "ends", id=id):
        with contextlib.suppress(errors.IllegalTransition):  # an operator has moved it since it was read
            _settle(session, row)


def _settle(session: database.Session, row: Any) -> None:
    status = model.RunStatus(row.status)
    overdue = row.seconds > model.RUN_DEADLINES.get(status, float("inf"))
    if status is model.RunStatus.PAUSING and (row.leased == 0 or overdue):
        move(session, row.id, model.RunStatus.PAUSED, row.reason + (", at its deadline" if row.leased else ""))
    elif status is model.RunStatus.CANCELLING and (row.leased == 0 or overdue):
        move(session, row.id, model.RunStatus.CANCELLED, row.reason)
    elif status in (model.RunStatus.PLANNING, model.RunStatus.RUNNING) and row.failed and row.leased == 0:
        move(session, row.id, model.RunStatus.FAILED, row.error or "a batch failed")
        database.run(session, "runs", "call_back", id=row.id)
    elif status is model.RunStatus.RUNNING and row.open == 0 and row.planned:
        move(session, row.id, model.RunStatus.SUCCEEDED, "all batches done")


def covers(session: database.Session, category: str) -> Sequence[Cover]:
    """Return what counts as migrated: the filters of complete runs, the ranges of the others."""
    complete: list[Cover] = []
    partial: dict[int, str] = {}
    for row in database.run(session, "runs", "covers", category=category):
        if row.complete:
            complete.append(Cover(filter=row.filter))
        else:
            partial[row.id] = row.filter
    ranges = [
        Cover(filter=partial[row.run_id], after=database.key(row.after_key), upto=database.key(row.upto_key))
        for row in database.run(session, "runs", "done_ranges", ids=list(partial))
    ]
    restored = [
        Cover(filter=row.filter, after=database.key(row.after_key), upto=database.key(row.upto_key))
        for row in database.run(session, "runs", "restored_covers", category=category)
    ]
    return [*complete, *ranges, *restored]


def whole(session: database.Session, category: str) -> list[tuple[int, str]]:
    """Return number and beginning of each migration of a category whose work stands whole."""
    return [(row.id, row.created_at) for row in database.run(session, "runs", "whole", category=category)]


def take_back(
    session: database.Session, category: str, covers: Sequence[Cover], kept: Sequence[tuple[int, str]]
) -> None:
    """Note that a category's target holds what a checkpoint held, and no more what the runs have copied.

    Args:
        kept: the runs whose work it holds whole, as ``whole`` gave them.
    """
    ids, moments = [one for one, _ in kept], [moment for _, moment in kept]
    database.run(session, "runs", "undo", category=category, ids=ids, moments=moments)
    database.run(session, "runs", "clear_covers", category=category)
    for cover in covers:
        database.run(
            session, "runs", "add_cover", category=category, filter=cover.filter, after=cover.after, upto=cover.upto
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precedent:
    """How a run went that the next of its kind is measured by: the rows it moved in so many seconds."""

    run_id: int
    rows: int
    seconds: float


def precedent(session: database.Session, kind: model.RunKind, *, verify: bool) -> Precedent | None:
    """Return how the largest checkpoint or restore of late went; None without one.

    Args:
        verify: one that was verified, too, tells more.
    """
    row = database.run(session, "runs", "precedent", kind=str(kind), verify=verify).first()
    return None if row is None else Precedent(run_id=row.id, rows=int(row.rows), seconds=float(row.seconds))


def current(session: database.Session) -> dict[str, datetime.datetime]:
    """Return when each category's newest migration began whose work still stands."""
    return {row.category: row.created_at for row in database.run(session, "runs", "current")}


def begin_anew(session: database.Session, id: int) -> None:
    """Forget what a run has planned and done, so that a retry plans it again."""
    database.run(session, "batches", "forget", run_id=id)
    database.run(session, "batches", "begin_anew", run_id=id)
    database.run(session, "runs", "unplan", id=id)
