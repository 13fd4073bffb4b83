"""``hal9-migrate state rollback``: back to a checkpoint."""

from __future__ import annotations

from typing import Any

import click

from hal9mig import errors
from hal9mig.cli import checkpoint_flow, options, restore_flow
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Go back to a checkpoint: both stores, of every category or of some.

It shows first what would be lost, counted, and asks. What is replaced is kept in a safety checkpoint. The
tables are restored beside the live ones and swapped in at one moment; the write mode stays what it is.

\b
Examples:
  hal9-migrate state rollback --to-checkpoint pre-state-migration --dry-run
  hal9-migrate state rollback --to-checkpoint pre-state-migration-20250114-080000 --force
  hal9-migrate state rollback --category neuron-states --to-checkpoint latest --preserve-others
"""


@click.command(help=_HELP)
@click.option(
    "--to-checkpoint", "text", required=True, type=options.CHECKPOINT, metavar="NAME",
    help="Its name, the beginning of it, or latest: the newest verified one from before the present migration.",
)  # fmt: skip
@options.categories
@click.option("--preserve-others", is_flag=True, help="Leave other categories alone; so it is anyway.")
@restore_flow.flags
@click.option("--detach", is_flag=True, help="Print the run's number and return once it has begun.")
@options.yes
@options.output
@pass_call
def rollback(
    call: Invocation,
    /,
    text: str,
    names: tuple[str, ...],
    everything: bool,
    preserve_others: bool,
    **given: Any,
) -> None:
    from hal9mig.engine.checkpoint.orders import Checkpoints

    flags = restore_flow.RestoreFlags(**given)
    flags.check()
    chosen = call.categories(options.chosen(names, everything))
    if preserve_others and len(chosen) == len(call.registry.ordered()):
        raise errors.UsageError(
            "--preserve-others without --category: every category is restored, so there are no others.",
            hint="add --category NAME, or leave --preserve-others out",
        )
    call.system.require_rights("operator")
    checkpoints = Checkpoints(call.system)
    with checkpoint_flow.named(checkpoints, text):
        plan = checkpoints.plan_restore(text, [category.slug for category in chosen])
    restore = restore_flow.Restore(call, checkpoints, plan, flags, verb="Go back to")
    restore.carry_out(lambda: checkpoints.rollback(plan, cancel_runs=flags.force, reason=flags.reason))
