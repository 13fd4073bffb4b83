"""``hal9-migrate state recover``: what is sound of a backup, record by record."""

from __future__ import annotations

import click

from hal9mig.cli import checkpoint as taking
from hal9mig.cli import invocation, options, restoring

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
@click.option("--force", is_flag=True, help="Do not ask, and cancel runs that stand in the way.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the audit.")
@click.option("--no-safety-checkpoint", is_flag=True, help="Do not keep what is replaced.")
@click.option("--dry-run", is_flag=True, help="Show what would be restored and lost, and change nothing.")
@click.option(
    "--timeout", type=options.DURATION,
    help="Stop waiting after this time, with exit code 124; a restore that has begun goes on.",
)  # fmt: skip
@options.yes
@options.output
@click.pass_context
def recover(
    context: click.Context,
    /,
    text: str,
    names: tuple[str, ...],
    everything: bool,
    validate_each: bool,
    quarantine_corrupted: bool,
    force: bool,
    reason: str,
    no_safety_checkpoint: bool,
    dry_run: bool,
    timeout: str | None,
) -> None:
    from hal9mig.engine.checkpoint import naming
    from hal9mig.engine.checkpoint.orders import Checkpoints

    call = invocation.current(context)
    flags = restoring.Flags(
        force=force, reason=reason, no_safety_checkpoint=no_safety_checkpoint, dry_run=dry_run, timeout=timeout
    )
    slugs = [category.slug for category in call.categories(options.chosen(names, everything))]
    checkpoints = Checkpoints(call.system)
    # Of a backup whose manifest is damaged nothing can be trusted, and nothing is recovered.
    with taking.named(checkpoints, text):
        if text == naming.LATEST:
            # A newer one of some category alone, as of neuron states before theirs, is none for all of them.
            fitting = [one for one in checkpoints.listing().manifests if one.covers(slugs)]
            text = naming.for_recovery(fitting, None).name
        plan = checkpoints.plan_restore(text, slugs, recover=True)
    restore = restoring.Restore(call, checkpoints, plan, flags, verb="Recover from")
    restore.carry_out(
        lambda: checkpoints.recover(
            plan, quarantine=quarantine_corrupted, validate_each=validate_each, cancel_runs=force, reason=reason
        )
    )
