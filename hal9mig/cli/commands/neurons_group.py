"""``hal9-migrate neurons group``: how many units each layer has."""

from __future__ import annotations

import datetime
import pathlib

import click

from hal9mig import errors, units
from hal9mig.cli import options, report_file
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Count the units of each layer, and check that they add up; exit 3 when they do not.

They are counted in one snapshot of the store that rules: the flat one in flat-only and dual-write, the
hierarchical one in hierarchical-only.

\b
Examples:
  hal9-migrate neurons group --by layer --output neuron-groups.json
  hal9-migrate neurons group --by type
"""


@click.command(help=_HELP)
@click.option(
    "--by", type=click.Choice(["layer", "type"]), default="layer", show_default=True, help="What units are grouped by."
)
@click.option(
    "--output",
    "file",
    type=options.FILE,
    metavar="FILE",
    help="Write the groups as JSON; at once or not at all.",
)
@options.output
@pass_call
def group(call: Invocation, by: str, file: pathlib.Path | None) -> None:
    from hal9mig.checks import layers
    from hal9mig.ledger import check_results, database

    if file is not None:
        report_file.require_folder(file, undone="nothing was counted")
    call.system.require_ready()
    found = layers.group(call.system, by=by)
    with call.system.ledger.begin() as session:
        check_results.add(session, layers.outcome(found), command="neurons group", actor=database.actor())
    total = sum(found.groups.values())
    document: dict[str, object] = {
        "kind": "neuron-groups",
        "generated_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "by": by,
        "store": found.store,
        "mode": found.mode,
        "groups": [{by: name, "units": count} for name, count in found.groups.items()],
        "total": total,
        "in_store": found.total,
        "adds_up": found.adds_up,
        "next_steps": ["hal9-migrate state migrate --category neuron-states"] if found.adds_up else [],
    }
    problem = None
    if not found.adds_up:
        problem = errors.DifferencesFound(
            f"The groups hold {counted(total, 'unit')} and the {found.store} store {units.format_count(found.total)}.",
            hint="hal9-migrate db check",
        )
    if file is not None:
        report_file.write(file, {"schema": 1, **document})
        call.console.say(f"written: {file}")
    if not call.json:
        call.console.verdict(
            found.adds_up,
            f"{counted(total, 'unit')} of {units.format_count(found.total)} "
            f"in {counted(len(found.groups), 'group')} by {by}  ({found.store} store, which rules in {found.mode})",
        )
        rows = [
            [name, units.format_count(count), units.format_percent(count, total) if total else None]
            for name, count in found.groups.items()
        ]
        call.console.table([by.upper(), "UNITS", "SHARE"], rows, numbers=("UNITS", "SHARE"))
    call.conclude(document, problem)
