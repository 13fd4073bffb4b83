"""``hal9-migrate learning verify-gradients``: stored gradients, computed again."""

from __future__ import annotations

import functools

import click

from hal9mig.cli import check_table, options
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Compute the gradients of a sample of records again, by central differences of the loss that each names, from
what each store holds; exit 3 where one deviates from what is stored beside it by more than the tolerance.

Records whose loss is not known here are counted, and prove nothing.

\b
Examples:
  hal9-migrate learning verify-gradients --sample-size 1000
  hal9-migrate learning verify-gradients --relative 1e-3 --absolute 1e-4
"""


@click.command("verify-gradients", help=_HELP)
@click.option("--sample-size", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="How many.")
@click.option(
    "--relative", type=options.FiniteRange(0, 1), default=1e-4, show_default=True, help="Share of a gradient."
)
@click.option("--absolute", type=options.FiniteRange(0), default=1e-5, show_default=True, help="And by this much.")
@click.option("--seed", type=options.SEED, default=1, show_default=True, help="Which records.")
@options.output
@pass_call
def verify_gradients(call: Invocation, sample_size: int, relative: float, absolute: float, seed: int) -> None:
    from hal9mig.checks import gradients, single
    from hal9mig.ledger import database

    call.system.require_ready()
    outcome = single.run(
        call.system, "learning-data", functools.partial(gradients.check, relative=relative, absolute=absolute),
        command="learning verify-gradients", actor=database.actor(), sample=sample_size, seed=seed,
    )  # fmt: skip
    check_table.conclude(call, outcome)
