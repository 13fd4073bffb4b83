"""What the dashboard shows, made up, for the unit tests of its page and of its metrics."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from hal9mig import model
from hal9mig.categories import registry
from hal9mig.dashboard import overview
from hal9mig.dashboard.overview import CategoryView, Overview, Server, Surroundings, WatchedRun
from hal9mig.engine.category_standing import CategoryStanding
from hal9mig.engine.reconcile.alarm_rules import JournalBacklog, ReconcilerStanding
from hal9mig.engine.standstill import Problem
from hal9mig.ledger.audit import Event
from hal9mig.ledger.mode import ModeLine
from hal9mig.ledger.quarantine import Held
from hal9mig.ledger.raised_alarms import Alarm
from hal9mig.ledger.tuning import Reconciliation
from hal9mig.ledger.workers import Worker
from hal9mig.model import RunStatus
from hal9mig.stores.store_size import Records

NOW = datetime.datetime(2026, 1, 1, 12, 0, tzinfo=datetime.UTC)


def ago(seconds: float) -> datetime.datetime:
    """Return a moment before NOW."""
    return NOW - datetime.timedelta(seconds=seconds)


def run(**changes: Any) -> model.Run:
    """Return a run that is under way."""
    made = model.Run(
        id=7, kind=model.RunKind.MIGRATE, category="neuron-states", status=RunStatus.RUNNING, reason="", waiting="",
        priority=model.Priority.NORMAL, filter="", options={"batch": 500}, planned=True, serial=False,
        total_records=1_000_000, done_records=460_900, quarantined=0, total_batches=100, done_batches=46, leased=2,
        queued=4, recent_records=980, bytes=1, status_since=ago(500), created_at=ago(500), started_at=ago(499),
        finished_at=None, requested_by="root@vm",
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def watched(*speeds: float, **changes: Any) -> WatchedRun:
    """Return such a run as it is watched, at speeds that were measured."""
    return overview.watch(run(**changes), speeds)


def held(text: str) -> Held:
    """Return a record in quarantine."""
    return Held(
        id=1, category=text, key=(text, text), status="held", error=text, payload=None, transform_version=1, run_id=7,
        attempts=1, found_at=ago(60), changed_at=ago(60),
    )  # fmt: skip


def made(**changes: Any) -> Overview:
    """Return a page of which everything is named by one text, so that none of it can be forgotten."""
    text = str(changes.pop("text", "plain"))
    (category,) = [one for one in registry.builtin().ordered() if one.slug == "neuron-states"]
    standing = CategoryStanding(
        category=category, last=run(), migrated=1, followed=False, flat=Records(count=2, exact=True), held=1
    )
    under_way = changes.pop("under_way", [watched(category=text, waiting=f"rate-limit {text}", requested_by=text)])
    values: dict[str, Any] = {
        "read_at": NOW,
        "around": Surroundings(
            servers=[Server(name="queue", trouble=text)],
            journals={"flat store": JournalBacklog(records=3, seconds=0.2), "hierarchical store": JournalBacklog()},
            sizes={}, messages=1, checkpoints=None, archive_trouble=text,
        ),
        "line": ModeLine(
            mode="dual-write", epoch=2, target=text, step=text, actor=text, since=ago(600), attested={}
        ),
        "finish": None,
        "problems": [Problem(name=text, message=text, since=ago(5), next_command=text)],
        "unlooked": text,
        "alarms": [Alarm(id=1, name=text, subject=text, message=text, detail={}, raised_at=ago(9), cleared_at=None,
                         attempts=0, delivered_at=None)],
        "categories": [CategoryView(standing=standing, active=watched(waiting=text), open_drifts=1, swept=None)],
        "under_way": under_way,
        "failed": [watched(status=RunStatus.FAILED, reason=text, category=text, finished_at=NOW)],
        "past": [run(status=RunStatus.CANCELLED, reason=text, category=text, filter=text, finished_at=NOW)],
        "older": 3,
        "reconciling": ReconcilerStanding(interval=30, last=None, coverage=60, share=0.02, open_drifts={text: 1}),
        "tuned": Reconciliation(interval=30, auto_fix=True, alert_threshold=0.01, share=0.1, journal_alarm=9),
        "drifts": [],
        "held": [held(text)],
        "workers": [Worker(name=text, host=text, pid=1, slots=1, started_at=ago(9), seen_at=NOW, draining=False,
                           memory_bytes=10**8, cpu_percent=2)],
        "slots": 1, "budget": None, "speed": 98.0, "used": None, "pace": None, "rounds": [],
        "events": [Event(id=1, at=ago(5), actor=text, action=text, run_id=7, detail={})],
        "next_steps": [],
    }  # fmt: skip
    return Overview(**(values | changes))
