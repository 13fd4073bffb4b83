"""``hal9-migrate state recover``: what is sound of a backup, record by record."""

from __future__ import annotations

from typing import Any

import click

from hal9mig.cli import checkpoint_flow, options, restore_flow
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Restore from a backup that may be damaged: what is sound comes back, what is not goes to quarantine.

Every file's hash, every frame's checksum and, with --validate-each, every single record is compared.
Without --quarantine-corrupted it stops at the first damage, and nothing is changed. Records that only one
store's part of the backup has lost are offered from the other: `quarantine retry` takes them.

\b
Examples:
  hal9-migrate state recover --from-backup --validate-each --quarantine-corrupted
  hal9-migrate state recover --from-backup pre-state-migration --category neuron-states --yes
"""


@click.command(help=_HELP)
@click.option(
    "--from-backup", "text", required=True, is_flag=False, flag_value="latest", type=options.CHECKPOINT,
    metavar="[NAME]",
    help="A full checkpoint; without a name the newest verified one that holds what is to be restored.",
)  # fmt: skip
@options.categories
@click.option("--validate-each", is_flag=True, help="Compare every single record with the backup's, once restored.")
@click.option("--quarantine-corrupted", is_flag=True, help="Put what cannot be read into quarantine, and go on.")
@restore_flow.flags
@options.yes
@options.output
@pass_call
def recover(
    call: Invocation,
    /,
    text: str,
    names: tuple[str, ...],
    everything: bool,
    validate_each: bool,
    quarantine_corrupted: bool,
    **given: Any,
) -> None:
    from hal9mig.engine.checkpoint.orders import Checkpoints

    flags = restore_flow.RestoreFlags(**given)
    slugs = [category.slug for category in call.categories(options.chosen(names, everything))]
    checkpoints = Checkpoints(call.system)
    # Of a backup whose manifest is damaged nothing can be trusted, and nothing is recovered.
    with checkpoint_flow.named(checkpoints, text):
        plan = checkpoints.plan_restore(text, slugs, recover=True)
    restore = restore_flow.Restore(call, checkpoints, plan, flags, verb="Recover from")
    restore.carry_out(
        lambda: checkpoints.recover(
            plan,
            quarantine=quarantine_corrupted,
            validate_each=validate_each,
            cancel_runs=flags.force,
            reason=flags.reason,
        )
    )
