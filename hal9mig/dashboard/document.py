"""The pages as JSON, in the words of the commands: what ``/api/status`` and ``/api/run/7`` answer."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from hal9mig import errors, safe_text
from hal9mig.dashboard.overview import CategoryView, Overview, Surroundings, WatchedRun
from hal9mig.dashboard.reader import Away
from hal9mig.dashboard.run_view import RunView
from hal9mig.engine import category_standing, run_standing, standstill
from hal9mig.engine.compare import verify_report
from hal9mig.ledger.audit import Event
from hal9mig.ledger.quarantine import Held

#: The form of every document; goes up when a key changes its meaning or goes away.
SCHEMA = 1


def text(document: Mapping[str, object]) -> str:
    """Return a document as JSON that may be printed on a terminal."""
    return safe_text.printable_json(safe_text.json_text({"schema": SCHEMA} | dict(document), default=_plain))


def of_error(error: errors.HAL9Error) -> dict[str, object]:
    """Return an error as it stands in a document."""
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint or None}}


def of_away(away: Away) -> dict[str, object]:
    """Return why there is nothing to tell, and which servers answer."""
    servers = [{"server": one.name, "trouble": one.trouble or None} for one in away.servers]
    return of_error(away.error) | {"servers": servers}


def of_overview(found: Overview) -> dict[str, object]:
    """Return where everything stands."""
    line, backlog, last = found.line, found.backlog, found.reconciling.last
    return {
        "read_at": found.read_at,
        "write_mode": line.mode,
        "epoch": line.epoch,
        "since": line.since,
        "actor": line.actor,
        "switch": None if line.target is None else {"target": line.target, "step": line.step},
        "finished": None
        if found.finish is None
        else {"over": found.finish.over, "at": found.finish.at, "by": found.finish.actor, "keep": found.finish.keep},
        "servers": [{"server": one.name, "trouble": one.trouble or None} for one in found.around.servers],
        "lag": None if backlog is None else {"records": backlog.records, "seconds": round(backlog.seconds, 3)},
        "journal": {
            name: None if one is None else {"records": one.records, "seconds": round(one.seconds, 3)}
            for name, one in found.around.journals.items()
        },
        "workers": {
            "alive": len(found.workers),
            "slots": found.slots,
            "busy": found.leased,
            "list": [
                {
                    "name": one.name, "pid": one.pid, "slots": one.slots, "draining": one.draining,
                    "memory_bytes": one.memory_bytes, "cpu_percent": one.cpu_percent, "seen_at": one.seen_at,
                    "started_at": one.started_at,
                }
                for one in found.workers
            ],
        },
        "queue": {"messages": found.around.messages},
        "budget": {
            "rate_limit": str(found.budget or "off"),
            "records_per_second": round(found.speed, 1),
            "used": None if found.used is None else round(found.used, 4),
        },
        "categories": [_category(one) for one in found.categories],
        "runs": [_watched(one) for one in found.under_way],
        "failed": [_watched(one) for one in found.failed],
        "past": [run_standing.document(run) for run in found.past],
        "reconciliation": {
            "interval_seconds": found.reconciling.interval,
            "coverage_seconds": found.reconciling.coverage,
            "share_drifted": found.reconciling.share,
            "alert_threshold": found.tuned.alert_threshold,
            "open_drifts": found.reconciling.open_drifts,
            "last_round": None
            if last is None
            else {
                "began": last.began, "ended": last.ended, "compared": last.compared, "drifted": last.found,
                "repaired": last.repaired, "error": last.error,
            },
        },
        "drifts": [
            {"category": one.category, "key": one.key, "kind": one.kind, "cause": one.cause, "found_at": one.found_at}
            for one in found.drifts
        ],
        "quarantine": _held(found.held),
        "checkpoints": _checkpoints(found.around),
        "alarms": [
            {"alarm": one.name, "subject": one.subject or None, "message": one.message, "raised_at": one.raised_at}
            for one in found.alarms
        ],
        "problems": standstill.document(found.problems),
        "unlooked": found.unlooked or None,
        "events": _events(found.events),
        "next_steps": found.next_steps,
    }  # fmt: skip


def of_run(view: RunView) -> dict[str, object]:
    """Return one run."""
    return {
        "read_at": view.read_at,
        "run": _watched(view.watched),
        "batch_statuses": {str(status): count for status, count in view.statuses.items()},
        "batch_list": [dict(one) for one in view.batches],
        "verdict": None
        if view.verdict is None
        else {"consistent": view.verdict.consistent, "sentence": verify_report.sentence(view.verdict)},
        "quarantine": _held(view.held),
        "events": _events(view.events),
    }


def _watched(one: WatchedRun) -> dict[str, object]:
    return run_standing.document(one.run) | {
        "remains_seconds": None if one.remains is None else [round(seconds, 1) for seconds in one.remains],
        "orders": [str(order) for order in one.orders],
    }


def _category(one: CategoryView) -> dict[str, object]:
    return category_standing.document(one.standing) | {
        "state": None if one.run is None else run_standing.state(one.run),
        "active_run": None if one.active is None else one.active.run.id,
        "open_drifts": one.open_drifts,
    }


def _held(held: Sequence[Held]) -> list[dict[str, object]]:
    return [
        {"id": one.id, "category": one.category, "key": one.key, "error": one.error, "found_at": one.found_at}
        for one in held
    ]


def _events(events: Sequence[Event]) -> list[dict[str, object]]:
    return [{"at": one.at, "actor": one.actor, "action": one.action, "run": one.run_id} for one in events]


def _checkpoints(around: Surroundings) -> dict[str, object]:
    listing = around.checkpoints
    return {
        "trouble": around.archive_trouble or None,
        "list": None
        if listing is None
        else [
            {
                "name": one.name, "taken_at": one.taken_at, "kind": one.kind, "verified": one.verified,
                "restorable": one.restorable and one.name not in listing.lacking, "bytes": one.bytes,
            }
            for one in listing.manifests
        ],
    }  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return str(value)
