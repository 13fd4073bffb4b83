"""``hal9-migrate neurons validate-connections``: whether units are connected alike in both stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hal9mig import errors
from hal9mig.cli import confirm, connections, options
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.checks.connection_findings import ConnectionFindings
    from hal9mig.checks.orphaned_connections import Mended

_COMMAND = "neurons validate-connections"
_HELP = """Check that units are connected alike in both stores; exit 3 when something differs or is orphaned.

Both servers count and digest the connections, a range of units at a time, and what differs is looked at again, so
that what the application writes meanwhile is no difference. --deep compares type and weight of each connection
too, lists those that differ, and counts the units that no signal reaches from the lowest layer. Self connections
and parallel ones are legal, and what dangles in the store that rules is the application's own: they are counted and
left. A connection to a unit that is not migrated yet is pending. In hierarchical-only the hierarchical store rules.

--fix-orphaned shows what it would do and asks. A unit that the other store has lost is brought again; what is left
of a unit that neither store has goes to quarantine, with its rows. With nothing orphaned it does not ask.

\b
Examples:
  hal9-migrate neurons validate-connections --deep --fix-orphaned
  hal9-migrate neurons validate-connections --deep --fix-orphaned --dry-run
"""


@click.command(name="validate-connections", help=_HELP)
@click.option("--deep", is_flag=True, help="Compare type and weight of each connection, and list what differs.")
@click.option("--fix-orphaned", "fix", is_flag=True, help="Mend orphaned connections, after showing a plan.")
@click.option("--dry-run", is_flag=True, help="With --fix-orphaned: show the plan, and change nothing.")
@options.yes
@options.output
@pass_call
def validate_connections(call: Invocation, deep: bool, fix: bool, dry_run: bool) -> None:
    from hal9mig.checks import orphaned_connections

    if dry_run and not fix:
        raise errors.ConflictingFlags(
            "--dry-run is for --fix-orphaned.", hint="hal9-migrate neurons validate-connections --deep"
        )
    mended: Mended | None = None
    with connections.stores(call) as both:
        found = connections.look(call, both, command=_COMMAND, deep=deep)
        plan = _plan(found) if fix else []
        if plan and not call.json:
            connections.show(call, found)
            call.console.line("plan:")
            for text in plan:
                call.console.line(f"  {text}")
        if plan and not dry_run:
            confirm.ask(call, f"Do this? {' '.join(plan)}")
            mended = orphaned_connections.mend(call.system, both, found)
            found = connections.look(call, both, command=_COMMAND, deep=deep)
    if not call.json and (not plan or mended is not None):
        connections.show(call, found)
    if mended is not None:
        _say(call, mended)
    call.conclude(
        connections.document(found) | {"plan": plan, "mended": None if mended is None else vars(mended)},
        connections.problem(found) or _quarantined(mended),
    )


def _plan(found: ConnectionFindings) -> list[str]:
    plan = []
    if found.lost:
        plan.append(
            f"Bring {counted(len(found.lost), 'unit')} again from the {found.ruling} store, "
            f"to which {counted(found.orphaned, 'orphaned connection')} belong."
        )
    if found.rootless:
        rows, whose = counted(sum(found.rootless.values()), "connection"), counted(len(found.rootless), "unit")
        plan.append(
            f"Move {rows} of {whose} that neither store has from the hierarchical store to quarantine, "
            "where their rows are kept."
        )
    return plan


def _say(call: Invocation, mended: Mended) -> None:
    call.console.say(
        f"{counted(mended.brought, 'unit')} brought again, {mended.quarantined:,} in quarantine, {mended.left:,} left"
        + (f": {mended.reason}" if mended.reason else "")
    )


def _quarantined(mended: Mended | None) -> errors.HAL9Error | None:
    if mended is None or not mended.quarantined:
        return None
    return errors.RecordsQuarantined(
        f"{counted(mended.quarantined, 'unit')} went to quarantine.",
        hint="hal9-migrate quarantine list --category neuron-states",
    )
