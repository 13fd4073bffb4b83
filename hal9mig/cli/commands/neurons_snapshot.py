"""``hal9-migrate neurons snapshot``: the neuron states of both stores, kept."""

from __future__ import annotations

import click

from hal9mig.cli import checkpoint_flow, options
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Keep the neuron states of both stores as they are now: a full, verified checkpoint of this category.

\b
Examples:
  hal9-migrate neurons snapshot --pre-migration
"""


@click.command(help=_HELP)
@click.option("--pre-migration", is_flag=True, help="Label it as the one from before the migration.")
@click.option("--name", metavar="NAME", help="Its name.  [default: neurons- and the time]")
@click.option("--rate-limit", type=options.RATE, help="Budget of this checkpoint: 20MB/s, 5000/s.  [default: off]")
@click.option("--dry-run", is_flag=True, help="Show what would be kept, and change nothing.")
@options.detach
@options.timeout
@options.output
@pass_call
def snapshot(
    call: Invocation,
    pre_migration: bool,
    name: str | None,
    rate_limit: str | None,
    dry_run: bool,
    detach: bool,
    timeout: float | None,
) -> None:
    from hal9mig.engine.checkpoint.orders import CheckpointOrder

    options.check_waiting(dry_run=dry_run, detach=detach, timeout=timeout)
    label = "pre-migration" if pre_migration else ""
    order = CheckpointOrder(
        name=checkpoint_flow.stamped(f"neurons-{label}".rstrip("-")) if name is None else name,
        description="neuron states" + (" before their migration" if pre_migration else ""),
        full=True,
        verify=True,
        categories=("neuron-states",),
        label=label,
        tuning={} if rate_limit is None else {"rate-limit": rate_limit},
    )
    checkpoint_flow.perform(call, order, dry_run=dry_run, detach=detach, timeout=timeout)
