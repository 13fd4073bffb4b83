"""What the first page shows, as data: read from the ledger, both stores, the queue and the checkpoints' storage."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from hal9mig import errors, model, units
from hal9mig.categories.declaration import Category
from hal9mig.engine import category_standing, run_standing, standstill
from hal9mig.engine.category_standing import CategoryStanding
from hal9mig.engine.checkpoint.types import CheckpointListing
from hal9mig.engine.reconcile import alarm_rules
from hal9mig.engine.reconcile.alarm_rules import JournalBacklog, ReconcilerStanding
from hal9mig.engine.standstill import Problem
from hal9mig.engine.system import System
from hal9mig.ledger import (
    audit,
    drifts,
    history,
    mode,
    pace,
    phases,
    quarantine,
    raised_alarms,
    rounds,
    runs,
    sweeps,
    totals,
    tuning,
    workers,
)  # fmt: skip
from hal9mig.ledger.audit import Event
from hal9mig.ledger.database import Session
from hal9mig.ledger.drifts import Drift
from hal9mig.ledger.history import PacePoint
from hal9mig.ledger.mode import ModeLine
from hal9mig.ledger.pace import Pace as ImpactPace
from hal9mig.ledger.phases import Finish
from hal9mig.ledger.quarantine import Held
from hal9mig.ledger.raised_alarms import Alarm
from hal9mig.ledger.rounds import Round
from hal9mig.ledger.sweeps import Sweep
from hal9mig.ledger.tuning import Reconciliation
from hal9mig.ledger.workers import Worker
from hal9mig.stores.store_size import Records

#: Seconds that the plots look back.
SPAN = 900.0
#: Runs on one page of what is past; rows of each list.
RUNS_A_PAGE, ROWS, EVENTS = 12, 6, 12
_MOST_ROUNDS = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """A server; ``trouble`` says why it is not there for us, and is empty where it is."""

    name: str
    trouble: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is known without the ledger.

    Attributes:
        servers: the flat store, the hierarchical store, the queue.
        journals: what waits in each store's journal; None where that cannot be read.
        sizes: how many records each flat table holds.
        messages: in the queue; None where it does not answer.
        checkpoints: what there is to go back to; None until that is read.
        archive_trouble: why it cannot be read.
    """

    servers: Sequence[Server]
    journals: Mapping[str, JournalBacklog | None]
    sizes: Mapping[str, Records | None]
    messages: int | None
    checkpoints: CheckpointListing | None
    archive_trouble: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchedRun:
    """A run; ``remains`` are the fewest and the most seconds to its end, None where that would be a guess."""

    run: model.Run
    remains: tuple[float, float] | None

    @property
    def orders(self) -> tuple[model.RunOrder, ...]:
        """What an operator may do to it."""
        return model.legal_orders(self.run.status)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoryView:
    """A category: where it stands, its migration under way, its open drifts, and what the present pass compared."""

    standing: CategoryStanding
    active: WatchedRun | None
    open_drifts: int
    swept: Sweep | None

    @property
    def run(self) -> model.Run | None:
        """The run that says where it stands: the one under way, or the last."""
        return self.active.run if self.active is not None else self.standing.last


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast records were migrated, from one moment to another; ``run`` is set where it is that run's time."""

    begin: datetime.datetime
    end: datetime.datetime
    points: Sequence[PacePoint]
    run: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overview:
    """Where everything stands at one moment.

    Attributes:
        problems: what stands still; unlooked: why nobody could look.
        under_way: runs that have not ended; failed: the newest of their kind and category, which have failed.
        past: runs that have ended; older: whether there are more.
        speed: records a second of all migrations; used: the share of the budget that this is.
        rounds: of the reconciler, within the plot's span, the oldest first.
    """

    read_at: datetime.datetime
    around: Surroundings
    line: ModeLine
    finish: Finish | None
    problems: Sequence[Problem]
    unlooked: str
    alarms: Sequence[Alarm]
    categories: Sequence[CategoryView]
    under_way: Sequence[WatchedRun]
    failed: Sequence[WatchedRun]
    past: Sequence[model.Run]
    older: int | None
    reconciling: ReconcilerStanding
    tuned: Reconciliation
    drifts: Sequence[Drift]
    held: Sequence[Held]
    workers: Sequence[Worker]
    slots: int
    budget: units.Rate | None
    speed: float
    used: float | None
    pace: Pace | None
    rounds: Sequence[Round]
    events: Sequence[Event]
    next_steps: Sequence[str]

    @property
    def backlog(self) -> JournalBacklog | None:
        """What waits in both journals together; None where one cannot be read."""
        known = [one for one in self.around.journals.values() if one is not None]
        if len(known) < len(self.around.journals):
            return None
        return JournalBacklog(
            records=sum(one.records for one in known), seconds=max((one.seconds for one in known), default=0.0)
        )

    @property
    def leased(self) -> int:
        """Batches in workers' hands."""
        return sum(one.run.leased for one in self.under_way)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What no page shows: what the application feels, and what was done since the ledger was made."""

    felt: ImpactPace
    totals: totals.Totals


def figures(system: System) -> Figures:
    """Read what monitoring is told beside the page.

    Raises:
        errors.HAL9Error, psycopg2.Error: as ``read``.
    """
    with system.ledger.begin() as session:
        return Figures(felt=pace.read(session), totals=totals.read(session))


def read(
    system: System, categories: Sequence[Category], around: Surroundings, *, before: int | None = None
) -> Overview:
    """Read everything that the ledger knows.

    Args:
        before: only past runs of smaller numbers.

    Raises:
        errors.HAL9Error: the ledger does not answer, or has another schema.
        psycopg2.Error: a statement failed.
    """
    problems, unlooked = _standing_still(system)
    with system.ledger.begin() as session:
        line = mode.read(session)
        finish = phases.finished(session)
        # As the dispatcher takes them: the most urgent first, then the oldest.
        active = sorted(runs.find(session, active=True), key=lambda run: (run.priority, run.id))
        speeds = runs.speeds(session, run_standing.WINDOWS)
        watched = [watch(run, speeds.get(run.id, ())) for run in active]
        past = runs.find(session, before=before, limit=RUNS_A_PAGE + len(active) + 1)
        ended = [run for run in past if run.ended]
        standings = category_standing.read(session, categories, around.sizes)
        passes = sweeps.find(session)
        known = sum(one.count for one in around.sizes.values() if one is not None)
        reconciling = alarm_rules.standing(session, known)
        alive = workers.alive(session)
        slots = workers.slots(session)
        budget = tuning.resolve(session).rate_limit
        speed = run_standing.migrating(active)
        now, _ = workers.last_seen(session)
        return Overview(
            read_at=now,
            around=around,
            line=line,
            finish=finish,
            problems=[] if finish is not None else problems,
            unlooked="" if finish is not None else unlooked,
            alarms=raised_alarms.find(session, open=True),
            categories=[
                CategoryView(
                    standing=one,
                    active=next((run for run in watched if _migrates(run.run, one.category)), None),
                    open_drifts=reconciling.open_drifts.get(one.category.slug, 0),
                    swept=passes.get(one.category.slug),
                )
                for one in standings
            ],
            under_way=watched,
            failed=_failed(session, past if before is None else runs.find(session, limit=100)),
            past=ended[:RUNS_A_PAGE],
            older=ended[RUNS_A_PAGE - 1].id if len(ended) > RUNS_A_PAGE else None,
            reconciling=reconciling,
            tuned=tuning.reconciliation(session),
            drifts=drifts.find(session, open=True, limit=ROWS),
            held=quarantine.find(session, limit=ROWS),
            workers=alive,
            slots=slots,
            budget=budget,
            speed=speed,
            used=run_standing.budget_used(budget, speed),
            pace=_pace(session, now),
            rounds=_rounds(session, now),
            events=audit.events(session, limit=EVENTS),
            next_steps=[] if finish is not None else category_standing.next_steps(
                system.settings, problems, standings, slots
            ),
        )  # fmt: skip


def watch(run: model.Run, speeds: Sequence[float]) -> WatchedRun:
    """Return a run with how long it may take; ``speeds`` are its rates over several windows."""
    remains = None
    if run.planned:
        remains = run_standing.eta_interval(run, run.total_records, [run_standing.rate(run), *speeds])
    return WatchedRun(run=run, remains=remains)


def _standing_still(system: System) -> tuple[list[Problem], str]:
    """Return what stands still, or why that cannot be told."""
    try:
        return standstill.look(system.settings, system.ledger), ""
    except errors.Unreachable as error:
        return [], error.message


def _migrates(run: model.Run, category: Category) -> bool:
    return run.kind is model.RunKind.MIGRATE and run.category == category.slug


def _failed(session: Session, newest: Sequence[model.Run]) -> list[WatchedRun]:
    """Return the runs that have failed and were not followed by another: somebody has to decide about them."""
    last = runs.newest(session)
    return [
        WatchedRun(run=run, remains=None)
        for run in newest
        if run.id in last and run.status is model.RunStatus.FAILED and run.undone_at is None
    ]


def _pace(session: Session, now: datetime.datetime) -> Pace | None:
    """Return the pace of the last minutes, or where nothing was migrated in them that of the newest migration."""
    begin = now - datetime.timedelta(seconds=SPAN)
    if points := history.pace(session, span=SPAN, since=begin):
        return Pace(begin=begin, end=now, points=points, run=None)
    for run in runs.find(session, kind=model.RunKind.MIGRATE, limit=1):
        begin, end = run.started_at or run.created_at, run.finished_at or now
        if points := history.pace_of_run(session, run.id, span=(end - begin).total_seconds()):
            return Pace(begin=begin, end=end, points=points, run=run.id)
    return None


def _rounds(session: Session, now: datetime.datetime) -> list[Round]:
    since = now - datetime.timedelta(seconds=SPAN)
    newest = [one for one in rounds.newest(session, limit=_MOST_ROUNDS) if one.began >= since and one.ended is not None]
    return newest[::-1]
