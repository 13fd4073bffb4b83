"""``hal9-migrate learning export``: learning data of the flat store into files."""

from __future__ import annotations

import pathlib
import shlex

import click

from hal9mig import errors
from hal9mig.cli import learning_files, options, run_result, wait
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.engine import run_standing

_HELP = """Write the learning data of the flat store into Parquet files, on the workers.

Records stay flat. Each file holds a range of keys as of one moment, and manifest.json, written last, the counts and
hashes of all. The application goes on writing; what changes after a file was written, an import notices. In
hierarchical-only mode the flat store follows the other, and may lack its last writes. The folder has to be new or
empty, and the workers have to see it under the same path. A run that was stopped goes on when the command is given
again; of a folder that is finished nothing is changed (exit 4).

\b
Examples:
  hal9-migrate learning export --system flat --format hierarchical --output learning-export/
  hal9-migrate learning export --output /backup/learning --rate-limit 20MB/s --detach
"""


@click.command(help=_HELP)
@click.option("--system", type=options.STORE, default="flat", show_default=True, help="The store to read; flat only.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["hierarchical", "flat"]),
    default="hierarchical",
    show_default=True,
    help="How files lie: in a tree of folders by table and key range, or in one folder.",
)
@click.option("--output", type=options.PATH, required=True, metavar="DIR", help="The folder to write.")
@click.option("--rate-limit", type=options.RATE, help="Budget of this export: 20MB/s, 5000/s.  [default: off]")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and change nothing.")
@options.detach
@options.run_timeout
@options.output
@pass_call
def export(
    call: Invocation,
    system: str,
    layout: str,
    output: pathlib.Path,
    rate_limit: str | None,
    dry_run: bool,
    detach: bool,
    timeout: float | None,
) -> None:
    options.check_waiting(dry_run=dry_run, detach=detach, timeout=timeout)
    if system != "flat":
        raise errors.UsageError(
            "Learning data is exported from the flat store, whose records are what files are transformed from.",
            hint="--system flat; to keep the hierarchical store: hal9-migrate state checkpoint --full-backup "
            "--category learning-data",
        )
    from hal9mig.engine.pattern_files.orders import ExportOrder, PatternFiles

    files = PatternFiles(call.system)
    tuning = {} if rate_limit is None else {"rate-limit": rate_limit}
    order = ExportOrder(folder=str(output.absolute()), layout=layout, tuning=tuning)
    if dry_run:
        learning_files.show_plan(call, files.plan_export(order), "export")
        return
    run, plan = files.export(order)
    learning_files.announce(call, run, plan)
    if detach:
        wait.detached(call, run)
        return
    run = learning_files.waited(call, run, records=plan.records, timeout=timeout)
    problem = run_result.problem(run)
    if problem is not None:
        call.conclude({"run": run_standing.document(run), "next_steps": []}, problem)
        return
    made = plan.folder.require_manifest()
    target = pathlib.Path(f"{str(output).rstrip('/')}-hierarchical")
    steps = [learning_files.command("transform", output, "--output", shlex.quote(str(target)), "--validate-schemas")]
    if not call.json:
        call.console.verdict(True, run_result.summary(run))
        call.console.line(learning_files.sentence(made, plan.folder))
        learning_files.table(call, made)
        call.console.suggest(steps[0])
    call.conclude(
        {
            "run": run_standing.document(run),
            "folder": learning_files.document(made, plan.folder),
            "next_steps": steps,
        }
    )
