"""``hal9-migrate learning import``: files of hierarchical rows into the hierarchical store."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import learning_files, options, run_result, wait
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.engine import run_standing

if TYPE_CHECKING:
    from hal9mig.engine.coordinator import MigratePlan

_HELP = """Write transformed files into the hierarchical store, on the workers: a migration like any other.

The flat store rules: it is asked for the hash of every record, and a file's rows are written where they are still the
record's. What changed since the export, or is new, is read from the flat store, and what was deleted is left out; so
old files cost time and are never wrong, in flat-only and in dual-write mode. In hierarchical-only mode nothing is
imported (exit 4). Every file is read first; a damaged, missing or foreign one is named, and nothing is changed (exit
4). Records that cannot be written end in quarantine (exit 3). Importing again brings the target up to date.

\b
Examples:
  hal9-migrate learning import --input learning-hierarchical/ --system hierarchical --preserve-timestamps
  hal9-migrate learning import --input learning-hierarchical/ --batch-size 10000
"""


@click.command("import", help=_HELP)
@click.option("--input", "source", type=options.PATH, required=True, metavar="DIR", help="A transformed folder.")
@click.option(
    "--system",
    type=options.STORE,
    default="hierarchical",
    show_default=True,
    help="The store to write; hierarchical only.",
)
@click.option(
    "--preserve-timestamps",
    is_flag=True,
    help="Keep recorded_at as it was. It always is: another time would be a difference between the stores.",
)
@click.option("--batch-size", type=options.COUNT_TEXT, help="Records a batch, cut at 32 MB.  [default: as configured]")
@click.option("--dry-run", is_flag=True, help="Check the input, show what would be done, and change nothing.")
@options.detach
@options.run_timeout
@options.output
@pass_call
def import_(
    call: Invocation,
    source: pathlib.Path,
    system: str,
    preserve_timestamps: bool,
    batch_size: str | None,
    dry_run: bool,
    detach: bool,
    timeout: float | None,
) -> None:
    options.check_waiting(dry_run=dry_run, detach=detach, timeout=timeout)
    if system != "hierarchical":
        raise errors.UsageError(
            "Files are imported into the hierarchical store; the flat one is what they were exported from.",
            hint="--system hierarchical",
        )
    from hal9mig.engine.pattern_files.orders import PatternFiles

    files = PatternFiles(call.system)
    tuned = {} if batch_size is None else {"batch-size": batch_size}
    call.console.say(f"checking the files in {source}")
    order, plan = files.plan_import(str(source.absolute()), tuned=tuned)
    if dry_run:
        _show(call, plan)
        return
    run, plan = files.take(order)
    call.console.say(f"{run.name}: {_sentence(plan)}, from {order.folder}")
    call.console.warn(*plan.warnings)
    if detach:
        wait.detached(call, run)
        return
    run = learning_files.waited(call, run, records=plan.records, timeout=timeout)
    problem = run_result.problem(run)
    origins = files.origins(run)
    steps = [f"hal9-migrate state verify --category {run.category}"]
    if run.quarantined:
        steps.insert(0, f"hal9-migrate quarantine list --category {run.category}")
    if not call.json:
        call.console.verdict(run_result.good(run), run_result.summary(run))
        call.console.line(
            f"{counted(origins['from_files'], 'record')} from the files; "
            f"{units.format_count(origins['read_anew'])} new or changed since the export, read from the flat store; "
            "times as they were recorded"
        )
        if problem is None:
            call.console.suggest(steps[0])
    call.conclude({"run": run_standing.document(run), **origins, "next_steps": steps}, problem)


def _show(call: Invocation, plan: MigratePlan) -> None:
    if not call.json:
        call.console.line(f"would import {_sentence(plan)}")
        call.console.warn(*plan.warnings)
        call.console.say("dry run: nothing was changed")
    call.conclude(
        {
            "dry_run": True,
            "records": plan.records,
            "batch_size": plan.batch_size,
            "bytes": plan.records * plan.record_bytes,
            "warnings": list(plan.warnings),
            "next_steps": [],
        }
    )


def _sentence(plan: MigratePlan) -> str:
    text = f"{counted(plan.records, 'record')}, about {units.format_bytes(plan.records * plan.record_bytes)}"
    return text if plan.seconds is None else f"{text}; {units.format_duration(plan.seconds)} at {plan.rate}"
