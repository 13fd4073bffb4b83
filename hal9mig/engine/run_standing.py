"""Where a run stands: its state in words, how far it is, how fast it goes, and when it will be over."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from hal9mig import model, units

_WINDOW = 10.0  # seconds a rate is the mean of; the ledger's recent_records has the same
#: Seconds over which an estimate looks at the rate: it was the fastest over one of them, and over one the slowest.
WINDOWS = (60.0, 300.0)
_ETA_FROM = 0.01  # share done below which an estimate would be a guess
_THROTTLES = ("rate-limit", "the budget", "the application")
#: Kinds whose work is all in their records.
_BY_RECORD = (model.RunKind.MIGRATE, model.RunKind.VERIFY, model.RunKind.EXPORT, model.RunKind.TRANSFORM)
#: Options that say which command ordered a run, and not what it does.
_ITS_COMMAND = ("correlation", "traceparent")
_PLAIN = (model.RunKind.MIGRATE, model.RunKind.VERIFY)  # kinds that go without saying


def state(run: model.Run) -> str:
    """Return where a run stands, and why it does not go on when it does not."""
    word, why = word_and_reason(run)
    return f"{word} ({why})" if why else word


def word_and_reason(run: model.Run) -> tuple[str, str]:
    """Return the word for where a run stands, and why it does not go on; empty when it does, or nobody knows."""
    if run.waiting and run.status in (model.RunStatus.PLANNING, model.RunStatus.RUNNING):
        word = "throttled" if run.waiting.startswith(_THROTTLES) else "waiting"
        # While batches are under way a wait is only that of the next one.
        return (str(run.status) if word == "waiting" and run.leased else word), run.waiting
    if run.status in (model.RunStatus.FAILED, model.RunStatus.PAUSED, model.RunStatus.CANCELLED) and run.reason:
        return str(run.status), run.reason
    if run.undone_at is not None:
        return str(run.status), "its work counts no more"  # a restore has replaced it, or all was finished
    if run.kind not in _BY_RECORD and run.status is model.RunStatus.RUNNING and run.planned:
        left = run.total_batches - run.done_batches
        return str(run.status), f"{left} step{'' if left == 1 else 's'} left"
    return str(run.status), ""


def label(run: model.Run) -> str:
    """Return what a run is called while it is watched: its category, and what it does unless that is plain."""
    return run.category if run.kind in _PLAIN else f"{run.kind} {run.category}"


def share(run: model.Run, total: int) -> str:
    """Return how much of a run is done; never all of it while steps are left that count no records."""
    if not total:
        return "100%" if run.ended else "0%"
    done = run.done_records
    return units.format_percent(done, total if run.ended or run.kind in _BY_RECORD else max(total, done + 1))


def seconds(run: model.Run) -> float:
    """Return how long a run took, or has been going."""
    return ((run.finished_at or datetime.datetime.now(datetime.UTC)) - run.created_at).total_seconds()


def rate(run: model.Run) -> float:
    """Return records a second: of the last seconds, or of the whole run when it has ended."""
    passed = max(0.001, seconds(run))
    if run.ended:
        return run.done_records / passed
    return run.recent_records / min(_WINDOW, max(1.0, passed))


def eta(run: model.Run, total: int, speed: float) -> float | None:
    """Return the seconds that remain, None where that would be a guess."""
    if run.ended or not speed or not total or run.done_records / total < _ETA_FROM:
        return None
    if run.kind not in _BY_RECORD and run.done_records >= total:
        return None  # what is left, indexes and proofs, has no records to go by
    return max(0, total - run.done_records) / speed


def eta_interval(run: model.Run, total: int, speeds: Sequence[float]) -> tuple[float, float] | None:
    """Return the fewest and the most seconds that remain, by the fastest and the slowest rate of late.

    Args:
        speeds: records a second, measured over several windows of time; those without any tell nothing.
    """
    found = [seconds for speed in speeds if (seconds := eta(run, total, speed)) is not None]
    return (min(found), max(found)) if found else None


def migrating(active: Sequence[model.Run]) -> float:
    """Return the records a second of all migrations together."""
    return sum(rate(run) for run in active if run.kind is model.RunKind.MIGRATE)


def budget_used(limit: units.Rate | None, speed: float) -> float | None:
    """Return the share of a budget of records that is used; None for another or none."""
    return speed / limit.per_second if limit is not None and limit.unit is units.RateUnit.RECORDS else None


def chosen(run: model.Run) -> dict[str, object]:
    """Return the options that say what a run does."""
    return {name: value for name, value in run.options.items() if name not in _ITS_COMMAND}


def document(run: model.Run, *, total: int | None = None) -> dict[str, object]:
    """Return a run as it stands in a JSON document."""
    speed = rate(run)
    whole = run.total_records if total is None else total
    remaining = eta(run, whole, speed)
    return {
        "run": run.id,
        "kind": str(run.kind),
        "category": run.category,
        "status": str(run.status),
        "reason": run.reason,
        "waiting": run.waiting or None,
        "priority": run.priority.name.lower(),
        "filter": run.filter or None,
        "options": chosen(run),
        "correlation": run.options.get("correlation"),
        "serial": run.serial,
        "planned": run.planned,
        "records": {"done": run.done_records, "total": whole, "quarantined": run.quarantined},
        "batches": {"done": run.done_batches, "total": run.total_batches, "leased": run.leased, "queued": run.queued},
        "bytes": run.bytes,
        "records_per_second": round(speed, 1),
        "eta_seconds": None if remaining is None else round(remaining, 1),
        "seconds": round(seconds(run), 3),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "requested_by": run.requested_by,
    }
