"""``hal9-migrate learning transform``: files of flat records into files of hierarchical rows."""

from __future__ import annotations

import pathlib

import click

from hal9mig import errors, model
from hal9mig.cli import learning_files, options, run_result, wait
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.engine import run_standing

_HELP = """Turn exported files into files of the hierarchical tables, on the workers.

No store's data is read or changed, whatever the write mode. Every input file is read first and has to be what its
manifest says; a damaged, missing or foreign one is named, and nothing is written (exit 4). Records that cannot be
transformed are counted and named (exit 3); the import puts them in quarantine. The same input into the same output
again changes nothing.

\b
Examples:
  hal9-migrate learning transform --input learning-export/ --output learning-hierarchical/ --validate-schemas
"""


@click.command(help=_HELP)
@click.option("--input", "source", type=options.PATH, required=True, metavar="DIR", help="An exported folder.")
@click.option("--output", type=options.PATH, required=True, metavar="DIR", help="The folder to write.")
@click.option(
    "--validate-schemas", is_flag=True, help="Compare the columns and counts in every file with what is declared first."
)
@click.option("--dry-run", is_flag=True, help="Check the input, show what would be written, and change nothing.")
@options.detach
@options.run_timeout
@options.output
@pass_call
def transform(
    call: Invocation,
    source: pathlib.Path,
    output: pathlib.Path,
    validate_schemas: bool,
    dry_run: bool,
    detach: bool,
    timeout: float | None,
) -> None:
    options.check_waiting(dry_run=dry_run, detach=detach, timeout=timeout)
    from hal9mig.engine.pattern_files.orders import PatternFiles

    files = PatternFiles(call.system)
    call.console.say(f"checking the files in {source}")
    given = str(source.absolute()), str(output.absolute())
    if dry_run:
        learning_files.show_plan(call, files.plan_transform(*given, validate_schemas=validate_schemas), "transform")
        return
    run, plan = files.transform(*given, validate_schemas=validate_schemas)
    refusals: list[tuple[model.Key, str]] = []
    if run is None:
        call.console.say(f"{plan.folder} holds this already, transformed from the same files; nothing was changed")
    else:
        learning_files.announce(call, run, plan)
        if detach:
            wait.detached(call, run)
            return
        run = learning_files.waited(call, run, records=plan.records, timeout=timeout)
        problem = run_result.problem(run)
        if problem is not None:
            call.conclude({"run": run_standing.document(run), "next_steps": []}, problem)
            return
        refusals = files.refusals(run)
    made = plan.folder.require_manifest()
    steps = [learning_files.command("import", output, "--system hierarchical --preserve-timestamps")]
    found = None
    if made.refused:
        found = errors.RecordsQuarantined(
            f"{counted(made.refused, 'record')} cannot be transformed; the import will put them in quarantine.",
            hint=f"go on with the others: {steps[0]}",
        )
    if not call.json:
        if run is not None:
            call.console.verdict(not made.refused, run_result.summary(run))
        call.console.line(learning_files.sentence(made, plan.folder))
        learning_files.table(call, made)
        for key, reason in refusals:
            call.console.say(f"refused: {'/'.join(key)}: {reason}")
        if found is None:
            call.console.suggest(steps[0])
    document: dict[str, object] = {
        "run": None if run is None else run_standing.document(run),
        "folder": learning_files.document(made, plan.folder),
        "refusals": [{"key": list(key), "reason": reason} for key, reason in refusals],
        "next_steps": steps,
    }
    call.conclude(document, found)
