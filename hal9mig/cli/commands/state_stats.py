"""``hal9-migrate state stats``: rates, queue and resources at this moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import options, run_progress
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.cli.repeat import repeated
from hal9mig.engine import run_standing

if TYPE_CHECKING:
    from hal9mig.ledger.workers import Worker
    from hal9mig.stores.store_size import Activity

_HELP = """Show rates, the queue and what is under way; with --resources workers and databases too.

\b
Examples:
  hal9-migrate state stats --resources
  hal9-migrate state stats --resources --watch
"""


@click.command(help=_HELP)
@click.option("--resources", is_flag=True, help="Memory and processor of each worker, size and activity of databases.")
@options.watch
@options.output
@pass_call
def stats(call: Invocation, resources: bool, watch: float | None) -> None:
    repeated(call, lambda: _show(call, resources=resources), watch)


def _show(call: Invocation, *, resources: bool) -> None:
    from hal9mig.ledger import pace, runs, tuning, workers

    with call.ledger.begin() as session:
        active = runs.find(session, active=True)
        alive = workers.alive(session)
        tuned = tuning.resolve(session)
        felt = pace.read(session)
    depth: int | None = None
    trouble = None
    try:
        depth = call.system.broker.depth()
    except errors.Unreachable as error:
        trouble = error
    leased, queued = sum(run.leased for run in active), sum(run.queued for run in active)
    speed = run_standing.migrating(active)
    used = run_standing.budget_used(tuned.rate_limit, speed)
    slots = sum(worker.slots for worker in alive if not worker.draining)
    databases = _databases(call) if resources else {}
    if not call.json:
        call.console.line(f"Runs: {len(active)} under way; {leased} batches in hand, {queued} queued")
        call.console.line(f"Queue: {'unknown' if depth is None else units.format_count(depth)} messages")
        budget = "no limit" if tuned.rate_limit is None else f"of {tuned.rate_limit}"
        share = "" if used is None else f", {used:.0%} used"
        call.console.line(f"Budget: {units.format_count(round(speed))} records/s now, {budget}{share}")
        call.console.line(f"Workers: {len(alive)} alive, {slots} slots, {leased} busy")
        if not felt.stale:
            call.console.line(
                f"Application: writes {felt.now.write * 1000:.1f} ms ({felt.quiet.write * 1000:.1f} in quiet), reads "
                f"{felt.now.read * 1000:.1f} ms ({felt.quiet.read * 1000:.1f}); what can wait takes {felt.share:.0%}"
            )
        for run in active:
            call.console.line(run_progress.line(run, total=run.total_records, speed=run_standing.rate(run)))
        if resources:
            _tables(call, alive, databases)
        if trouble is not None:
            call.console.warn(trouble.message)
    call.conclude(
        {
            "runs": [run_standing.document(run) for run in active],
            "queue": {"messages": depth, "batches_leased": leased, "batches_queued": queued},
            "budget": {"rate_limit": str(tuned.rate_limit or "off"), "records_per_second": round(speed, 1),
                       "used": None if used is None else round(used, 4)},
            "workers": [dataclasses.asdict(worker) for worker in alive],
            "application": None if felt.stale else dataclasses.asdict(felt),
            "databases": {name: dataclasses.asdict(one) for name, one in databases.items()},
            "next_steps": [] if slots else [call.settings.workers_hint],
        }
    )  # fmt: skip


def _databases(call: Invocation) -> dict[str, Activity]:
    from hal9mig.stores import store_size

    found = {}
    for name, url in (("flat", call.settings.require_flat()), ("hierarchical", call.settings.require_hier())):
        with call.connected(url) as opened:
            found[name] = store_size.activity(opened)
    return found


def _tables(call: Invocation, workers: Sequence[Worker], databases: dict[str, Activity]) -> None:
    call.console.table(
        ["WORKER", "PID", "SLOTS", "MEMORY", "CPU", "STATE", "SEEN", "STARTED"],
        [
            [worker.name, worker.pid, worker.slots, units.format_bytes(worker.memory_bytes),
             f"{worker.cpu_percent:.0f}%",
             "draining" if worker.draining else "alive", call.console.when(worker.seen_at),
             call.console.when(worker.started_at)]
            for worker in workers
        ],
        numbers=("PID", "SLOTS", "MEMORY", "CPU"),
    )  # fmt: skip
    call.console.table(
        ["DATABASE", "SIZE", "CONNECTIONS", "OURS", "ACTIVE", "WAITING", "OLDEST TRANSACTION"],
        [
            [name, units.format_bytes(one.bytes), one.connections, one.ours, one.active, one.waiting,
             units.format_duration(one.oldest_seconds)]
            for name, one in databases.items()
        ],
        numbers=("SIZE", "CONNECTIONS", "OURS", "ACTIVE", "WAITING", "OLDEST TRANSACTION"),
    )  # fmt: skip
