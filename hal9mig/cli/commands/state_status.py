"""``hal9-migrate state status``: where everything stands, on one page."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import finished, options, standing_still
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.engine import run_standing

if TYPE_CHECKING:
    from hal9mig.engine.category_standing import CategoryStanding
    from hal9mig.stores.schema import SchemaState

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


@click.command(help=_HELP)
@options.output
@pass_call
def status(call: Invocation) -> None:
    from hal9mig.engine import category_standing, standstill
    from hal9mig.ledger import mode, runs, tuning, workers
    from hal9mig.stores import capture, schema, store_size

    categories = call.registry.ordered()
    states = schema.status(call.settings.require_flat(), call.settings.require_hier())
    behind = [state.name for state in states if state.behind]
    if behind and (ended := call.system.finished(states)) is not None:
        finished.conclude(call, ended)
        return
    if behind:
        if not call.json:
            _schemas(call, states)
        problem = errors.SchemaBehind(f"A database schema is older than this program: {', '.join(behind)}.")
        call.conclude({"schemas": _schema_document(states), "next_steps": ["hal9-migrate db upgrade"]}, problem)
        return
    still = standing_still.look(call)
    with contextlib.closing(call.system.flat()) as flat:
        sizes = store_size.records(flat, categories)
        flat.rollback()
        lags = list(capture.lag(flat).values())
    with contextlib.closing(call.system.hier()) as hier:
        lags += capture.lag(hier).values()
    waiting = sum(one.records for one in lags)
    oldest = max((one.seconds for one in lags), default=0.0)
    with call.ledger.begin() as session:
        line = mode.read(session)
        active = runs.find(session, active=True)
        alive = workers.alive(session)
        tuned = tuning.resolve(session)
        standings = category_standing.read(session, categories, sizes)
    slots = sum(worker.slots for worker in alive if not worker.draining)
    speed = run_standing.migrating(active)
    steps = category_standing.next_steps(call.settings, still, standings, slots)
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
        call.console.suggest(*steps)
    call.conclude(
        {
            "write_mode": line.mode,
            "epoch": line.epoch,
            "switch": None if line.target is None else {"target": line.target, "step": line.step},
            "lag": {"records": waiting, "seconds": round(oldest, 3)},
            "schemas": _schema_document(states),
            "workers": {"alive": len(alive), "slots": slots},
            "budget": {"rate_limit": str(tuned.rate_limit or "off"), "records_per_second": round(speed, 1)},
            "categories": [category_standing.document(standing) for standing in standings],
            "problems": standstill.document(still),
            "next_steps": steps,
        },
        standing_still.problem(still),
    )


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
                run_standing.state(one.last) if one.last else "never migrated",
                units.format_count(one.migrated),
                None if one.flat is None else f"{'' if one.flat.exact else '~'}{units.format_count(one.flat.count)}",
                None if not total else units.format_percent(min(one.covered, total), total),
                units.format_count(one.held),
            ]
        )
    call.console.table(columns, rows, numbers=("LAST RUN", "COPIED", "IN FLAT", "DONE", "QUARANTINED"))
