"""``hal9-migrate runs``: listing, watching and steering runs."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import click

from hal9mig import model, units
from hal9mig.cli import lazy_group, options, run_progress, run_result, wait
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.engine import run_standing

_LIST = """List runs, the newest first.

\b
Examples:
  hal9-migrate runs list
  hal9-migrate runs list --active --category neuron-states
"""
_SHOW = """Show one run: its state, its batches, and what was done to it.

\b
Examples:
  hal9-migrate runs show 7
  hal9-migrate runs show 7 --watch
"""
_PAUSE = """Stop a run after the transactions that are open; it keeps its place.

\b
Examples:
  hal9-migrate runs pause 7
"""
_RESUME = """Let a paused run go on.

\b
Examples:
  hal9-migrate runs resume 7
"""
_CANCEL = """End a run after the transactions that are open; what it has written stays.

\b
Examples:
  hal9-migrate runs cancel 7
"""
_RETRY = """Take up what a failed or cancelled run has left.

\b
Examples:
  hal9-migrate runs retry 7
"""
_MOST_BATCHES = 20  # that are listed on a terminal


@click.group(cls=lazy_group.Group)
def runs() -> None:
    """List, watch, pause, resume, cancel and retry runs."""


@runs.command("list", help=_LIST)
@options.categories
@click.option("--active", is_flag=True, help="Only runs that have not ended.")
@click.option("--limit", type=options.COUNT, default="20", show_default=True, help="At most so many.")
@options.output
@pass_call
def list_(call: Invocation, names: tuple[str, ...], everything: bool, active: bool, limit: int) -> None:
    from hal9mig.ledger import runs as ledger_runs

    wanted = options.chosen(names, everything)
    slugs = [category.slug for category in call.categories(wanted)] if wanted else [None]
    with call.ledger.begin() as session:
        found = [run for slug in slugs for run in ledger_runs.find(session, category=slug, active=active, limit=limit)]
    found = sorted(found, key=lambda run: run.id, reverse=True)[:limit]
    if not call.json:
        columns = ["RUN", "KIND", "CATEGORY", "STATE", "RECORDS", "TOTAL", "DONE", "QUARANTINED"]
        columns += ["FILTER", "STARTED", "BY"]
        rows = [
            [
                run.id, run.kind, run.category, run_standing.state(run), units.format_count(run.done_records),
                units.format_count(run.total_records),
                units.format_percent(run.done_records, run.total_records) if run.total_records or run.ended else "0%",
                units.format_count(run.quarantined), run.filter, call.console.when(run.created_at), run.requested_by,
            ]
            for run in found
        ]  # fmt: skip
        call.console.table(columns, rows, numbers=("RUN", "RECORDS", "TOTAL", "DONE", "QUARANTINED"))
    call.conclude({"runs": [run_standing.document(run) for run in found], "next_steps": []})


@runs.command(help=_SHOW)
@click.argument("run", type=options.RUN)
@click.option("--watch", is_flag=True, help="Wait for its end, with progress; the exit code is that of its end.")
@options.timeout
@options.output
@pass_call
def show(call: Invocation, run: int, watch: bool, timeout: float | None) -> None:
    if watch or timeout is not None:
        _watch(call, run, timeout)
    else:
        _show(call, run)


def _watch(call: Invocation, run_id: int, timeout: float | None) -> None:
    (run,) = wait.for_end(call, [call.coordinator.run(run_id)], timeout=timeout)
    problem = run_result.problem(run)
    if run.kind is model.RunKind.VERIFY and run.status is model.RunStatus.SUCCEEDED:
        _compared(call, run)
        return
    if run.kind in (model.RunKind.CHECKPOINT, model.RunKind.RESTORE):
        _kept(call, run)
        return
    if not call.json:
        call.console.verdict(run_result.good(run), run_result.summary(run))
    call.conclude({"run": run_standing.document(run), "next_steps": []}, problem)


def _compared(call: Invocation, run: model.Run) -> None:
    from hal9mig.cli import comparison
    from hal9mig.engine.compare import verify_report

    with call.system.ledger.begin() as session:
        found = verify_report.collect(session, call.system.category(run.category), run.id)
    if not call.json:
        call.console.verdict(found.consistent, verify_report.sentence(found))
    report = verify_report.report([found], at=datetime.datetime.now(datetime.UTC))
    call.conclude({"run": run_standing.document(run), "verdict": report}, comparison.problem([found]))


def _kept(call: Invocation, run: model.Run) -> None:
    from hal9mig.cli import checkpoint_flow, restore_result
    from hal9mig.engine.checkpoint.orders import Checkpoints

    checkpoints = Checkpoints(call.system)
    if run.kind is model.RunKind.CHECKPOINT:
        checkpoint_flow.tell(call, checkpoints, run)
    else:
        restore_result.tell(call, checkpoints, run, {})


def _show(call: Invocation, run_id: int) -> None:
    from hal9mig.ledger import audit, batches
    from hal9mig.ledger import runs as ledger_runs

    with call.ledger.begin() as session:
        run = ledger_runs.get(session, run_id)
        listed = batches.listing(session, run_id)
        events = audit.events(session, run_id=run_id)
    if not call.json:
        _describe(call, run)
        rows = [
            [
                batch["seq"], batch["kind"], batch["status"], batch["attempt"],
                units.format_count(batch["records"]), units.format_count(batch["planned_records"]),
                units.format_count(batch["quarantined"]), units.format_duration(batch["busy_seconds"]),
                batch["owner"], batch["error"],
            ]
            for batch in listed
        ]  # fmt: skip
        # On a terminal what needs a look comes first, and not ten thousand batches that are done.
        shown = rows if not call.console.out_is_terminal else sorted(rows, key=_urgency)[:_MOST_BATCHES]
        columns = ["BATCH", "KIND", "STATE", "ATTEMPT", "RECORDS", "TOTAL", "QUARANTINED", "BUSY", "OWNER", "ERROR"]
        call.console.table(columns, shown, numbers=("BATCH", "ATTEMPT", "RECORDS", "TOTAL", "QUARANTINED", "BUSY"))
        if len(shown) < len(rows):
            call.console.say(f"{len(shown)} of {len(rows)} batches; all of them: add --json")
        for event in reversed(events):
            call.console.say(f"{call.console.when(event.at)}: {event.action} by {event.actor}")
    document = run_standing.document(run) | {
        "batch_list": [dict(batch) for batch in listed],
        "events": [{"at": one.at, "actor": one.actor, "action": one.action, "detail": one.detail} for one in events],
    }
    call.conclude({"run": document, "next_steps": []})


def _describe(call: Invocation, run: model.Run) -> None:
    call.console.line(f"{run.name}: {run.kind} {run.category}, {run_standing.state(run)}")
    call.console.line(run_progress.line(run, total=run.total_records, speed=run_standing.rate(run)))
    chosen = {name: value for name, value in run_standing.chosen(run).items() if value}
    if run.filter or chosen or run.serial:
        parts = [f"filter {run.filter!r}"] if run.filter else []
        parts += ["one batch at a time"] if run.serial else []
        parts += [f"{name} {value}" for name, value in chosen.items()]
        call.console.line("; ".join(parts))
    call.console.line(
        f"priority {run.priority.name.lower()}; started {call.console.when(run.created_at)} by {run.requested_by}; "
        f"took {units.format_duration(run_standing.seconds(run))}"
    )
    if word := run.options.get("correlation"):
        call.console.line(f"ordered as {word}: the word that its lines in logs, and in the audit, have")


def _urgency(row: list[object]) -> int:
    return ["failed", "leased", "queued", "planned", "done"].index(str(row[2]))


def _steer(call: Invocation, order: Callable[[int], model.Run], run_id: int, steps: list[str]) -> None:
    run = order(run_id)
    if not call.json:
        call.console.line(f"{run.name} of {run.category}: {run_standing.state(run)}")
        call.console.suggest(*steps)
    call.conclude({"run": run_standing.document(run), "next_steps": steps})


@runs.command(help=_PAUSE)
@click.argument("run", type=options.RUN)
@options.output
@pass_call
def pause(call: Invocation, run: int) -> None:
    _steer(call, call.coordinator.pause, run, [f"hal9-migrate runs resume {run}"])


@runs.command(help=_RESUME)
@click.argument("run", type=options.RUN)
@options.output
@pass_call
def resume(call: Invocation, run: int) -> None:
    _steer(call, call.coordinator.resume, run, [f"hal9-migrate runs show {run} --watch"])


@runs.command(help=_CANCEL)
@click.argument("run", type=options.RUN)
@options.output
@pass_call
def cancel(call: Invocation, run: int) -> None:
    _steer(call, call.coordinator.cancel, run, [f"hal9-migrate runs retry {run}"])


@runs.command(help=_RETRY)
@click.argument("run", type=options.RUN)
@options.output
@pass_call
def retry(call: Invocation, run: int) -> None:
    _steer(call, call.coordinator.retry, run, [f"hal9-migrate runs show {run} --watch"])
