"""``hal9-migrate state progress``: how far each category is."""

from __future__ import annotations

from collections.abc import Sequence

import click

from hal9mig import model, units
from hal9mig.cli import options
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.cli.repeat import repeated
from hal9mig.engine import run_standing

_HELP = """Show how far each category's newest migration is, and every run that is under way.

\b
Examples:
  hal9-migrate state progress --category user-sessions
  hal9-migrate state progress --watch=2s
"""


@click.command(help=_HELP)
@options.categories
@options.watch
@options.output
@pass_call
def progress(call: Invocation, names: tuple[str, ...], everything: bool, watch: float | None) -> None:
    slugs = [category.slug for category in call.categories(options.chosen(names, everything))]
    repeated(call, lambda: _show(call, slugs), watch)


def _show(call: Invocation, slugs: Sequence[str]) -> None:
    found = _runs(call, slugs)
    if not call.json:
        never = [slug for slug in slugs if slug not in {run.category for run in found}]
        columns = ["CATEGORY", "RUN", "STATE", "RECORDS", "TOTAL", "DONE", "RATE", "ETA", "QUARANTINED"]
        rows = [_row(run) for run in found]
        rows += [[slug, None, "never migrated", "0", None, None, None, None, "0"] for slug in never]
        call.console.table(columns, rows, numbers=("RUN", "RECORDS", "TOTAL", "DONE", "RATE", "ETA", "QUARANTINED"))
        for run in found:
            if run.waiting and not run.ended:
                call.console.say(f"{run.name} waits: {run.waiting}")
    call.conclude({"runs": [run_standing.document(run) for run in found], "next_steps": _next_steps(found)})


def _runs(call: Invocation, slugs: Sequence[str]) -> Sequence[model.Run]:
    from hal9mig.ledger import runs

    found: list[model.Run] = []
    with call.ledger.begin() as session:
        for slug in slugs:
            newest = runs.find(session, kind=model.RunKind.MIGRATE, category=slug, limit=1)
            active = runs.find(session, category=slug, active=True)
            found += [*newest, *(run for run in active if run.id not in {one.id for one in newest})]
    return found


def _row(run: model.Run) -> list[object]:
    speed = run_standing.rate(run)
    remaining = run_standing.eta(run, run.total_records, speed) if run.planned else None
    return [
        run.category,
        run.id,
        ("" if run.kind is model.RunKind.MIGRATE else f"{run.kind}: ") + run_standing.state(run),
        units.format_count(run.done_records),
        units.format_count(run.total_records) + ("" if run.planned or run.ended else "+"),
        units.format_percent(run.done_records, run.total_records) if run.total_records or run.ended else "0%",
        f"{units.format_count(round(speed))}/s",
        None if remaining is None else units.format_duration(remaining),
        units.format_count(run.quarantined),
    ]


def _next_steps(found: Sequence[model.Run]) -> list[str]:
    steps = [f"hal9-migrate runs resume {run.id}" for run in found if run.status is model.RunStatus.PAUSED]
    steps += [f"hal9-migrate runs retry {run.id}" for run in found if run.status is model.RunStatus.FAILED]
    return steps
