"""``hal9-migrate state status``: where everything stands, on one page."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, model, units
from hal9mig.cli import finished, invocation, options, run_progress, standing_still
from hal9mig.cli.console import counted

if TYPE_CHECKING:
    from hal9mig.categories.declaration import Category
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.standstill import Problem
    from hal9mig.ledger.mode import ModeLine
    from hal9mig.ledger.sweeps import Sweep
    from hal9mig.stores.connection import Connection
    from hal9mig.stores.schema import SchemaState
    from hal9mig.stores.store_size import Records

_HELP = """Show where everything stands: schemas, workers, budget, and each category's last migration.

What stands still, such as rounds, workers or the queue, is said first, and the exit code is then 3.
COPIED are the records that runs have written, by the ledger: the last complete run, or the last of each filter.
DONE is what is covered: once everything was migrated and each write is followed, all but what is in quarantine.
`state verify` compares the data itself.

\b
Examples:
  hal9-migrate state status
  hal9-migrate state status --json
"""
_MOST_RUNS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoryStanding:
    """A category as the ledger knows it."""

    category: Category
    last: model.Run | None
    migrated: int
    followed: bool
    flat: Records | None
    held: int

    @property
    def covered(self) -> int:
        """How many of the flat records are in the other store, or will be without another migration."""
        if self.flat is None or not self.followed:
            return self.migrated
        return max(0, self.flat.count - self.held)


@click.command(help=_HELP)
@options.output
@click.pass_context
def status(context: click.Context) -> None:
    from hal9mig.ledger import mode, quarantine, runs, sweeps, tuning, workers
    from hal9mig.stores import capture, schema, store_size

    call = invocation.current(context)
    categories = call.registry.ordered()
    flat_url, hier_url = call.settings.require_flat(), call.settings.require_hier()
    states = schema.status(flat_url, hier_url)
    behind = [state.name for state in states if state.behind]
    if behind and (ended := finished.look(call, states)) is not None:
        finished.conclude(call, ended)
        return
    if behind:
        if not call.json:
            _schemas(call, states)
        problem = errors.SchemaBehind(f"A database schema is older than this program: {', '.join(behind)}.")
        call.conclude({"schemas": _schema_document(states), "next_steps": ["hal9-migrate db upgrade"]}, problem)
        return
    still = standing_still.look(call)
    with _opened(call, flat_url) as flat:
        sizes = store_size.records(flat, categories)
        flat.rollback()
        lags = list(capture.lag(flat).values())
    with _opened(call, hier_url) as hier:
        lags += capture.lag(hier).values()
    waiting = sum(one.records for one in lags)
    oldest = max((one.seconds for one in lags), default=0.0)
    with call.ledger.begin() as session:
        line = mode.read(session)
        newest = runs.find(session, kind=model.RunKind.MIGRATE, limit=_MOST_RUNS)
        active = runs.find(session, active=True)
        held = quarantine.counts(session)
        passes = sweeps.find(session)
        alive = workers.alive(session)
        tuned = tuning.resolve(session)
    standings = [_standing(category, newest, sizes[category.slug], held, line, passes) for category in categories]
    slots = sum(worker.slots for worker in alive if not worker.draining)
    speed = sum(run_progress.rate(run) for run in active if run.kind is model.RunKind.MIGRATE)
    steps = _next_steps(call, still, standings, slots)
    if not call.json:
        call.console.line(f"Write Mode: {line.mode}")
        if line.target is not None:
            call.console.line(f"A switch to {line.target} is under way; its last step is: {line.step}")
        call.console.line(f"Lag: {counted(waiting, 'write')} to apply, the oldest for {units.format_duration(oldest)}")
        _schemas(call, states)
        call.console.line(f"Workers: {len(alive)} alive, {slots} slots")
        budget = f"of {tuned.rate_limit}" if tuned.rate_limit else "no limit"
        call.console.line(f"Budget: {units.format_count(round(speed))} records/s now, {budget}")
        _table(call, standings)
        for step in steps:
            call.console.say(f"next: {step}")
    call.conclude(
        {
            "write_mode": line.mode,
            "epoch": line.epoch,
            "switch": None if line.target is None else {"target": line.target, "step": line.step},
            "lag": {"records": waiting, "seconds": round(oldest, 3)},
            "schemas": _schema_document(states),
            "workers": {"alive": len(alive), "slots": slots},
            "budget": {"rate_limit": str(tuned.rate_limit or "off"), "records_per_second": round(speed, 1)},
            "categories": [_document(standing) for standing in standings],
            "problems": standing_still.document(still),
            "next_steps": steps,
        },
        standing_still.problem(still),
    )


def _opened(call: Invocation, url: str) -> contextlib.closing[Connection]:
    from hal9mig.stores import connection

    return contextlib.closing(
        connection.connect(url, application_name="hal9-migrate cli", connect_timeout=call.settings.connect_timeout)
    )


def _standing(
    category: Category,
    newest: Sequence[model.Run],
    flat: Records | None,
    held: Mapping[str, int],
    line: ModeLine,
    passes: Mapping[str, Sweep],
) -> CategoryStanding:
    own = [run for run in newest if run.category == category.slug]
    standing = [run for run in own if run.undone_at is None]
    return CategoryStanding(
        category=category,
        last=own[0] if own else None,
        migrated=migrated(standing),
        followed=followed(standing, line, passes.get(category.slug)),
        flat=flat,
        held=held.get(category.slug, 0),
    )


def migrated(own: Sequence[model.Run]) -> int:
    """Return how many records a category's runs have written, the newest run first.

    A complete run without a filter has seen every record, so it says it all. Without one the newest run of
    each filter counts, since a repeated one writes the same records again.
    """
    by_filter: dict[str, model.Run] = {}
    for run in own:
        if not run.filter and run.status is model.RunStatus.SUCCEEDED:
            return run.done_records - run.quarantined
        by_filter.setdefault(run.filter, run)
    return sum(run.done_records - run.quarantined for run in by_filter.values())


def followed(own: Sequence[model.Run], line: ModeLine, swept: Sweep | None) -> bool:
    """Whether everything of a category was migrated, and nothing written since can have been missed.

    Before capture was on a write leaves no trace: a run that began earlier counts only once a whole pass after it
    has found nothing.
    """
    whole = [run for run in own if not run.filter and run.status is model.RunStatus.SUCCEEDED]
    if not whole or line.mode == "flat-only":
        return False
    # Past the gate everything is covered, or it would have stayed shut.
    if line.mode == "hierarchical-only" or whole[0].created_at >= line.since:
        return True
    clean = None if swept is None else swept.clean_from
    return clean is not None and clean >= line.since and clean >= (whole[0].finished_at or line.since)


def _schemas(call: Invocation, states: Sequence[SchemaState]) -> None:
    call.console.line("Schemas: " + ", ".join(f"{state.name} {state.word} ({state.current})" for state in states))


def _schema_document(states: Sequence[SchemaState]) -> list[dict[str, object]]:
    return [{"name": state.name, "state": state.word, "current": state.current, "head": state.head} for state in states]


def _table(call: Invocation, standings: Sequence[CategoryStanding]) -> None:
    columns = ["CATEGORY", "LAST RUN", "STATE", "COPIED", "IN FLAT", "DONE", "QUARANTINED"]
    rows = []
    for one in standings:
        total = one.flat.count if one.flat else None
        rows.append(
            [
                one.category.slug,
                one.last.id if one.last else None,
                run_progress.state(one.last) if one.last else "never migrated",
                units.format_count(one.migrated),
                None if one.flat is None else f"{'' if one.flat.exact else '~'}{units.format_count(one.flat.count)}",
                None if not total else units.format_percent(min(one.covered, total), total),
                units.format_count(one.held),
            ]
        )
    call.console.table(columns, rows, numbers=("LAST RUN", "COPIED", "IN FLAT", "DONE", "QUARANTINED"))


def _document(one: CategoryStanding) -> dict[str, object]:
    return {
        "category": one.category.slug,
        "title": one.category.title,
        "last_run": one.last.id if one.last else None,
        "status": str(one.last.status) if one.last else None,
        "migrated": one.migrated,
        "covered": one.covered,
        "flat_records": one.flat.count if one.flat else None,
        "flat_records_exact": one.flat.exact if one.flat else None,
        "quarantined": one.held,
        "finished_at": one.last.finished_at if one.last else None,
    }


def _next_steps(
    call: Invocation, still: Sequence[Problem], standings: Sequence[CategoryStanding], slots: int
) -> list[str]:
    steps = standing_still.commands(still)
    if not slots and call.settings.workers_hint not in steps:
        steps.append(call.settings.workers_hint)
    steps += [f"hal9-migrate quarantine list --category {one.category.slug}" for one in standings if one.held]
    waiting = [one.category.slug for one in standings if one.last is None and one.flat and one.flat.count]
    return steps + [f"hal9-migrate state migrate --category {slug}" for slug in waiting[:1]]
