"""What the page of one run shows, as data."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.dashboard import overview
from hal9mig.dashboard.overview import Pace, WatchedRun
from hal9mig.engine import run_standing
from hal9mig.engine.compare import verify_report
from hal9mig.engine.compare.verify_report import CategoryVerdict
from hal9mig.engine.system import System
from hal9mig.ledger import audit, batches, history, quarantine, runs, workers
from hal9mig.ledger.audit import Event
from hal9mig.ledger.database import Session
from hal9mig.ledger.quarantine import Held

#: Batches and differences that are listed.
BATCHES, DIFFERENCES = 20, 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunView:
    """One run.

    Attributes:
        statuses: how many of its batches stand where.
        batches: those that need a look first.
        verdict: what a comparison has come to so far; None for another run.
        held: what is in quarantine of its category because of it.
    """

    read_at: datetime.datetime
    watched: WatchedRun
    statuses: Mapping[model.BatchStatus, int]
    batches: Sequence[Mapping[str, Any]]
    verdict: CategoryVerdict | None
    held: Sequence[Held]
    pace: Pace | None
    events: Sequence[Event]

    @property
    def run(self) -> model.Run:
        """The run."""
        return self.watched.run


def read(system: System, run_id: int) -> RunView:
    """Read a run.

    Raises:
        errors.NotFound: there is none of this number.
        errors.HAL9Error: the ledger does not answer, or has another schema.
        psycopg2.Error: a statement failed.
    """
    with system.ledger.begin() as session:
        run = runs.get(session, run_id)
        speeds = runs.speeds(session, run_standing.WINDOWS)
        now, _ = workers.last_seen(session)
        of_category = quarantine.find(session, category=run.category, limit=200) if run.quarantined else []
        return RunView(
            read_at=now,
            watched=overview.watch(run, speeds.get(run.id, ())),
            statuses=batches.statuses(session, run_id),
            batches=batches.urgent(session, run_id, limit=BATCHES),
            verdict=_verdict(system, session, run),
            held=[one for one in of_category if one.run_id == run_id][: overview.ROWS],
            pace=_pace(session, run, now),
            events=audit.events(session, run_id=run_id, limit=overview.EVENTS),
        )


def _verdict(system: System, session: Session, run: model.Run) -> CategoryVerdict | None:
    if run.kind is not model.RunKind.VERIFY:
        return None
    try:
        return verify_report.collect(session, system.category(run.category), run.id, limit=DIFFERENCES)
    except errors.UnknownCategory:
        return None  # declared in a file that this process was not given


def _pace(session: Session, run: model.Run, now: datetime.datetime) -> Pace | None:
    begin, end = run.started_at or run.created_at, run.finished_at or now
    points = history.pace_of_run(session, run.id, span=(end - begin).total_seconds())
    return Pace(begin=begin, end=end, points=points, run=run.id) if points else None
