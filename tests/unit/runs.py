"""A run that is under way, for the unit tests of what is said of runs."""

from __future__ import annotations

import dataclasses
import datetime

from hal9mig import model

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
RUN = model.Run(
    id=7,
    kind=model.RunKind.MIGRATE,
    category="neuron-states",
    status=model.RunStatus.RUNNING,
    reason="planned",
    waiting="",
    priority=model.Priority.NORMAL,
    filter="",
    options={},
    planned=True,
    serial=False,
    total_records=1_000_000,
    done_records=460_900,
    quarantined=0,
    total_batches=10_000,
    done_batches=4609,
    leased=2,
    queued=4,
    recent_records=980,
    bytes=10**9,
    status_since=START,
    created_at=START,
    started_at=START,
    finished_at=None,
    requested_by="me@here",
)


def run(**changes: object) -> model.Run:
    """Return the run with other values."""
    return dataclasses.replace(RUN, **changes)  # type: ignore[arg-type]


def of_before(kind: model.RunKind = model.RunKind.RESTORE, **changes: object) -> model.Run:
    """Return a run that works on the checkpoint ``before``."""
    options: dict[str, object] = {"checkpoint": "before"}
    return run(**{"kind": kind, "options": options, **changes})
